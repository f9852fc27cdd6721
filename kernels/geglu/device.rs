//! The law on a device: a launch each way.

use crate::gpu::rows::{pack, wide};
use crate::gpu::{Argument::*, Grid, Source, dense, fresh, launch, source};
use candle_core::{Result, Tensor};

const KERNEL: Source = source!("geglu");

pub(super) fn forward(x: &Tensor, shape: &[usize], n: usize) -> Result<Tensor> {
    dense("geglu x", x)?;
    let y = fresh(shape, x.dtype(), x.device())?;
    let all = y.elem_count();
    let pack = pack(&[x], n);
    let arguments = [Read(x), Write(&y), Count(all), Count(n)];
    launch(&KERNEL, &wide("forward", pack), x.dtype(), Grid::of_elements(all / pack), &arguments)?;
    Ok(y)
}

pub(super) fn gradient(dy: &Tensor, x: &Tensor, n: usize) -> Result<Tensor> {
    dense("geglu x", x)?;
    dense("geglu dy", dy)?;
    let dx = fresh(x.dims(), x.dtype(), x.device())?;
    let all = dy.elem_count();
    let pack = pack(&[dy, x], n);
    let arguments = [Read(dy), Read(x), Write(&dx), Count(all), Count(n)];
    launch(&KERNEL, &wide("gradient", pack), x.dtype(), Grid::of_elements(all / pack), &arguments)?;
    Ok(dx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, TYPES, distance, filled, on_devices, there};

    #[test]
    fn both_ways_are_the_reference() {
        on_devices(|device| {
            for n in SIZES.into_iter().chain([8, 40]) {
                for (dtype, tolerance) in TYPES {
                    let (x, exact_x) =
                        there(&(filled(&[3, 2 * n], 1) * 4.).unwrap(), dtype, device);
                    let (dy, exact_dy) = there(&filled(&[3, n], 2), dtype, device);
                    let y = forward(&x, &[3, n], n).unwrap();
                    let exact = crate::geglu::forward(&exact_x).unwrap();
                    assert!(distance(&y, &exact) <= tolerance, "{n} {}", distance(&y, &exact));
                    let dx = gradient(&dy, &x, n).unwrap();
                    let exact = crate::geglu::gradient(&exact_dy, &exact_x).unwrap();
                    assert!(distance(&dx, &exact) <= tolerance, "{n} {}", distance(&dx, &exact));
                }
            }
        });
    }
}
