//! The law on a device: a launch each way.

use crate::gpu::rows::{pack, wide};
use crate::gpu::{Argument::*, Grid, Source, Unit, dense, fresh, launch, launch_units, source};
use candle_core::{Result, Tensor};

const KERNEL: Source = source!("upsample");

pub(super) fn forward(x: &Tensor, shape: &[usize; 4]) -> Result<Tensor> {
    dense("upsample x", x)?;
    let (_, _, width, channels) = x.dims4()?;
    let y = fresh(shape, x.dtype(), x.device())?;
    let unit = Unit::of(&[x, &y], &[channels]);
    let (all, units) = (unit.count(y.elem_count()), unit.count(channels));
    let arguments = [Read(x), Write(&y), Count(all), Count(width), Count(units)];
    launch_units(&KERNEL, "forward", unit, Grid::of_elements(all), &arguments)?;
    Ok(y)
}

pub(super) fn gradient(dy: &Tensor, shape: &[usize; 4]) -> Result<Tensor> {
    dense("upsample dy", dy)?;
    let [_, _, width, channels] = *shape;
    let dx = fresh(shape, dy.dtype(), dy.device())?;
    let (all, pack) = (dx.elem_count(), pack(&[dy], channels));
    let arguments = [Read(dy), Write(&dx), Count(all), Count(width), Count(channels)];
    let grid = Grid::of_elements(all / pack);
    launch(&KERNEL, &wide("gradient", pack), dy.dtype(), grid, &arguments)?;
    Ok(dx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TYPES, distance, filled, on_devices, there};

    #[test]
    fn both_ways_are_the_reference() {
        on_devices(|device| {
            for shape in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 8, 4, 32], [1, 5, 2, 127]] {
                for (dtype, tolerance) in TYPES {
                    let [batch, height, width, channels] = shape;
                    let double = [batch, 2 * height, 2 * width, channels];
                    let (x, exact) = there(&filled(&shape, 1), dtype, device);
                    let y = forward(&x, &double).unwrap();
                    assert!(distance(&y, &crate::upsample::forward(&exact).unwrap()) <= 0.);
                    let (dy, exact) = there(&filled(&double, 2), dtype, device);
                    let dx = gradient(&dy, &shape).unwrap();
                    let exact = crate::upsample::gradient(&exact).unwrap();
                    assert!(distance(&dx, &exact) <= tolerance, "{shape:?}");
                }
            }
        });
    }
}
