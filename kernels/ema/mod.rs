//! Moving averages in place, and the norm that clips a gradient.
//!
//! Law: a ← a + w · (s·x − a): the exponential moving average of s·x with decay 1 − w.
//! One pass: reads two values and writes one for each element.

mod device;

use crate::adamw::{range, update};
use crate::view::{Route, View, route};
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, bail};
use rayon::prelude::*;

struct Lerp {
    weight: f64,
    scale: f64,
}

impl InplaceOp2 for Lerp {
    fn name(&self) -> &'static str {
        "moving average"
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let (to, from) = (range(layout)?, range(x_layout)?);
        match (a, x) {
            (CpuStorage::F32(a), CpuStorage::F32(x)) => {
                let (weight, scale) = (self.weight as f32, self.scale as f32);
                update(&mut a[to], |at, a| {
                    for (a, x) in a.iter_mut().zip(&x[from.clone()][at..]) {
                        *a += weight * (scale * x - *a);
                    }
                });
            }
            (CpuStorage::F64(a), CpuStorage::F64(x)) => {
                for (a, x) in a[to].iter_mut().zip(&x[from]) {
                    *a += self.weight * (self.scale * x - *a);
                }
            }
            _ => bail!("moving average: expected f32 or f64 on both sides"),
        }
        Ok(())
    }
}

/// average ← average + weight · (scale · x − average), in place.
///
/// # Errors
/// When shapes or dtypes differ, or a tensor is not contiguous.
pub fn lerp(average: &Tensor, x: &Tensor, weight: f64, scale: f64) -> Result<()> {
    if average.dims() != x.dims() {
        bail!("moving average: the average is {:?}, the new value {:?}", average.dims(), x.dims());
    }
    if route("moving average", &[average, x])? == Route::Cuda {
        return device::lerp(average, x, weight, scale);
    }
    if average.device().is_cpu() {
        return average.inplace_op2(x, &Lerp { weight, scale });
    }
    let moved = ((average * (1. - weight))? + (x * (weight * scale))?)?;
    average.slice_set(&moved, 0, 0)
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
    let sums: Vec<f64> = match route {
        Route::Fast => {
            let square = |x: &f32| f64::from(*x) * f64::from(*x);
            x.f32()?.par_chunks(CHUNK).map(|x| x.iter().map(square).sum()).collect()
        }
        _ => x.f64()?.par_chunks(CHUNK).map(|x| x.iter().map(|x| x * x).sum()).collect(),
    };
    Ok(sums.iter().sum::<f64>().sqrt())
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
