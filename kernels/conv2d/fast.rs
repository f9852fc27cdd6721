//! Forward pass and input gradient on the processor: an implicit matrix product without im2col.
//!
//! A tile is 6 pixels by one panel of channels, held in registers.
//! For each kernel offset a pixel contributes a pointer to its source pixel's channels, or to zeros outside the image:
//! the image is never copied, and an offset at which all 6 are outside is skipped.
//! The input gradient is the same product with the roles of channels exchanged and the offsets read backwards;
//! under a stride, offsets that meet no output are skipped like those outside.

use super::panels::{Packing, Panels};
use super::{Sizes, Window};
use crate::simd::{MulAdd, lanes, multiversion};
use rayon::prelude::*;

/// Pixels of a tile: with two vectors of channels, 12 sums stay in registers.
pub(super) const TILE: usize = 6;

/// Pixels of a task: their sources stay in the first-level cache while the panels pass by.
const BLOCK: usize = 16 * TILE;

/// One kernel offset of one tile.
pub(super) struct Tap {
    pub offset: usize,
    pub sources: [*const f32; TILE],
}

/// The pixels of a tile: how many, and where their results go.
struct Tile {
    taps: std::ops::Range<usize>,
    pixels: std::ops::Range<usize>,
}

/// For each position along an axis and each kernel offset: the source position, `None` outside.
struct Axis {
    kernel: usize,
    sources: Vec<Option<u32>>,
}

impl Axis {
    /// Output position i reads the input at s·i + u − p.
    fn forward(window: Window, output: usize, input: usize) -> Self {
        Self::new(window.kernel, output, |i, u| {
            (i * window.stride + u).checked_sub(window.before).filter(|&source| source < input)
        })
    }

    /// Input position i was read by the output (i + p − u) / s, where that is whole.
    fn backward(window: Window, input: usize, output: usize) -> Self {
        Self::new(window.kernel, input, |i, u| {
            let reached = (i + window.before).checked_sub(u)?;
            (reached % window.stride == 0)
                .then_some(reached / window.stride)
                .filter(|&source| source < output)
        })
    }

    fn new(
        kernel: usize,
        positions: usize,
        source: impl Fn(usize, usize) -> Option<usize>,
    ) -> Self {
        let sources =
            (0..positions * kernel).map(|k| source(k / kernel, k % kernel).map(|s| s as u32));
        Self { kernel, sources: sources.collect() }
    }

    fn at(&self, position: usize) -> &[Option<u32>] {
        &self.sources[position * self.kernel..][..self.kernel]
    }
}

/// One pass: destination pixels gathered from source pixels through panels of weights.
struct Gather<'a> {
    source: &'a [f32],
    /// (height, width) of the source.
    source_size: (usize, usize),
    /// (height, width) of the destination.
    size: (usize, usize),
    batch: usize,
    rows: Axis,
    columns: Axis,
    panels: Panels,
    bias: Option<&'a [f32]>,
    zeros: Vec<f32>,
}

/// Where tasks write: each its own pixels and channels, none twice.
pub(super) struct Destination(pub *mut f32);
// SAFETY: tasks write disjoint elements, see `Gather::run`.
unsafe impl Sync for Destination {}

impl Destination {
    /// Writes `values` from `start` on.
    ///
    /// # Safety
    /// They must lie within the capacity, and no other task may write there.
    pub(super) unsafe fn write(&self, start: usize, values: &[f32]) {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.0.add(start), values.len()) };
    }
}

pub(super) fn forward(x: &[f32], w: &[f32], bias: Option<&[f32]>, sizes: &Sizes) -> Vec<f32> {
    let window = sizes.window;
    let packing = Packing::forward(sizes);
    Gather {
        source: x,
        source_size: sizes.input,
        size: sizes.output,
        batch: sizes.batch,
        rows: Axis::forward(window, sizes.output.0, sizes.input.0),
        columns: Axis::forward(window, sizes.output.1, sizes.input.1),
        panels: Panels::new(w, &packing, panel_width(sizes.channels_out)),
        bias,
        zeros: vec![0.; sizes.channels_in],
    }
    .run()
}

