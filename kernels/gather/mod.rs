//! Tensors gathered into one: each widened, and laid at its place.
//!
//! Law: y[s_k + i] = x_k[i] for the k-th part, which begins at s_k; 0 between the parts.
//! One pass: each number is read once and written once, in the type of y.

mod device;

use crate::view::{Route, route};
use candle_core::{DType, Device, Result, Tensor, bail};

/// `parts` in one tensor of `n` numbers of `dtype`: where each begins, and what it is.
///
/// A part is let go of as soon as it lies at its place, so that they are not all there twice.
///
/// # Errors
/// When a part does not lie within the `n`, or the device refuses.
pub fn gather(
    parts: impl IntoIterator<Item = (usize, Tensor)>,
    n: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let y = Tensor::zeros(n, dtype, device)?;
    for (start, part) in parts {
        lay(&y, start, &part)?;
    }
    Ok(y)
}

/// y[start..] ← x.
fn lay(y: &Tensor, start: usize, x: &Tensor) -> Result<()> {
    let (all, count) = (y.elem_count(), x.elem_count());
    if start.checked_add(count).is_none_or(|end| end > all) {
        bail!("gather: {count} numbers from place {start} on do not lie within {all}");
    }
    if count == 0 {
        return Ok(());
    }
    if y.dtype() == DType::F32 && route("gather", &[x])? == Route::Cuda {
        return device::lay(y, start, &x.contiguous()?);
    }
    y.slice_set(&x.flatten_all()?.to_dtype(y.dtype())?.contiguous()?, 0, start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::filled;

    #[test]
    fn parts_lie_at_their_places_and_zeros_between_them() {
        for dtype in [DType::F32, DType::F64] {
            let (a, b) = (filled(&[2, 3], 1), filled(&[5, 2], 2).t().unwrap());
            let parts = [(1, a.clone()), (8, b.to_dtype(DType::BF16).unwrap())];
            let y = gather(parts, 20, dtype, &Device::Cpu).unwrap();
            let y = y.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            let a = a.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let b = b.contiguous().unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let near =
                |a: &[f64], b: &[f64], off| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= off);
            assert!(near(&y[1..7], &a, 1e-7) && near(&y[8..18], &b, 5e-3));
            assert!([0, 7, 18, 19].iter().all(|&i| y[i] == 0.));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for start in [3, usize::MAX] {
            let parts = [(start, filled(&[2], 1))];
            let error = gather(parts, 4, DType::F32, &Device::Cpu).unwrap_err().to_string();
            assert!(error.contains("2 numbers") && error.contains("within 4"), "{error}");
        }
    }
}
