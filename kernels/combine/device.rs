//! The law on a device.

use crate::gpu::rows::{pack_of_all, wide};
use crate::gpu::{Argument::*, Grid, Source, fresh, launch, source};
use candle_core::{Result, Tensor};

const KERNEL: Source = source!("combine");

pub(super) fn combine(x: &Tensor, a: &[f64], y: &Tensor, c: &[f64]) -> Result<Tensor> {
    let n = x.elem_count();
    let z = fresh(x.dims(), x.dtype(), x.device())?;
    let pairs: Vec<f32> = a.iter().zip(c).flat_map(|(&a, &c)| [a as f32, c as f32]).collect();
    let factors = Tensor::from_vec(pairs, (a.len(), 2), x.device())?;
    let each = Length(n / a.len().max(1));
    let arguments = [Read(x), Read(y), Read(&factors), Write(&z), Length(n), each];
    launch(&KERNEL, "add", x.dtype(), Grid::of_elements(n), &arguments)?;
    Ok(z)
}

pub(super) fn sum(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let z = fresh(x.dims(), x.dtype(), x.device())?;
    let (n, pack) = (x.elem_count(), pack_of_all(&[x, y]));
    let arguments = [Read(x), Read(y), Write(&z), Length(n)];
    let grid = Grid::of_elements(n.div_ceil(pack));
    launch(&KERNEL, &wide("sum", pack), x.dtype(), grid, &arguments)?;
    Ok(z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, TYPES, distance, filled, on_devices, same_in_any_order, there};

    #[test]
    fn the_sum_is_the_reference() {
        on_devices(|device| {
            for (n, (dtype, tolerance)) in
                SIZES.into_iter().flat_map(|n| TYPES.map(|of_type| (n, of_type)))
            {
                let (x, x64) = there(&filled(&[3, n], 1), dtype, device);
                let (y, y64) = there(&filled(&[3, n], 2), dtype, device);
                let (a, c) = ([0.5, -2., 0.], [0.25, 1., 3.]);
                let found = combine(&x, &a, &y, &c).unwrap();
                let exact = crate::combine::combine(&x64, &a, &y64, &c).unwrap();
                assert!(distance(&found, &exact) <= tolerance, "{n} {dtype:?}");
                same_in_any_order(|| vec![combine(&x, &a, &y, &c).unwrap()]);
                let exact = (&x64 + &y64).unwrap();
                assert!(distance(&sum(&x, &y).unwrap(), &exact) <= tolerance, "{n} {dtype:?}");
            }
        });
    }
}
