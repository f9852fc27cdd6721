//! Weight gradient on the processor: for each kernel offset, a product summed over pixels.
//!
//! The image is cut into slabs and blocks of output rows.
//! A block's outputs are packed by panels of channels_out, its inputs, with their padding, by tiles of 6 channels_in;
//! then every kernel offset is a shift of the packed input, and 6 by one panel of sums stay in registers for the block.
//! Slabs depend on the shape alone and are added in order: the result does not depend on the number of threads.

use super::Sizes;
use crate::simd::{MulAdd, lanes, multiversion};
use rayon::prelude::*;
use std::ops::Range;

/// Input channels of a tile.
pub(super) const TILE: usize = 6;

/// Output pixels of a block: its packed operands stay in the second-level cache.
const BLOCK: usize = 256;

/// Output pixels of a slab, at least; and slabs, at most.
const SLAB: usize = 4096;
const SLABS: usize = 8;

/// How the sum is shared out; a function of the sizes alone.
struct Plan<'a> {
    sizes: &'a Sizes,
    /// Channels of a panel of channels_out.
    width: usize,
    panels: usize,
    /// Tiles of channels_in in one group.
    group: usize,
    groups: usize,
    /// Output rows, over all images, of one slab and of one block.
    slab_rows: usize,
    slabs: usize,
    block_rows: usize,
}

impl<'a> Plan<'a> {
    fn new(sizes: &'a Sizes) -> Self {
        let rows = sizes.batch * sizes.output.0;
        let pixels = rows * sizes.output.1;
        let slabs = (pixels / SLAB).clamp(1, SLABS);
        let slab_rows = rows.div_ceil(slabs);
        let tiles = sizes.channels_in.div_ceil(TILE);
        let group = tiles.div_ceil((16 / slabs).max(1)).max(2);
        let width = if sizes.channels_out <= lanes() { lanes() } else { 2 * lanes() };
        Self {
            sizes,
            width,
            panels: sizes.channels_out.div_ceil(width),
            group,
            groups: tiles.div_ceil(group),
            slab_rows,
            slabs: rows.div_ceil(slab_rows),
            block_rows: (BLOCK / sizes.output.1).max(1),
        }
    }

    /// Sums of one (tile, panel) for all offsets: [offset, 6, width].
    fn tile_length(&self) -> usize {
        self.sizes.taps() * TILE * self.width
    }

    /// Padded columns that one output row reads.
    fn padded_width(&self) -> usize {
        (self.sizes.output.1 - 1) * self.sizes.window.stride + self.sizes.window.kernel
    }
}

/// dw [channels_out, channels_in, kernel, kernel].
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], sizes: &Sizes) -> Vec<f32> {
    let plan = Plan::new(sizes);
    let parts: Vec<Vec<f32>> = (0..plan.groups * plan.slabs)
        .into_par_iter()
        .map(|task| partial(x, dy, &plan, task / plan.slabs, task % plan.slabs))
        .collect();
    let mut dw = vec![0.; sizes.channels_out * sizes.channels_in * sizes.taps()];
    let row = sizes.channels_in * sizes.taps();
    dw.par_chunks_mut(plan.width * row).enumerate().for_each(|(panel, dw)| {
        for (group, slabs) in parts.chunks_exact(plan.slabs).enumerate() {
            unpack(slabs, &plan, group, panel, dw);
        }
    });
    dw
}

/// Adds the slabs of one (group, panel) in order and writes them where checkpoints keep them: dw [panel, in, offset].
fn unpack(slabs: &[Vec<f32>], plan: &Plan, group: usize, panel: usize, dw: &mut [f32]) {
    let taps = plan.sizes.taps();
    let row = plan.sizes.channels_in * taps;
    for tile in 0..plan.group {
        let first = (group * plan.group + tile) * TILE;
        for (channel, lane) in (first..plan.sizes.channels_in.min(first + TILE)).zip(0..) {
            for tap in 0..taps {
                let at = (panel * plan.group + tile) * plan.tile_length()
                    + (tap * TILE + lane) * plan.width;
                for (column, dw) in dw.chunks_exact_mut(row).enumerate() {
                    dw[channel * taps + tap] = slabs.iter().map(|slab| slab[at + column]).sum();
                }
            }
        }
    }
}

