//! Weights laid out in the order in which the kernel reads them.
//!
//! A panel holds `width` columns of the product; its rows run over kernel offset, then depth:
//! [offset, depth, width], so that one vector load feeds every pixel of a tile.
//! Columns beyond the last are zero.

use super::Sizes;
use rayon::prelude::*;

/// Rows that are packed in one go.
const ROWS: usize = 16;

/// Which index of w is the product's column and which its depth, as strides in w.
pub(super) struct Packing {
    pub columns: usize,
    pub column_stride: usize,
    pub depth: usize,
    pub depth_stride: usize,
    pub taps: usize,
}

impl Packing {
    /// Columns are channels_out.
    pub(super) fn forward(sizes: &Sizes) -> Self {
        Self {
            columns: sizes.channels_out,
            column_stride: sizes.channels_in * sizes.taps(),
            depth: sizes.channels_in,
            depth_stride: sizes.taps(),
            taps: sizes.taps(),
        }
    }

    /// Columns are channels_in.
    pub(super) fn backward(sizes: &Sizes) -> Self {
        Self {
            columns: sizes.channels_in,
            column_stride: sizes.taps(),
            depth: sizes.channels_out,
            depth_stride: sizes.channels_in * sizes.taps(),
            taps: sizes.taps(),
        }
    }
}

/// The packed weights.
pub(super) struct Panels {
    values: Vec<f32>,
    pub width: usize,
    pub depth: usize,
    pub columns: usize,
    taps: usize,
}

impl Panels {
    pub(super) fn new(w: &[f32], packing: &Packing, width: usize) -> Self {
        let Packing { columns, depth, taps, .. } = *packing;
        let mut values = vec![0.; columns.div_ceil(width) * taps * depth * width];
        values.par_chunks_mut(taps * depth * width).enumerate().for_each(|(panel, values)| {
            let first = panel * width;
            pack(w, packing, first, width.min(columns - first), width, values);
        });
        Self { values, width, depth, columns, taps }
    }

    pub(super) fn count(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Rows of one panel for one kernel offset: [depth, width].
    pub(super) fn rows(&self, panel: usize, tap: usize) -> &[f32] {
        let length = self.depth * self.width;
        &self.values[(panel * self.taps + tap) * length..][..length]
    }
}

fn pack(
    w: &[f32],
    packing: &Packing,
    first: usize,
    columns: usize,
    width: usize,
    values: &mut [f32],
) {
    let Packing { column_stride, depth, depth_stride, taps, .. } = *packing;
    // A few rows at a time: what is written then stays in the first-level cache.
    for start in (0..depth).step_by(ROWS) {
        for column in 0..columns {
            let w = &w[(first + column) * column_stride..];
            for k in start..(start + ROWS).min(depth) {
                for (tap, &weight) in w[k * depth_stride..][..taps].iter().enumerate() {
                    values[(tap * depth + k) * width + column] = weight;
                }
            }
        }
    }
}
