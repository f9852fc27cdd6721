//! Reading and making tensors in host memory without copies.

use candle_core::{CpuStorage, DType, Device, Result, Storage, StorageRef, Tensor, bail};
use std::mem::MaybeUninit;
use std::ops::Range;

/// A contiguous tensor's elements in host memory, read-locked while the view lives.
pub(crate) struct View<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> View<'a> {
    /// # Errors
    /// When `tensor` is not contiguous or not in host memory; `name` says which operand it is.
    pub(crate) fn of(name: &str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{name}: expected a contiguous tensor, got strides {:?}", layout.stride());
        };
        Ok(Self { storage, range: start..end })
    }

    pub(crate) fn f32(&self) -> Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => Ok(&values[self.range.clone()]),
            other => bail!(
                "expected f32 in host memory, got {:?} on {:?}",
                other.dtype(),
                other.device().location()
            ),
        }
    }

    pub(crate) fn f64(&self) -> Result<&[f64]> {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F64(values)) => Ok(&values[self.range.clone()]),
            other => bail!(
                "expected f64 in host memory, got {:?} on {:?}",
                other.dtype(),
                other.device().location()
            ),
        }
    }
}

/// A tensor in host memory that takes over `values`.
pub(crate) fn tensor<T: candle_core::WithDType>(values: Vec<T>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// `n` numbers as `write` leaves them; to clear them first would be a pass through memory more, by one thread.
///
/// # Safety
/// `write` writes every number of what it is given.
pub(crate) unsafe fn written<T: Copy>(
    n: usize,
    write: impl FnOnce(&mut [MaybeUninit<T>]),
) -> Vec<T> {
    let mut values = Vec::with_capacity(n);
    write(&mut values.spare_capacity_mut()[..n]);
    // SAFETY: there is room for n, and the caller promises that all were written.
    unsafe { values.set_len(n) };
    values
}

/// Copies `from` to `to`, which is as long.
pub(crate) fn copied<T: Copy>(to: &mut [MaybeUninit<T>], from: &[T]) {
    for (to, &from) in to.iter_mut().zip(from) {
        to.write(from);
    }
}

/// `f` of the operands in 32 bits where they are halves, and its result as they are: sums of many halves lose all digits.
pub(crate) fn in_full(
    operands: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Tensor> {
    let dtype = operands[0].dtype();
    f(&operands.iter().map(|t| full(t)).collect::<Result<Vec<_>>>()?)?.to_dtype(dtype)
}

/// `t` in 32 bits where candle has no product of it: halves in host memory; else as it is.
pub(crate) fn factor(t: &Tensor) -> Result<Tensor> {
    if t.device().is_cpu() { full(t) } else { Ok(t.clone()) }
}

/// `t` in 32 bits where it is of halves, else as it is.
pub(crate) fn full(t: &Tensor) -> Result<Tensor> {
    match t.dtype() {
        DType::F16 | DType::BF16 => t.to_dtype(DType::F32),
        _ => Ok(t.clone()),
    }
}

/// Where an operation runs, decided by its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Our kernels: 32-bit floats in host memory.
    Fast,
    /// The slow loops that define the law: 64-bit floats in host memory.
    Reference,
    /// Our kernels on a CUDA device: 32-bit floats and bfloat16.
    Cuda,
    /// candle's own operations: everything else.
    Composed,
}

/// # Errors
/// When the operands differ in dtype or device.
pub(crate) fn route(name: &str, operands: &[&Tensor]) -> Result<Route> {
    let first = operands[0];
    for other in operands {
        if other.dtype() != first.dtype() || other.device().location() != first.device().location()
        {
            bail!(
                "{name}: operands differ: {:?} on {:?} and {:?} on {:?}",
                first.dtype(),
                first.device().location(),
                other.dtype(),
                other.device().location()
            );
        }
    }
    Ok(match (first.device(), first.dtype()) {
        (Device::Cpu, DType::F32) => Route::Fast,
        (Device::Cpu, DType::F64) => Route::Reference,
        #[cfg(feature = "cuda")]
        (Device::Cuda(_), DType::F32 | DType::BF16) => Route::Cuda,
        _ => Route::Composed,
    })
}
