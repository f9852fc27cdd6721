//! Moving averages in place, and the norm that clips a gradient.
//!
//! Law: a ← a + w · (s·x − a): the exponential moving average of s·x with decay 1 − w.
//! One pass: reads two values and writes one for each element.

mod device;

use crate::in_place::{Number, shared, write};
use crate::simd::{MulAdd, multiversion};
use crate::view::{Route, View, route};
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

/// average ← average + weight · (scale · x − average), in place.
///
/// # Errors
/// When shapes or dtypes differ, or a tensor is not contiguous.
pub fn lerp(average: &Tensor, x: &Tensor, weight: f64, scale: f64) -> Result<()> {
    if average.dims() != x.dims() {
        bail!("moving average: the average is {:?}, the new value {:?}", average.dims(), x.dims());
    }
    let route = route("moving average", &[average, x])?;
    match route {
        Route::Cuda => return device::lerp(average, x, weight, scale),
        Route::Composed => {
            let moved = ((average * (1. - weight))? + (x * (weight * scale))?)?;
            return average.slice_set(&moved, 0, 0);
        }
        Route::Fast | Route::Reference => {}
    }
    if shared(average, x) {
        bail!("moving average: the new value lies in the storage of the average");
    }
    let x = View::of("moving average", x)?;
    if route == Route::Fast {
        let (x, weight, scale) = (x.f32()?, weight as f32, scale as f32);
        return moved(average, x, |a, x| *a += weight * (scale * x - *a));
    }
    moved(average, x.f64()?, |a, x| *a += weight * (scale * x - *a))
}

/// `f` of each number of `average` and the one of `x` at its place.
fn moved<T: Number>(average: &Tensor, x: &[T], f: impl Fn(&mut T, T) + Sync) -> Result<()> {
    const CHUNK: usize = 1 << 15;
    write("moving average", &[average], |held: Vec<&mut [T]>| {
        for a in held {
            a.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(a, x)| {
                a.iter_mut().zip(x).for_each(|(a, x)| f(a, *x));
            });
        }
    })
}

/// √Σ x², summed in 64 bits in an order that does not depend on the number of threads.
///
/// # Errors
/// When `x` is not contiguous.
pub fn norm(x: &Tensor) -> Result<f64> {
    const CHUNK: usize = 1 << 14;
    let route = route("norm", &[x])?;
    if route == Route::Cuda {
        return device::norm(x);
    }
    if route == Route::Composed {
        return Ok(x.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt().into());
    }
    let x = View::of("norm", x)?;
    let of_chunk = |x: &[f32]| {
        let mut total = 0.;
        squares(x, &mut total);
        total
    };
    let sums: Vec<f64> = match route {
        Route::Fast => x.f32()?.par_chunks(CHUNK).map(of_chunk).collect(),
        _ => x.f64()?.par_chunks(CHUNK).map(|x| x.iter().map(|x| x * x).sum()).collect(),
    };
    Ok(sums.iter().sum::<f64>().sqrt())
}

multiversion! {
    /// Σ x² into `total`, in sums side by side, as many whatever the vectors of the processor.
    fn squares(x: &[f32], total: &mut f64) = squares_body;
}

#[inline(always)]
fn squares_body<M: MulAdd, const L: usize>(x: &[f32], total: &mut f64) {
    let mut sums = [0f64; 32];
    let (rows, rest) = x.as_chunks::<32>();
    for row in rows {
        for l in 0..32 {
            sums[l] += f64::from(row[l]) * f64::from(row[l]);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*x) * f64::from(*x);
    }
    *total = sums.iter().sum();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, f32, filled};

    #[test]
    fn the_average_forgets_by_its_weight() {
        let (start, x) = (filled(&[40_000], 1), filled(&[40_000], 2));
        let expected = ((&start * 0.25).unwrap() + (&x * (0.75 * 3.)).unwrap()).unwrap();
        for (narrow, tolerance) in [(false, 1e-15), (true, 1e-6)] {
            let cast = |t: &Tensor| if narrow { f32(t) } else { t.copy().unwrap() };
            let average = cast(&start);
            lerp(&average, &cast(&x), 0.75, 3.).unwrap();
            assert!(distance(&average, &expected) <= tolerance);
        }
        assert!(lerp(&start, &filled(&[3], 1), 0.5, 1.).is_err());
    }

    #[test]
    fn the_norm_is_euclidean() {
        let x = filled(&[123, 457], 3);
        let exact = x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        assert!((norm(&x).unwrap() - exact).abs() <= 1e-12 * exact);
        assert!((norm(&f32(&x)).unwrap() - exact).abs() <= 1e-7 * exact);
        assert!(norm(&(f32(&x) * f64::NAN).unwrap()).unwrap().is_nan());
    }
}
