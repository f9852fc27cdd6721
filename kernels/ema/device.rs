//! The moving average and the norm on a device.

use crate::gpu::rows::{pack_of_all, wide};
use crate::gpu::{Argument::*, Grid, Source, dense, fresh, launch, source};
use candle_core::{DType, Result, Tensor};

const KERNEL: Source = source!("ema");

/// Blocks that share the squares of one tensor.
const BLOCKS: usize = 1024;

pub(super) fn lerp(average: &Tensor, x: &Tensor, weight: f64, scale: f64) -> Result<()> {
    dense("moving average", average)?;
    dense("moving average", x)?;
    let n = average.elem_count();
    let pack = pack_of_all(&[average, x]);
    let arguments = [Write(average), Read(x), Length(n), Float(weight), Float(scale)];
    launch(
        &KERNEL,
        &wide("lerp", pack),
        average.dtype(),
        Grid::of_elements(n.div_ceil(pack)),
        &arguments,
    )
}

/// √Σ x²: the one number that the host waits for.
pub(super) fn norm(x: &Tensor) -> Result<f64> {
    dense("norm", x)?;
    let n = x.elem_count();
    let pack = pack_of_all(&[x]);
    let grid = Grid::of_elements(n.div_ceil(pack));
    let blocks = grid.blocks[0].clamp(1, BLOCKS);
    let sums = fresh(&[blocks], DType::F64, x.device())?;
    let grid = Grid { blocks: [blocks, 1], ..grid };
    launch(&KERNEL, &wide("squares", pack), x.dtype(), grid, &[Read(x), Write(&sums), Length(n)])?;
    let sum = fresh(&[1], DType::F64, x.device())?;
    let arguments = [Read(&sums), Write(&sum), Count(blocks)];
    launch(&KERNEL, "total", DType::F32, Grid::of_rows(1, blocks), &arguments)?;
    Ok(sum.to_vec1::<f64>()?[0].sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, distance, f32, filled, on_devices, same_in_any_order};

    #[test]
    fn the_average_and_the_norm_are_those_of_the_processor() {
        on_devices(|device| {
            for n in SIZES.into_iter().chain([300_000, 1_500_000]) {
                let (start, x) = (f32(&filled(&[n], 1)), f32(&filled(&[n], 2)));
                let average = start.copy().unwrap();
                crate::ema::lerp(&average, &x, 0.3, 2.).unwrap();
                let moved = start.copy().unwrap().to_device(device).unwrap();
                let there = x.to_device(device).unwrap();
                lerp(&moved, &there, 0.3, 2.).unwrap();
                assert!(distance(&moved, &average) <= 2e-7, "{n}");
                let (found, exact) = (norm(&there).unwrap(), crate::ema::norm(&x).unwrap());
                assert!((found - exact).abs() <= 1e-12 * exact, "{n}: {found} {exact}");
            }
            let poisoned = (f32(&filled(&[33], 1)) * f64::NAN).unwrap().to_device(device).unwrap();
            assert!(norm(&poisoned).unwrap().is_nan());
            let x = f32(&filled(&[70_000], 3)).to_device(device).unwrap();
            same_in_any_order(|| {
                vec![Tensor::new(norm(&x).unwrap(), &candle_core::Device::Cpu).unwrap()]
            });
        });
    }
}