/// The sums of one group of input channels over one slab: [panel, tile, offset, 6, width].
fn partial(x: &[f32], dy: &[f32], plan: &Plan, group: usize, slab: usize) -> Vec<f32> {
    let rows = plan.sizes.batch * plan.sizes.output.0;
    let slab = slab * plan.slab_rows..((slab + 1) * plan.slab_rows).min(rows);
    let mut sums = vec![0.; plan.panels * plan.group * plan.tile_length()];
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for first in slab.clone().step_by(plan.block_rows) {
        let block = first..(first + plan.block_rows).min(slab.end);
        pack_outputs(dy, plan, block.clone(), &mut outputs);
        let starts = pack_inputs(x, plan, group, block.clone(), &mut inputs);
        accumulate(plan, &inputs, &outputs, &starts, &mut sums);
    }
    sums
}

/// outputs: [panel, pixel of the block, width], zero beyond the last channel.
fn pack_outputs(dy: &[f32], plan: &Plan, block: Range<usize>, outputs: &mut Vec<f32>) {
    let (channels, width) = (plan.sizes.channels_out, plan.width);
    let pixels = &dy
        [block.start * plan.sizes.output.1 * channels..block.end * plan.sizes.output.1 * channels];
    outputs.clear();
    for panel in 0..plan.panels {
        let first = panel * width;
        let count = width.min(channels - first);
        for pixel in pixels.chunks_exact(channels) {
            outputs.extend_from_slice(&pixel[first..first + count]);
            outputs.resize(outputs.len() + width - count, 0.);
        }
    }
}

/// inputs: [tile, padded row, padded column, 6]; returns for each output row of the block the padded row where it begins.
fn pack_inputs(
    x: &[f32],
    plan: &Plan,
    group: usize,
    block: Range<usize>,
    inputs: &mut Vec<f32>,
) -> Vec<usize> {
    let (sizes, window) = (plan.sizes, plan.sizes.window);
    let mut starts = Vec::with_capacity(block.len());
    let mut padded = Vec::new(); // (image, row of the input if inside) of each padded row
    for row in block {
        let (image, i) = (row / sizes.output.0, row % sizes.output.0);
        let top = i * window.stride; // in rows of the padded image
        // Rows that the window of the previous output row did not cover.
        let fresh = if i == 0 || starts.is_empty() {
            window.kernel
        } else {
            window.stride.min(window.kernel)
        };
        starts.push(padded.len() + fresh - window.kernel);
        for row in top + window.kernel - fresh..top + window.kernel {
            padded.push((image, row.checked_sub(window.before).filter(|&row| row < sizes.input.0)));
        }
    }
    inputs.clear();
    inputs.resize(plan.group * padded.len() * plan.padded_width() * TILE, 0.);
    let length = padded.len() * plan.padded_width() * TILE;
    for (tile, inputs) in inputs.chunks_exact_mut(length).enumerate() {
        let first = (group * plan.group + tile) * TILE;
        let channels = first..sizes.channels_in.min(first + TILE);
        if channels.is_empty() {
            continue;
        }
        for (&(image, row), inputs) in
            padded.iter().zip(inputs.chunks_exact_mut(plan.padded_width() * TILE))
        {
            let Some(row) = row else { continue };
            pack_row(
                x,
                plan,
                (image * sizes.input.0 + row) * sizes.input.1,
                channels.clone(),
                inputs,
            );
        }
    }
    starts
}

