//! The law on a device: one launch to join, one for each part that is cut.

use crate::gpu::{Argument::*, Grid, Source, Unit, dense, fresh, launch_units, source};
use candle_core::{D, Result, Tensor};

const KERNEL: Source = source!("concat");

pub(super) fn forward(a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    dense("concat a", a)?;
    dense("concat b", b)?;
    let (n, m) = (a.dim(D::Minus1)?, b.dim(D::Minus1)?);
    let y = fresh(shape, a.dtype(), a.device())?;
    let unit = Unit::of(&[a, b, &y], &[n, m]);
    let all = unit.count(y.elem_count());
    let [n, m] = [n, m].map(|channels| Count(unit.count(channels)));
    let arguments = [Read(a), Read(b), Write(&y), Count(all), n, m];
    launch_units(&KERNEL, "join", unit, Grid::of_elements(all), &arguments)?;
    Ok(y)
}

/// Channels `start..start + n` of `y`, in `shape`.
pub(super) fn cut(y: &Tensor, start: usize, n: usize, shape: &[usize]) -> Result<Tensor> {
    dense("split y", y)?;
    let channels = y.dim(D::Minus1)?;
    let part = fresh(shape, y.dtype(), y.device())?;
    let unit = Unit::of(&[y, &part], &[channels, start, n]);
    let all = unit.count(part.elem_count());
    let [channels, start, n] = [channels, start, n].map(|channels| Count(unit.count(channels)));
    let arguments = [Read(y), Write(&part), Count(all), channels, start, n];
    launch_units(&KERNEL, "cut", unit, Grid::of_elements(all), &arguments)?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TYPES, distance, filled, on_devices, there};

    #[test]
    fn joined_is_candle_s_and_the_cut_undoes_it() {
        on_devices(|device| {
            for (rows, n, m) in [(1, 1, 1), (33, 5, 2), (7, 32, 64), (127, 31, 1), (3, 6, 4)] {
                for (dtype, _) in TYPES {
                    let (a, _) = there(&filled(&[rows, n], 1), dtype, device);
                    let (b, _) = there(&filled(&[rows, m], 2), dtype, device);
                    let y = forward(&a, &b, &[rows, n + m]).unwrap();
                    assert!(distance(&y, &Tensor::cat(&[&a, &b], 1).unwrap()) <= 0.);
                    assert!(distance(&cut(&y, 0, n, &[rows, n]).unwrap(), &a) <= 0.);
                    assert!(distance(&cut(&y, n, m, &[rows, m]).unwrap(), &b) <= 0.);
                }
            }
        });
    }
}