pub(super) fn input_gradient(dy: &[f32], w: &[f32], sizes: &Sizes) -> Vec<f32> {
    let window = sizes.window;
    let packing = Packing::backward(sizes);
    Gather {
        source: dy,
        source_size: sizes.output,
        size: sizes.input,
        batch: sizes.batch,
        rows: Axis::backward(window, sizes.input.0, sizes.output.0),
        columns: Axis::backward(window, sizes.input.1, sizes.output.1),
        panels: Panels::new(w, &packing, panel_width(sizes.channels_in)),
        bias: None,
        zeros: vec![0.; sizes.channels_out],
    }
    .run()
}

/// Two vectors of channels, or one where that holds them all.
pub(super) fn panel_width(channels: usize) -> usize {
    if channels <= lanes() { lanes() } else { 2 * lanes() }
}

impl Gather<'_> {
    fn run(&self) -> Vec<f32> {
        let pixels = self.batch * self.size.0 * self.size.1;
        let length = pixels * self.panels.columns;
        let mut values = Vec::with_capacity(length);
        let destination = Destination(values.as_mut_ptr());
        let blocks = pixels.div_ceil(BLOCK);
        // Few pixels: share out the panels as well, so that every thread has work.
        let groups =
            (4 * rayon::current_num_threads()).div_ceil(blocks.max(1)).min(self.panels.count());
        let panels_each = self.panels.count().div_ceil(groups.max(1)).max(1);
        (0..blocks * groups).into_par_iter().for_each(|task| {
            let first = task / groups * BLOCK;
            let panel = task % groups * panels_each;
            let panels = panel..(panel + panels_each).min(self.panels.count());
            self.block(first..(first + BLOCK).min(pixels), panels, &destination);
        });
        // SAFETY: the tasks' pixel ranges cover 0..pixels and their panels all columns, so every element is written.
        unsafe { values.set_len(length) };
        values
    }

    fn block(
        &self,
        pixels: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
        destination: &Destination,
    ) {
        let mut taps = Vec::new();
        let tiles: Vec<Tile> = pixels
            .clone()
            .step_by(TILE)
            .map(|first| {
                let from = taps.len();
                let pixels = first..(first + TILE).min(pixels.end);
                self.push_taps(pixels.clone(), &mut taps);
                Tile { taps: from..taps.len(), pixels }
            })
            .collect();
        let width = self.panels.width;
        let mut weights = vec![std::ptr::null(); self.rows.kernel * self.columns.kernel];
        let mut sums = [0.; TILE * 32];
        let sums = &mut sums[..TILE * width];
        for panel in panels {
            for (offset, rows) in weights.iter_mut().enumerate() {
                *rows = self.panels.rows(panel, offset).as_ptr();
            }
            for tile in &tiles {
                let taps = &taps[tile.taps.clone()];
                multiply_tile(taps, &weights, self.panels.depth, width, sums);
                self.store(panel, tile, sums, destination);
            }
        }
    }

    /// (image, pixel within it) of the `index`-th pixel.
    ///
    /// Small images go by position, then image: a tile's pixels then leave the image at the same offsets, which are skipped.
    fn place(&self, index: usize) -> (usize, usize) {
        let pixels = self.size.0 * self.size.1;
        if pixels <= 64 {
            (index % self.batch, index / self.batch)
        } else {
            (index / pixels, index % pixels)
        }
    }

    fn push_taps(&self, pixels: std::ops::Range<usize>, taps: &mut Vec<Tap>) {
        let outside = self.zeros.as_ptr();
        let (height, width) = self.source_size;
        let first = taps.len();
        let kernel = self.columns.kernel;
        taps.extend(
            (0..self.rows.kernel * kernel).map(|offset| Tap { offset, sources: [outside; TILE] }),
        );
        let mut used = [false; 64];
        for (slot, pixel) in pixels.enumerate() {
            let (image, pixel) = self.place(pixel);
            let columns = self.columns.at(pixel % self.size.1);
            for (u, row) in self.rows.at(pixel / self.size.1).iter().enumerate() {
                let Some(row) = row else { continue };
                let start = (image * height + *row as usize) * width;
                for (v, column) in columns.iter().enumerate() {
                    let Some(column) = column else { continue };
                    let source = &self.source[(start + *column as usize) * self.panels.depth..];
                    taps[first + u * kernel + v].sources[slot] = source.as_ptr();
                    used[(u * kernel + v) % 64] = true;
                }
            }
        }
        let mut kept = first;
        for index in first..taps.len() {
            if used[(index - first) % 64] {
                taps.swap(kept, index);
                kept += 1;
            }
        }
        taps.truncate(kept);
    }

    fn store(&self, panel: usize, tile: &Tile, sums: &[f32], destination: &Destination) {
        let (channels, width) = (self.panels.columns, self.panels.width);
        let first = panel * width;
        let count = width.min(channels - first);
        for (slot, pixel) in tile.pixels.clone().enumerate() {
            let (image, pixel) = self.place(pixel);
            let start = (image * self.size.0 * self.size.1 + pixel) * channels + first;
            // SAFETY: `start + count` is within the capacity, and this tile alone owns these channels of this pixel.
            let target = unsafe {
                std::slice::from_raw_parts_mut(
                    destination.0.add(start).cast::<std::mem::MaybeUninit<f32>>(),
                    count,
                )
            };
            let sums = &sums[slot * width..][..count];
            match self.bias {
                None => {
                    target.iter_mut().zip(sums).for_each(|(target, &sum)| _ = target.write(sum))
                }
                Some(bias) => {
                    let image = if bias.len() == channels { 0 } else { image };
                    let bias = &bias[image * channels + first..][..count];
                    for ((target, &sum), &bias) in target.iter_mut().zip(sums).zip(bias) {
                        target.write(sum + bias);
                    }
                }
            }
        }
    }
}