/// One row of the padded image, one tile: [padded column, 6].
fn pack_row(x: &[f32], plan: &Plan, start: usize, channels: Range<usize>, inputs: &mut [f32]) {
    let (sizes, before) = (plan.sizes, plan.sizes.window.before);
    let row = &x[start * sizes.channels_in..][..sizes.input.1 * sizes.channels_in];
    let columns = inputs.chunks_exact_mut(TILE).skip(before);
    for (pixel, target) in row.chunks_exact(sizes.channels_in).zip(columns) {
        let pixel = &pixel[channels.clone()];
        match <&[f32; TILE]>::try_from(pixel) {
            Ok(pixel) => target.copy_from_slice(pixel),
            Err(_) => target[..pixel.len()].copy_from_slice(pixel),
        }
    }
}

fn accumulate(plan: &Plan, inputs: &[f32], outputs: &[f32], starts: &[usize], sums: &mut [f32]) {
    let columns = plan.sizes.output.1;
    let (kernel, stride) = (plan.sizes.window.kernel, plan.sizes.window.stride);
    let row = plan.padded_width() * TILE;
    let output_length = starts.len() * columns * plan.width;
    let input_length = inputs.len() / plan.group;
    let mut chunks = sums.chunks_exact_mut(TILE * plan.width);
    for outputs in outputs.chunks_exact(output_length) {
        for inputs in inputs.chunks_exact(input_length) {
            for tap in 0..kernel * kernel {
                let shift = tap / kernel * row + tap % kernel * TILE;
                let sums = chunks.next().expect("one chunk for each panel, tile and offset");
                let run = Run { inputs, shift, row, starts, step: stride * TILE, columns, outputs };
                multiply_tile(&run, plan.width, sums);
            }
        }
    }
}

/// Pixels of a block for one tile, panel and offset.
pub(super) struct Run<'a> {
    /// [padded row, padded column, 6].
    pub inputs: &'a [f32],
    pub shift: usize,
    pub row: usize,
    pub starts: &'a [usize],
    pub step: usize,
    pub columns: usize,
    /// [pixel, width].
    pub outputs: &'a [f32],
}

/// sums [6, width] += the products of a run.
pub(super) fn multiply_tile(run: &Run, width: usize, sums: &mut [f32]) {
    if width == lanes() { tile_narrow(run, sums) } else { tile_wide(run, sums) }
}

multiversion! {
    fn tile_wide(run: &Run, sums: &mut [f32]) = tile::<2>;
}

multiversion! {
    fn tile_narrow(run: &Run, sums: &mut [f32]) = tile::<1>;
}

/// sums[i, n] += Σ_pixel input_i[pixel] · output[pixel, n].
#[inline(always)]
fn tile<M: MulAdd, const L: usize, const V: usize>(run: &Run, sums: &mut [f32]) {
    let mut sum = [[[0f32; L]; V]; TILE];
    assert!(run.outputs.len() == run.starts.len() * run.columns * V * L);
    let mut b = run.outputs.as_ptr();
    for &start in run.starts {
        let inputs = &run.inputs[start * run.row + run.shift..];
        assert!(inputs.len() >= (run.columns - 1) * run.step + TILE);
        let mut a = inputs.as_ptr();
        for _ in 0..run.columns {
            let mut output = [[0f32; L]; V];
            for v in 0..V {
                for l in 0..L {
                    // SAFETY: outputs holds V·L values for each of the pixels, as asserted.
                    output[v][l] = unsafe { *b.add(v * L + l) };
                }
            }
            for i in 0..TILE {
                // SAFETY: 6 values of each of the row's columns, as asserted.
                let input = unsafe { *a.add(i) };
                for v in 0..V {
                    for l in 0..L {
                        sum[i][v][l] = M::mul_add(input, output[v][l], sum[i][v][l]);
                    }
                }
            }
            b = b.wrapping_add(V * L);
            a = a.wrapping_add(run.step);
        }
    }
    // Written out by constant indices, or the sums would live in memory instead of registers.
    for i in 0..TILE {
        for v in 0..V {
            let total = &mut sums[(i * V + v) * L..][..L];
            for l in 0..L {
                total[l] += sum[i][v][l];
            }
        }
    }
}
