//! The launches of the tests where there is no device: the same kernels, compiled for the processor (emulated.cpp).

use super::product::{Matrix, Product};
use super::{Grid, offset};
use candle_core::{
    CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Result, Storage, Tensor, bail,
};
use std::cell::Cell;
use std::ffi::{CString, c_char, c_int};
use std::sync::{Mutex, PoisonError};

unsafe extern "C" {
    fn lethe_emulated_launch(
        name: *const c_char,
        kinds: *const c_char,
        grid: *const u32,
        order: u32,
        words: *const u64,
    ) -> c_int;
}

/// In which order a block's threads run between two barriers; what they compute must not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "tests alone choose another"))]
pub(crate) enum Order {
    /// From the first to the last.
    #[default]
    Forward,
    /// From the last to the first, blocks as well.
    Backward,
    /// Scattered.
    Scattered,
}

thread_local! {
    static ORDER: Cell<Order> = const { Cell::new(Order::Forward) };
}

/// What `f` gives where threads run in `order`.
#[cfg(test)]
pub(crate) fn in_order<T>(order: Order, f: impl FnOnce() -> T) -> T {
    let before = ORDER.replace(order);
    let result = f();
    ORDER.set(before);
    result
}

/// The emulated device runs one launch at a time.
static DEVICE: Mutex<()> = Mutex::new(());

pub(super) fn launch(function: &str, grid: Grid, words: &[u64], kinds: &str) -> Result<()> {
    let expected = "no NUL in the name of a kernel";
    let (name, letters) =
        (CString::new(function).expect(expected), CString::new(kinds).expect(expected));
    let [x, y] = grid.blocks.map(|n| n as u32);
    let grid = [x, y, grid.threads as u32];
    let order = ORDER.get() as u32;
    let guard = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the device is ours while the guard lives; the kernel reads the words by the kinds it was asked for, and
    // the tensors behind the addresses are alive.
    let answer = unsafe {
        lethe_emulated_launch(name.as_ptr(), letters.as_ptr(), grid.as_ptr(), order, words.as_ptr())
    };
    drop(guard);
    match answer {
        0 => Ok(()),
        1 => bail!("{function}: there is no such kernel"),
        _ => bail!("{function}: its parameters are not of the kinds {kinds}"),
    }
}

/// Reads out where a tensor's storage begins, with the right to write.
struct Begin<'a>(&'a Cell<u64>);

impl InplaceOp1 for Begin<'_> {
    fn name(&self) -> &'static str {
        "address"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        self.0.set(match storage {
            CpuStorage::F32(values) => values.as_mut_ptr() as u64,
            CpuStorage::BF16(values) => values.as_mut_ptr() as u64,
            CpuStorage::F64(values) => values.as_mut_ptr() as u64,
            CpuStorage::U32(values) => values.as_mut_ptr() as u64,
            _ => bail!("emulated kernels: expected f32, bf16, f64 or u32"),
        });
        Ok(())
    }

    fn cuda_fwd(&self, _: &mut CudaStorage, _: &Layout) -> Result<()> {
        bail!("emulated kernels: expected a tensor in host memory")
    }
}

/// Where `tensor` begins in memory.
pub(super) fn address(tensor: &Tensor, writes: bool) -> Result<u64> {
    let start = (offset(tensor)? * tensor.dtype().size_in_bytes()) as u64;
    if writes {
        let begin = Cell::new(0);
        tensor.inplace_op1(&Begin(&begin))?;
        return Ok(begin.get() + start);
    }
    let (storage, _) = tensor.storage_and_layout();
    let begin = match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => values.as_ptr() as u64,
        Storage::Cpu(CpuStorage::BF16(values)) => values.as_ptr() as u64,
        Storage::Cpu(CpuStorage::F64(values)) => values.as_ptr() as u64,
        Storage::Cpu(CpuStorage::U32(values)) => values.as_ptr() as u64,
        _ => bail!("emulated kernels: expected f32, bf16, f64 or u32, got {:?}", tensor.dtype()),
    };
    Ok(begin + start)
}

/// All of a tensor's storage from its first element on, in 32 bits.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
}

/// Eleven bits of each value, as a TF32 product reads them.
fn shortened(mut values: Vec<f32>) -> Vec<f32> {
    values.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_e000));
    values
}

/// The product as cuBLAS takes it, but with exact sums: the result rounded once.
pub(super) fn multiply(product: &Product) -> Result<()> {
    let [m, n, depth] = product.sizes;
    let (mut to, mut a, mut b) =
        (values(product.to.tensor)?, values(product.a.tensor)?, values(product.b.tensor)?);
    if product.is_short && product.a.tensor.dtype() == DType::F32 {
        (a, b) = (shortened(a), shortened(b));
    }
    let strides = |matrix: &Matrix| match matrix.is_transposed {
        false => (matrix.row, 1),
        true => (1, matrix.row),
    };
    for k in 0..product.count {
        let start = |matrix: &Matrix| matrix.start + k * matrix.step;
        let (to_start, a_start, b_start) =
            (start(&product.to), start(&product.a), start(&product.b));
        let ((a_row, a_column), (b_row, b_column)) = (strides(&product.a), strides(&product.b));
        for i in 0..m {
            for j in 0..n {
                let term = |l: usize| {
                    f64::from(a[a_start + i * a_row + l * a_column])
                        * f64::from(b[b_start + l * b_row + j * b_column])
                };
                let sum: f64 = (0..depth).map(term).sum();
                let at = to_start + i * product.to.row + j;
                // What is there is not read where nothing of it is kept: it may be anything.
                let kept = if product.keep == 0. { 0. } else { product.keep * f64::from(to[at]) };
                to[at] = (product.scale * sum + kept) as f32;
            }
        }
    }
    let to = Tensor::from_vec(to, product.to.tensor.shape(), product.to.tensor.device())?;
    let to = to.to_dtype(product.to.tensor.dtype())?;
    copy(product.to.tensor, &to)
}

/// Writes `from` over `to`.
fn copy(to: &Tensor, from: &Tensor) -> Result<()> {
    let bytes = to.elem_count() * to.dtype().size_in_bytes();
    let (to, from) = (address(to, true)?, address(from, false)?);
    // SAFETY: both are contiguous, of one shape and dtype, and two storages.
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
    Ok(())
}
