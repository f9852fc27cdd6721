//! Rows of channels on a device: how threads lie over them, and sums down the rows.
//!
//! Law: y[o, c] = Σ_k x[o, k, c], in two stages that depend on the sizes alone: runs of rows, then the runs.

use super::{Argument::*, Grid, Source, fresh, launch, source};
use candle_core::{DType, Result, Tensor};

const KERNEL: Source = source!("gpu");

/// Threads of a block that work on rows of channels.
const THREADS: usize = 512;

/// Blocks that fill a large device several times over.
const BLOCKS: usize = 1024;

/// Rows that one thread takes at least, if there are so many.
const EACH: usize = 4;

/// How the threads of a launch lie over [outer, rows, channels].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    pub outer: usize,
    pub rows: usize,
    pub channels: usize,
    /// Channels side by side.
    pub width: usize,
    /// Rows at once.
    pub lanes: usize,
    /// Rows of a run.
    pub each: usize,
    /// Runs of each outer index.
    pub runs: usize,
}

impl Runs {
    pub fn new(outer: usize, rows: usize, channels: usize) -> Self {
        let passes = channels.div_ceil(THREADS).max(1);
        let width = channels.div_ceil(passes).max(1);
        let lanes = (THREADS / width).clamp(1, rows.max(1));
        let wanted = (BLOCKS / outer.max(1)).clamp(1, rows.div_ceil(EACH * lanes).max(1));
        let each = rows.div_ceil(wanted).max(1);
        Self { outer, rows, channels, width, lanes, each, runs: rows.div_ceil(each).max(1) }
    }

    /// A block for each run.
    pub fn grid(&self) -> Grid {
        let threads = (self.width * self.lanes).next_multiple_of(super::WARP);
        Grid { blocks: [self.runs, self.outer], threads }
    }
}

/// y [outer, channels] in `dtype` of x [outer, rows, channels] and any other shape of so many elements.
pub(crate) fn sum(x: &Tensor, [outer, rows, channels]: [usize; 3], dtype: DType) -> Result<Tensor> {
    let runs = Runs::new(outer, rows, channels);
    let partial = fresh(&[outer, runs.runs, channels], DType::F32, x.device())?;
    let Runs { width, lanes, each, .. } = runs;
    launch(
        &KERNEL,
        "sum_runs",
        x.dtype(),
        runs.grid(),
        &[
            Read(x),
            Write(&partial),
            Count(rows),
            Count(channels),
            Count(width),
            Count(lanes),
            Count(each),
        ],
    )?;
    combine(&partial, dtype)
}

/// y [outer, channels] in `dtype` of what runs left in 32 bits, [outer, runs, channels].
pub(crate) fn combine(partial: &Tensor, dtype: DType) -> Result<Tensor> {
    let (outer, runs, channels) = partial.dims3()?;
    let sums = fresh(&[outer, channels], dtype, partial.device())?;
    let grid = Grid::of_elements(outer * channels);
    let arguments =
        [Read(partial), Write(&sums), Count(outer * channels), Count(runs), Count(channels)];
    launch(&KERNEL, "combine_runs", dtype, grid, &arguments)?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, TYPES, distance, filled, on_devices, same_in_any_order, there};

    #[test]
    fn runs_cover_all_rows_once_and_fit_a_block() {
        for (outer, rows, channels) in
            [(1, 1, 1), (128, 1024, 128), (4, 4096, 320), (1, 100_000, 2560)]
        {
            let runs = Runs::new(outer, rows, channels);
            assert!(
                (runs.runs - 1) * runs.each < rows && runs.runs * runs.each >= rows,
                "{runs:?}"
            );
            assert!(runs.width * runs.lanes <= THREADS && runs.grid().threads <= THREADS);
            assert!(runs.lanes <= runs.each || runs.runs == 1, "{runs:?}");
        }
    }

    #[test]
    fn sums_are_candle_s() {
        on_devices(|device| {
            let shapes = SIZES.map(|n| [2, n, 3]).into_iter().chain([[1, 5000, 33], [3, 40, 1030]]);
            for shape in shapes {
                for (dtype, _) in TYPES {
                    let (x, exact) = there(&filled(&shape, 1), dtype, device);
                    let found = sum(&x, shape, DType::F32).unwrap();
                    let exact = exact.sum(1).unwrap();
                    assert!(distance(&found, &exact) <= 2e-6, "{shape:?} {dtype:?}");
                }
            }
            let x = there(&filled(&[2, 500, 70], 1), DType::F32, device).0;
            same_in_any_order(|| vec![sum(&x, [2, 500, 70], DType::F32).unwrap()]);
        });
    }
}
