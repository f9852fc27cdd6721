//! Weight gradient of 3x3 windows of stride 1: the transpose of the law in `winograd`.
//!
//! Law: dw = Gᵀ (Σ over patches of (A dY Aᵀ) ⊙ (Bᵀ d B)) G, with dY the 2x2 gradients of a patch's outputs and d its 4x4 inputs;
//! for each pair of channels 16 multiplications a patch instead of 36.
//!
//! For each of the 16 positions the sum is a product of matrices [channels_in, patches] and [patches, channels_out].
//! A task takes four positions (one row of the transform), a group of channels_out and a slab of patches.
//! Slabs depend on the shape alone and are added in order: the result does not depend on the number of threads.

use super::Sizes;
use super::fast::panel_width;
use super::weight_gradient::{Run, TILE, multiply_tile};
use super::winograd::{Patches, input_line, load};
use crate::simd::{MulAdd, multiversion};
use rayon::prelude::*;
use std::ops::Range;

/// Patches whose transforms are held at once.
const BLOCK: usize = 96;

/// Patches of a slab, at least; and slabs, at most.
const SLAB: usize = 1024;
const SLABS: usize = 4;

/// Channels_in that are turned back in one go.
const CHANNELS: usize = 8;

/// Panels of channels_out in one group.
const GROUP: usize = 2;

/// How the sum is shared out; a function of the sizes and the width of a vector.
struct Plan<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    sizes: &'a Sizes,
    patches: Patches,
    /// Channels_in, rounded up to whole tiles.
    depth: usize,
    /// Channels of a panel of channels_out.
    width: usize,
    groups: usize,
    slabs: usize,
}

/// dw [channels_out, channels_in, 3, 3].
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], sizes: &Sizes) -> Vec<f32> {
    let (patches, width) = (Patches::new(sizes), panel_width(sizes.channels_out));
    let plan = Plan {
        x,
        dy,
        sizes,
        patches,
        depth: sizes.channels_in.next_multiple_of(TILE),
        width,
        groups: sizes.channels_out.div_ceil(GROUP * width),
        slabs: (patches.count() / SLAB).clamp(1, SLABS),
    };
    // [group, slab, row of the transform]
    let parts: Vec<Vec<f32>> = (0..plan.groups * plan.slabs * 4)
        .into_par_iter()
        .map(|task| plan.partial(task / 4 / plan.slabs, task / 4 % plan.slabs, task % 4))
        .collect();
    let mut dw = vec![0.; sizes.channels_out * sizes.channels_in * 9];
    let panel_length = width * sizes.channels_in * 9;
    dw.par_chunks_mut(panel_length).enumerate().for_each(|(panel, dw)| {
        let own = &parts[panel / GROUP * plan.slabs * 4..][..plan.slabs * 4];
        plan.unpack(own, panel % GROUP, dw);
    });
    dw
}

impl Plan<'_> {
    /// Sums of one group, slab and row of the transform: [panel, column of the transform, tile, 6, width].
    fn partial(&self, group: usize, slab: usize, row: usize) -> Vec<f32> {
        let count = self.patches.count();
        let each = count.div_ceil(self.slabs);
        let slab = slab * each..((slab + 1) * each).min(count);
        let mut sums = vec![0.; GROUP * 4 * self.depth * self.width];
        let mut inputs = vec![0.; 4 * BLOCK * self.depth];
        let mut outputs = vec![0.; GROUP * 4 * BLOCK * self.width];
        for first in slab.clone().step_by(BLOCK) {
            let block = first..(first + BLOCK).min(slab.end);
            self.transform_inputs(row, block.clone(), &mut inputs);
            self.transform_outputs(row, group, block.clone(), &mut outputs);
            self.accumulate(block.len(), &inputs, &outputs, &mut sums);
        }
        sums
    }

    /// inputs: [column of the transform, patch, depth].
    fn transform_inputs(&self, row: usize, block: Range<usize>, inputs: &mut [f32]) {
        let outside = vec![0.; self.sizes.channels_in];
        for (slot, patch) in block.enumerate() {
            let sources = self.patches.sources::<16>(patch, 1, self.x, &outside);
            let to = &mut inputs[slot * self.depth..];
            input_row(&sources, row, outside.len(), to, BLOCK * self.depth);
        }
    }

    /// outputs: [panel, column of the transform, patch, width], zero beyond the last channel.
    fn transform_outputs(
        &self,
        row: usize,
        group: usize,
        block: Range<usize>,
        outputs: &mut [f32],
    ) {
        let channels = self.sizes.channels_out;
        let outside = vec![0.; channels];
        for (slot, patch) in block.enumerate() {
            let sources = self.patches.sources::<4>(patch, 0, self.dy, &outside);
            for (panel, outputs) in outputs.chunks_exact_mut(4 * BLOCK * self.width).enumerate() {
                let first = (group * GROUP + panel) * self.width;
                let count = self.width.min(channels.saturating_sub(first));
                let own = sources.map(|source| source.wrapping_add(first));
                let to = &mut outputs[slot * self.width..];
                output_row(&own, row, count, to, BLOCK * self.width);
            }
        }
    }

    fn accumulate(&self, patches: usize, inputs: &[f32], outputs: &[f32], sums: &mut [f32]) {
        let outputs = outputs.chunks_exact(BLOCK * self.width);
        let sums = sums.chunks_exact_mut(self.depth * self.width);
        for (k, (outputs, sums)) in outputs.zip(sums).enumerate() {
            let inputs = &inputs[k % 4 * BLOCK * self.depth..][..BLOCK * self.depth];
            for (tile, sums) in sums.chunks_exact_mut(TILE * self.width).enumerate() {
                let run = Run {
                    inputs,
                    shift: tile * TILE,
                    row: 0,
                    starts: &[0],
                    step: self.depth,
                    columns: patches,
                    outputs: &outputs[..patches * self.width],
                };
                multiply_tile(&run, self.width, sums);
            }
        }
    }

    /// Adds the slabs of one panel in order and turns 16 positions into 9: dw [panel's channels, channels_in, 9].
    fn unpack(&self, slabs: &[Vec<f32>], panel: usize, dw: &mut [f32]) {
        let (row, channels) = (self.sizes.channels_in * 9, self.sizes.channels_in);
        // A few channels at a time: what is read then stays in the first-level cache.
        for first in (0..channels).step_by(CHANNELS) {
            for (column, dw) in dw.chunks_exact_mut(row).enumerate() {
                for channel in first..(first + CHANNELS).min(channels) {
                    let m = std::array::from_fn(|position| {
                        let at = ((panel * 4 + position % 4) * self.depth + channel) * self.width;
                        slabs
                            .chunks_exact(4)
                            .map(|rows| rows[position / 4][at + column])
                            .sum::<f32>()
                    });
                    dw[channel * 9..][..9].copy_from_slice(&kernel_gradient(&m));
                }
            }
        }
    }
}

