//! Two tensors added with factors of their own for each example: noise on clean data, and the way between what networks predict.
//!
//! Law: z[b, …] = a[b]·x[b, …] + c[b]·y[b, …].
//! Source: x_t = α_t·x₀ + σ_t·ε, Ho et al. 2020, eq. 4; v = α_t·ε − σ_t·x₀, Salimans & Ho 2022.
//! One pass: reads two values and writes one for each element. Plain sums have a kernel too, where candle's moves two bytes
//! at a time.

mod device;

use crate::view::{Route, View, route, tensor, written};
use candle_core::{Device, Result, Tensor, WithDType, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Elements that one task takes.
const CHUNK: usize = 1 << 14;

/// `x` and `y` [batch, …], `a` and `c` one factor for each example.
///
/// # Errors
/// When shapes differ, or there is not one factor for each example.
pub fn combine(x: &Tensor, a: &[f64], y: &Tensor, c: &[f64]) -> Result<Tensor> {
    let batch = x.dims().first().copied().unwrap_or(0);
    if x.dims() != y.dims() || a.len() != batch || c.len() != batch {
        bail!(
            "combine: x is {:?} with {} factors, y {:?} with {}",
            x.dims(),
            a.len(),
            y.dims(),
            c.len()
        );
    }
    match route("combine", &[x, y])? {
        Route::Composed => composed(x, a, y, c),
        Route::Cuda => device::combine(&x.contiguous()?, a, &y.contiguous()?, c),
        way => {
            let (x, y) = (x.contiguous()?, y.contiguous()?);
            let views = (View::of("combine x", &x)?, View::of("combine y", &y)?);
            match way {
                Route::Fast => {
                    let narrow = |factors: &[f64]| factors.iter().map(|&f| f as f32).collect();
                    let (a, c): (Vec<f32>, Vec<f32>) = (narrow(a), narrow(c));
                    tensor(added(views.0.f32()?, &a, views.1.f32()?, &c), x.dims())
                }
                _ => tensor(added(views.0.f64()?, a, views.1.f64()?, c), x.dims()),
            }
        }
    }
}

/// x + y, of one shape.
///
/// # Errors
/// When the shapes differ.
pub fn sum(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let is_dense = x.is_contiguous() && y.is_contiguous();
    if x.dims() == y.dims() && is_dense && route("sum", &[x, y])? == Route::Cuda {
        return device::sum(x, y);
    }
    x + y
}

fn added<T: WithDType>(x: &[T], a: &[T], y: &[T], c: &[T]) -> Vec<T> {
    let each = x.len() / a.len().max(1);
    let of_example = |(b, z): (usize, &mut [MaybeUninit<T>])| {
        let (x, y) = (&x[b * each..][..each], &y[b * each..][..each]);
        let parts = z.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)));
        parts.for_each(|(z, (x, y))| {
            for (z, (x, y)) in z.iter_mut().zip(x.iter().zip(y)) {
                z.write(a[b] * *x + c[b] * *y);
            }
        });
    };
    let examples = |z: &mut [MaybeUninit<T>]| {
        z.par_chunks_mut(each.max(1)).enumerate().for_each(of_example);
    };
    // SAFETY: x and y are as many examples as there are factors, and each number of one is written.
    unsafe { written(x.len(), examples) }
}

/// candle's own way.
fn composed(x: &Tensor, a: &[f64], y: &Tensor, c: &[f64]) -> Result<Tensor> {
    let shaped = |factors: &[f64]| {
        let mut shape = vec![1; x.rank()];
        shape[0] = factors.len();
        let wide = Tensor::from_slice(factors, shape, &Device::Cpu)?;
        wide.to_dtype(x.dtype())?.to_device(x.device())
    };
    x.broadcast_mul(&shaped(a)?)? + y.broadcast_mul(&shaped(c)?)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, f32, filled};
    use candle_core::DType;

    #[test]
    fn all_voices_say_the_same() {
        for shape in [vec![1], vec![3, 1], vec![2, 33, 31], vec![5, 3, 1, 127], vec![2, 40_000]] {
            let (x, y) = (filled(&shape, 1), filled(&shape, 2));
            let of = |salt| filled(&[shape[0]], salt).to_vec1::<f64>().unwrap();
            let (a, c) = (of(3), of(4));
            let exact = composed(&x, &a, &y, &c).unwrap();
            assert!(distance(&combine(&x, &a, &y, &c).unwrap(), &exact) <= 1e-15);
            assert!(distance(&combine(&f32(&x), &a, &f32(&y), &c).unwrap(), &exact) <= 2e-7);
            let half = |t: &Tensor| t.to_dtype(DType::BF16).unwrap();
            assert!(distance(&combine(&half(&x), &a, &half(&y), &c).unwrap(), &exact) <= 2e-2);
        }
        let (x, y) = (filled(&[4, 6], 1), filled(&[6, 4], 2).t().unwrap());
        let found = combine(&x, &[1., 2., 3., 4.], &y, &[0.; 4]).unwrap();
        assert!(
            distance(&found.narrow(0, 3, 1).unwrap(), &(&x * 4.).unwrap().narrow(0, 3, 1).unwrap())
                <= 1e-15
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nan_stays() {
        let x = filled(&[2, 3], 1);
        assert!(combine(&x, &[1.], &x, &[1., 1.]).is_err());
        assert!(combine(&x, &[1., 1.], &filled(&[3, 2], 1), &[1., 1.]).is_err());
        let poisoned = combine(&(&x * f64::NAN).unwrap(), &[0., 0.], &x, &[1., 1.]).unwrap();
        let values: Vec<f64> = poisoned.flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.iter().all(|z| z.is_nan()));
    }
}
