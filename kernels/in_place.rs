//! Writing tensors in host memory in place, several at once.

use crate::view::View;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};
use std::cell::RefCell;

/// What can be written in place.
pub(crate) trait Number: Copy + Send + Sync {
    /// The storage's numbers, if they are of this kind.
    fn of(storage: &mut CpuStorage) -> Option<&mut [Self]>;

    /// The view's numbers, to be read.
    fn read<'a>(view: &'a View<'_>) -> Result<&'a [Self]>;
}

impl Number for f32 {
    fn of(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }

    fn read<'a>(view: &'a View<'_>) -> Result<&'a [Self]> {
        view.f32()
    }
}

impl Number for f64 {
    fn of(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(values) = storage { Some(values) } else { None }
    }

    fn read<'a>(view: &'a View<'_>) -> Result<&'a [Self]> {
        view.f64()
    }
}

/// `f` of the elements of `tensors`, in their order, all locked for writing meanwhile.
///
/// # Errors
/// When a tensor is not contiguous, not in host memory, of other numbers, or shares its storage with another.
pub(crate) fn write<T: Number>(
    name: &'static str,
    tensors: &[&Tensor],
    mut f: impl FnMut(Vec<&mut [T]>),
) -> Result<()> {
    for (k, tensor) in tensors.iter().enumerate() {
        if tensors[..k].iter().any(|other| shared(tensor, other)) {
            bail!("{name}: two of the tensors that are written lie in one storage");
        }
    }
    hold(name, tensors, Vec::new(), &mut f)
}

/// Whether both lie in one storage: a lock on it could not be taken twice.
pub(crate) fn shared(a: &Tensor, b: &Tensor) -> bool {
    let (a, b) = (a.storage_and_layout().0, b.storage_and_layout().0);
    std::ptr::eq(&raw const *a, &raw const *b)
}

type Work<'f, T> = &'f mut dyn FnMut(Vec<&mut [T]>);

/// Locks `tensors` one within the other: candle hands out one storage to write at a time.
fn hold<T: Number>(
    name: &'static str,
    tensors: &[&Tensor],
    held: Vec<&mut [T]>,
    f: Work<T>,
) -> Result<()> {
    let Some((first, rest)) = tensors.split_first() else {
        f(held);
        return Ok(());
    };
    first.inplace_op1(&Held { name, rest, held: RefCell::new(held), f: RefCell::new(f) })
}

struct Held<'a, 'f, T> {
    name: &'static str,
    rest: &'a [&'a Tensor],
    held: RefCell<Vec<&'a mut [T]>>,
    f: RefCell<Work<'f, T>>,
}

impl<T: Number> InplaceOp1 for Held<'_, '_, T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{}: expected a contiguous tensor, got strides {:?}", self.name, layout.stride());
        };
        let dtype = candle_core::backend::BackendStorage::dtype(storage);
        let Some(values) = T::of(storage) else {
            bail!("{}: expected numbers of one kind, got {dtype:?} among others", self.name);
        };
        let mut held: Vec<&mut [T]> = self.held.take();
        held.push(&mut values[start..end]);
        hold(self.name, self.rest, held, *self.f.borrow_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn several_are_written_and_one_storage_is_not_locked_twice() {
        let zeros = || Tensor::zeros(6, DType::F32, &Device::Cpu).unwrap();
        let (a, b) = (zeros(), zeros());
        let part = b.narrow(0, 2, 3).unwrap();
        let fill = |held: Vec<&mut [f32]>| {
            for (k, values) in held.into_iter().enumerate() {
                values.fill(k as f32 + 1.);
            }
        };
        write("fill", &[&a, &part], fill).unwrap();
        assert_eq!(a.to_vec1::<f32>().unwrap(), [1.; 6]);
        assert_eq!(b.to_vec1::<f32>().unwrap(), [0., 0., 2., 2., 2., 0.]);
        let refused = write("fill", &[&a, &b, &part], fill).unwrap_err().to_string();
        assert!(refused.contains("one storage"), "{refused}");
        let refused = write::<f64>("fill", &[&a], |_| {}).unwrap_err().to_string();
        assert!(refused.contains("F32"), "{refused}");
    }
}