/// Gᵀ m G.
fn kernel_gradient(m: &[f32; 16]) -> [f32; 9] {
    let line = |m: [f32; 4]| {
        let (sum, difference) = (0.5 * (m[1] + m[2]), 0.5 * (m[1] - m[2]));
        [m[0] + sum, difference, sum + m[3]]
    };
    let columns: [[f32; 3]; 4] =
        std::array::from_fn(|j| line([m[j], m[4 + j], m[8 + j], m[12 + j]]));
    let rows: [[f32; 3]; 3] =
        std::array::from_fn(|i| line([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]));
    std::array::from_fn(|k| rows[k / 3][k % 3])
}

multiversion! {
    /// One row of Bᵀ d B: `to[column · stride + channel]`; `sources` are 16 pixels of `depth` channels.
    fn input_row(sources: &[*const f32; 16], row: usize, depth: usize, to: &mut [f32], stride: usize) = input_row_body;
}

multiversion! {
    /// One row of A dY Aᵀ: `to[column · stride + channel]`; `sources` are 4 pixels of `count` channels.
    fn output_row(sources: &[*const f32; 4], row: usize, count: usize, to: &mut [f32], stride: usize) = output_row_body;
}

#[inline(always)]
fn input_row_body<M: MulAdd, const L: usize>(
    sources: &[*const f32; 16],
    row: usize,
    depth: usize,
    to: &mut [f32],
    stride: usize,
) {
    // Row i of Bᵀ: one pixel plus or minus another.
    let (first, second, sign) = [(0, 2, -1.), (1, 2, 1.), (2, 1, -1.), (1, 3, -1.)][row];
    for c in (0..depth).step_by(L) {
        let mut d = [[0.; L]; 4];
        for j in 0..4 {
            // SAFETY: every source has `depth` channels, a multiple of L.
            let (a, b): ([f32; L], [f32; L]) = unsafe {
                (load(sources[4 * first + j].add(c)), load(sources[4 * second + j].add(c)))
            };
            for l in 0..L {
                d[j][l] = a[l] + sign * b[l];
            }
        }
        for (j, v) in input_line(d).iter().enumerate() {
            to[j * stride + c..][..L].copy_from_slice(v);
        }
    }
}

#[inline(always)]
fn output_row_body<M: MulAdd, const L: usize>(
    sources: &[*const f32; 4],
    row: usize,
    count: usize,
    to: &mut [f32],
    stride: usize,
) {
    // Row i of A = (1 0 | 1 1 | 1 −1 | 0 −1).
    let (upper, lower) = [(1., 0.), (1., 1.), (1., -1.), (0., -1.)][row];
    for c in (0..count).step_by(L) {
        let mut y = [[0.; L]; 2];
        for j in 0..2 {
            // SAFETY: every source has `count` channels, a multiple of L.
            let (a, b): ([f32; L], [f32; L]) =
                unsafe { (load(sources[j].add(c)), load(sources[2 + j].add(c))) };
            for l in 0..L {
                y[j][l] = upper * a[l] + lower * b[l];
            }
        }
        let mut line = [[0.; L]; 4];
        for l in 0..L {
            line[0][l] = y[0][l];
            line[1][l] = y[0][l] + y[1][l];
            line[2][l] = y[0][l] - y[1][l];
            line[3][l] = -y[1][l];
        }
        for (j, line) in line.iter().enumerate() {
            to[j * stride + c..][..L].copy_from_slice(line);
        }
    }
}
