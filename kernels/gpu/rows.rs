//! Rows of channels on a device: how threads lie over them, and sums down the rows.
//!
//! Law: y[o, c] = Σ_k x[o, k, c], in two stages that depend on the sizes alone: runs of rows, then the runs.

use super::{Argument::*, Grid, Source, WARP, fresh, launch, source};
use candle_core::{DType, Result, Tensor};

const KERNEL: Source = source!("gpu");

/// Threads of a block that work on rows of channels, as rows.cuh has it.
const THREADS: usize = 256;

/// Blocks that fill a large device.
const BLOCKS: usize = 512;

/// Parts in which the runs of a channel are put together.
const PARTS: usize = 8;

/// Rows that one thread takes at least, if there are so many.
const EACH: usize = 4;

/// How the threads of a launch lie over [outer, rows, channels].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    pub outer: usize,
    pub rows: usize,
    pub channels: usize,
    /// Channels that a thread takes at once.
    pub pack: usize,
    /// Packs side by side.
    pub width: usize,
    /// Rows at once.
    pub lanes: usize,
    /// Rows of a run.
    pub each: usize,
    /// Runs of each outer index.
    pub runs: usize,
}

impl Runs {
    /// Of `tensors`, whose elements are read in packs where they lie so.
    pub fn of(tensors: &[&Tensor], [outer, rows, channels]: [usize; 3]) -> Self {
        Self::new([outer, rows, channels], pack(tensors, channels))
    }

    fn new([outer, rows, channels]: [usize; 3], pack: usize) -> Self {
        let columns = channels / pack;
        let passes = columns.div_ceil(THREADS).max(1);
        let width = columns.div_ceil(passes).max(1);
        let lanes = (THREADS / width).clamp(1, rows.max(1));
        let wanted = (BLOCKS / outer.max(1)).clamp(1, rows.div_ceil(EACH * lanes).max(1));
        let each = rows.div_ceil(wanted).max(1);
        let runs = rows.div_ceil(each).max(1);
        Self { outer, rows, channels, pack, width, lanes, each, runs }
    }

    /// The kernel for packs of this size.
    pub fn function(&self, name: &str) -> String {
        wide(name, self.pack)
    }

    /// A block for each run.
    pub fn grid(&self) -> Grid {
        let threads = (self.width * self.lanes).next_multiple_of(super::WARP);
        Grid { blocks: [self.runs, self.outer], threads }
    }
}

/// Elements of 16 bytes where every row of `channels` of the tensors begins at a multiple of so many, else 1.
pub(crate) fn pack(tensors: &[&Tensor], channels: usize) -> usize {
    let pack = 16 / tensors[0].dtype().size_in_bytes();
    let begins = tensors.iter().map(|tensor| tensor.layout().start_offset());
    if begins.chain([channels]).all(|n| n.is_multiple_of(pack)) { pack } else { 1 }
}

/// The same where all the tensors' elements are one row, whose last pack may be shorter.
pub(crate) fn pack_of_all(tensors: &[&Tensor]) -> usize {
    pack(tensors, 0)
}

/// A kernel's name for packs of this size.
pub(crate) fn wide(name: &str, pack: usize) -> String {
    if pack > 1 { format!("{name}_wide") } else { name.to_string() }
}

/// y [outer, channels] in `dtype` of x [outer, rows, channels] and any other shape of so many elements.
pub(crate) fn sum(x: &Tensor, [outer, rows, channels]: [usize; 3], dtype: DType) -> Result<Tensor> {
    let runs = Runs::of(&[x], [outer, rows, channels]);
    let partial = fresh(&[outer, runs.runs, channels], DType::F32, x.device())?;
    let Runs { width, lanes, each, .. } = runs;
    launch(
        &KERNEL,
        &runs.function("sum_runs"),
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
    let grid = Grid { blocks: [channels.div_ceil(WARP), outer], threads: PARTS * WARP };
    let arguments = [Read(partial), Write(&sums), Count(runs), Count(channels)];
    launch(&KERNEL, "combine_runs", dtype, grid, &arguments)?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, TYPES, distance, filled, on_devices, same_in_any_order, there};

    #[test]
    fn runs_cover_all_rows_once_and_fit_a_block() {
        let all = [[1, 1, 1], [128, 1024, 128], [4, 4096, 320], [1, 100_000, 2560], [1, 77, 4096]];
        for (sizes, pack) in all.into_iter().flat_map(|sizes| [1, 4, 8].map(|pack| (sizes, pack))) {
            let [_, rows, channels] = sizes;
            if channels % pack > 0 {
                continue;
            }
            let runs = Runs::new(sizes, pack);
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
            let others = [[1, 5000, 33], [3, 40, 1030], [1, 700, 40], [2, 9, 2560], [1, 3000, 8]];
            let shapes = SIZES.map(|n| [2, n, 3]).into_iter().chain(others);
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