/// Sums of 6 pixels over one panel: `sums` [6, width].
pub(super) fn multiply_tile(
    taps: &[Tap],
    weights: &[*const f32],
    depth: usize,
    width: usize,
    sums: &mut [f32],
) {
    if width == lanes() {
        tile_narrow(taps, weights, depth, sums);
    } else {
        tile_wide(taps, weights, depth, sums);
    }
}

multiversion! {
    /// Sums of 6 pixels over two vectors of channels: `sums` [6, width].
    fn tile_wide(taps: &[Tap], weights: &[*const f32], depth: usize, sums: &mut [f32]) = tile::<2>;
}

multiversion! {
    /// Sums of 6 pixels over one vector of channels: `sums` [6, width].
    fn tile_narrow(taps: &[Tap], weights: &[*const f32], depth: usize, sums: &mut [f32]) = tile::<1>;
}

/// sums[i, n] = Σ_{offset, k} source_i[offset][k] · weights[offset][k, n], one offset after another.
#[inline(always)]
fn tile<M: MulAdd, const L: usize, const V: usize>(
    taps: &[Tap],
    weights: &[*const f32],
    depth: usize,
    sums: &mut [f32],
) {
    let mut sum = [[[0f32; L]; V]; TILE];
    for tap in taps {
        let mut w = weights[tap.offset];
        for k in 0..depth {
            let mut b = [[0f32; L]; V];
            for v in 0..V {
                for l in 0..L {
                    // SAFETY: a panel has depth rows of V·L weights.
                    b[v][l] = unsafe { *w.add(v * L + l) };
                }
            }
            // SAFETY: one past the panel's last row at most.
            w = unsafe { w.add(V * L) };
            for i in 0..TILE {
                // SAFETY: a source points at depth channels of a pixel, or at as many zeros.
                let a = unsafe { *tap.sources[i].add(k) };
                for v in 0..V {
                    for l in 0..L {
                        sum[i][v][l] = M::mul_add(a, b[v][l], sum[i][v][l]);
                    }
                }
            }
        }
    }
    for i in 0..TILE {
        for v in 0..V {
            sums[(i * V + v) * L..][..L].copy_from_slice(&sum[i][v]);
        }
    }
}
