//! 3x3 windows of stride 1 with 16 multiplications for every 4 outputs instead of 36.
//!
//! Law, for the 2x2 outputs Y of a 4x4 patch d of the input, channel by channel:
//! Y = Aᵀ (Σ_c (G w_c Gᵀ) ⊙ (Bᵀ d_c B)) A, with ⊙ the product of elements and, row by row,
//! Bᵀ = (1 0 −1 0 | 0 1 1 0 | 0 −1 1 0 | 0 1 0 −1), G = (1 0 0 | ½ ½ ½ | ½ −½ ½ | 0 0 1), Aᵀ = (1 1 1 0 | 0 1 −1 −1).
//! Source: Lavin & Gray 2016, "Fast algorithms for convolutional neural networks", section 4.1: F(2x2, 3x3).
//!
//! For each of the 16 positions the sum over c is a product of matrices [patches, depth] and [depth, columns].
//! A block of patches is transformed once and stays in the second-level cache while the panels of columns pass by.
//! The input gradient is the same convolution with the kernel turned by 180° and the roles of channels exchanged.

use super::fast::{Destination, TILE, Tap, multiply_tile, panel_width};
use super::panels::Packing;
use super::{Sizes, Window};
use crate::simd::{MulAdd, multiversion};
use rayon::prelude::*;
use std::ops::Range;

/// Channels are handled by whole vectors of every instruction set.
const CHANNELS: usize = 16;

/// Numbers of a block's transformed patches, about: half of a second-level cache.
const BLOCK: usize = 1 << 17;

/// Rows of transformed weights that are written in one go.
const ROWS: usize = 8;

/// Whether this convolution may take this way, and gains by it.
pub(super) fn applies(sizes: &Sizes) -> bool {
    let channels = [sizes.channels_in, sizes.channels_out];
    sizes.window == Window::same(3)
        && channels.iter().all(|&n| n >= CHANNELS && n.is_multiple_of(CHANNELS))
        && Patches::new(sizes).count() >= 32
}

/// The 2x2 squares into which all outputs are cut.
#[derive(Clone, Copy)]
pub(super) struct Patches {
    batch: usize,
    height: usize,
    width: usize,
}

impl Patches {
    pub(super) fn new(sizes: &Sizes) -> Self {
        Self { batch: sizes.batch, height: sizes.input.0, width: sizes.input.1 }
    }

    pub(super) fn count(&self) -> usize {
        self.batch * self.height.div_ceil(2) * self.width.div_ceil(2)
    }

    /// (image, row, column) of a patch's first output.
    fn place(&self, patch: usize) -> (usize, usize, usize) {
        let (rows, columns) = (self.height.div_ceil(2), self.width.div_ceil(2));
        (patch / (rows * columns), patch / columns % rows * 2, patch % columns * 2)
    }

    /// The pixel at (row, column) of an image, `None` outside; both count from 1, so that the padding is 0.
    fn pixel(&self, image: usize, row: usize, column: usize) -> Option<usize> {
        let (row, column) = (row.checked_sub(1)?, column.checked_sub(1)?);
        (row < self.height && column < self.width)
            .then_some((image * self.height + row) * self.width + column)
    }

    /// Where the `side`² pixels of a patch begin, `outside` for the padding; inputs begin one pixel before outputs.
    pub(super) fn sources<const N: usize>(
        &self,
        patch: usize,
        before: usize,
        x: &[f32],
        outside: &[f32],
    ) -> [*const f32; N] {
        let (depth, side) = (outside.len(), N.isqrt());
        let (image, row, column) = self.place(patch);
        std::array::from_fn(|k| {
            match self.pixel(image, row + k / side + 1 - before, column + k % side + 1 - before) {
                Some(pixel) => x[pixel * depth..][..depth].as_ptr(),
                None => outside.as_ptr(),
            }
        })
    }
}

/// G w Gᵀ laid out as [panel, position, depth, width].
struct Weights {
    values: Vec<f32>,
    depth: usize,
    columns: usize,
    width: usize,
}

impl Weights {
    fn new(w: &[f32], packing: &Packing, turned: bool) -> Self {
        let Packing { columns, depth, .. } = *packing;
        let width = panel_width(columns);
        let mut values = vec![0.; columns.div_ceil(width) * 16 * depth * width];
        values.par_chunks_mut(16 * depth * width).enumerate().for_each(|(panel, values)| {
            let own = panel * width..columns.min((panel + 1) * width);
            // A few rows at a time: what is written then stays in the first-level cache.
            for first in (0..depth).step_by(ROWS) {
                for (column, w) in own.clone().map(|o| &w[o * packing.column_stride..]).enumerate()
                {
                    for k in first..(first + ROWS).min(depth) {
                        let kernel = kernel(&w[k * packing.depth_stride..], turned);
                        for (position, value) in transform_kernel(&kernel).into_iter().enumerate() {
                            values[(position * depth + k) * width + column] = value;
                        }
                    }
                }
            }
        });
        Self { values, depth, columns, width }
    }

    fn rows(&self, panel: usize, position: usize) -> &[f32] {
        let length = self.depth * self.width;
        &self.values[(panel * 16 + position) * length..][..length]
    }
}

fn kernel(w: &[f32], turned: bool) -> [f32; 9] {
    std::array::from_fn(|k| w[if turned { 8 - k } else { k }])
}

/// G w Gᵀ.
fn transform_kernel(w: &[f32; 9]) -> [f32; 16] {
    let line = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let rows: [[f32; 4]; 3] = std::array::from_fn(|i| line(w[3 * i], w[3 * i + 1], w[3 * i + 2]));
    let columns: [[f32; 4]; 4] = std::array::from_fn(|j| line(rows[0][j], rows[1][j], rows[2][j]));
    std::array::from_fn(|k| columns[k % 4][k / 4])
}

pub(super) fn forward(x: &[f32], w: &[f32], bias: Option<&[f32]>, sizes: &Sizes) -> Vec<f32> {
    let weights = Weights::new(w, &Packing::forward(sizes), false);
    Pass { source: x, patches: Patches::new(sizes), weights, bias }.run()
}

pub(super) fn input_gradient(dy: &[f32], w: &[f32], sizes: &Sizes) -> Vec<f32> {
    let weights = Weights::new(w, &Packing::backward(sizes), true);
    Pass { source: dy, patches: Patches::new(sizes), weights, bias: None }.run()
}

/// One convolution.
struct Pass<'a> {
    source: &'a [f32],
    patches: Patches,
    weights: Weights,
    bias: Option<&'a [f32]>,
}

/// What a task needs for a block of patches.
#[derive(Default)]
struct Scratch {
    /// Bᵀ d B: [position, patch, depth].
    inputs: Vec<f32>,
    /// Sums over depth: [position, patch, width].
    sums: Vec<f32>,
}

impl Pass<'_> {
    fn run(&self) -> Vec<f32> {
        let Patches { batch, height, width } = self.patches;
        let length = batch * height * width * self.weights.columns;
        let mut values = Vec::with_capacity(length);
        let destination = Destination(values.as_mut_ptr());
        let count = self.patches.count();
        // Whole tiles, at least four of them; fewer patches a block where there are few in all.
        let fitting = BLOCK / (16 * self.weights.depth);
        let shared = count.div_ceil(4 * rayon::current_num_threads());
        let block = (fitting.min(shared) / TILE).max(4) * TILE;
        (0..count.div_ceil(block)).into_par_iter().for_each_init(
            Scratch::default,
            |scratch, task| {
                let patches = task * block..((task + 1) * block).min(count);
                self.block(patches, scratch, &destination);
            },
        );
        // SAFETY: the tasks' patches cover all outputs and their panels all columns, so every element is written.
        unsafe { values.set_len(length) };
        values
    }

    fn block(&self, patches: Range<usize>, scratch: &mut Scratch, destination: &Destination) {
        let Weights { depth, columns, width, .. } = self.weights;
        let outside = vec![0.; depth];
        // The last tile may reach beyond the last patch; what it finds there is not used.
        let rows = patches.len().next_multiple_of(TILE);
        scratch.inputs.resize(16 * rows * depth, 0.);
        scratch.sums.resize(16 * rows * width, 0.);
        for (row, patch) in patches.clone().enumerate() {
            let sources = self.patches.sources::<16>(patch, 1, self.source, &outside);
            transform_input(&sources, depth, &mut scratch.inputs[row * depth..], rows * depth);
        }
        for panel in 0..columns.div_ceil(width) {
            for position in 0..16 {
                self.multiply(panel, position, rows, scratch);
            }
            for (row, patch) in patches.clone().enumerate() {
                self.store(panel, patch, &scratch.sums[row * width..], rows * width, destination);
            }
        }
    }

    /// sums[position] = inputs[position] · weights[panel, position].
    fn multiply(&self, panel: usize, position: usize, rows: usize, scratch: &mut Scratch) {
        let Weights { depth, width, .. } = self.weights;
        let weights = [self.weights.rows(panel, position).as_ptr()];
        let inputs = &scratch.inputs[position * rows * depth..][..rows * depth];
        let sums = &mut scratch.sums[position * rows * width..][..rows * width];
        for (inputs, sums) in
            inputs.chunks_exact(TILE * depth).zip(sums.chunks_exact_mut(TILE * width))
        {
            let sources = std::array::from_fn(|i| inputs[i * depth..][..depth].as_ptr());
            multiply_tile(&[Tap { offset: 0, sources }], &weights, depth, width, sums);
        }
    }

    fn store(
        &self,
        panel: usize,
        patch: usize,
        sums: &[f32],
        stride: usize,
        destination: &Destination,
    ) {
        let Weights { columns, width, .. } = self.weights;
        let first = panel * width;
        let (image, row, column) = self.patches.place(patch);
        let bias = self.bias.map(|bias| {
            let image = if bias.len() == columns { 0 } else { image };
            &bias[image * columns + first..][..width.min(columns - first)]
        });
        let targets = std::array::from_fn(|k| {
            let pixel = self.patches.pixel(image, row + k / 2 + 1, column + k % 2 + 1);
            // SAFETY: a pixel inside the image, so within the capacity.
            pixel.map(|pixel| unsafe { destination.0.add(pixel * columns + first) })
        });
        let output = Output { targets, count: width.min(columns - first), bias };
        transform_output(sums, stride, &output);
    }
}

/// Where a patch's 2x2 outputs go: `count` channels of each, `None` outside the image.
struct Output<'a> {
    targets: [Option<*mut f32>; 4],
    count: usize,
    bias: Option<&'a [f32]>,
}

multiversion! {
    /// Bᵀ d B of one patch: `to[position · stride + channel]`; `sources` are 16 pixels of `depth` channels.
    pub(super) fn transform_input(sources: &[*const f32; 16], depth: usize, to: &mut [f32], stride: usize) =
        transform_input_body;
}

multiversion! {
    /// Aᵀ m A of one patch, plus bias, with m at `sums[position · stride + channel]`.
    fn transform_output(sums: &[f32], stride: usize, output: &Output) = transform_output_body;
}

/// Bᵀ along one axis.
#[inline(always)]
pub(super) fn input_line<const L: usize>(d: [[f32; L]; 4]) -> [[f32; L]; 4] {
    let mut v = [[0.; L]; 4];
    for l in 0..L {
        v[0][l] = d[0][l] - d[2][l];
        v[1][l] = d[1][l] + d[2][l];
        v[2][l] = d[2][l] - d[1][l];
        v[3][l] = d[1][l] - d[3][l];
    }
    v
}

/// Aᵀ along one axis.
#[inline(always)]
fn output_line<const L: usize>(m: [[f32; L]; 4]) -> [[f32; L]; 2] {
    let mut y = [[0.; L]; 2];
    for l in 0..L {
        y[0][l] = m[0][l] + m[1][l] + m[2][l];
        y[1][l] = m[1][l] - m[2][l] - m[3][l];
    }
    y
}

/// `L` numbers from `from` on.
///
/// # Safety
/// There must be as many.
#[inline(always)]
pub(super) unsafe fn load<const L: usize>(from: *const f32) -> [f32; L] {
    // SAFETY: the caller's promise; arrays of f32 may begin at any f32.
    unsafe { from.cast::<[f32; L]>().read() }
}

#[inline(always)]
fn transform_input_body<M: MulAdd, const L: usize>(
    sources: &[*const f32; 16],
    depth: usize,
    to: &mut [f32],
    stride: usize,
) {
    assert!(to.len() >= 15 * stride + depth && depth.is_multiple_of(CHANNELS));
    for c in (0..depth).step_by(L) {
        let mut rows = [[[0.; L]; 4]; 4]; // [column, position along the rows' axis]
        for j in 0..4 {
            // SAFETY: every source has `depth` channels, of which L begin at c.
            let d = std::array::from_fn(|i| unsafe { load(sources[4 * i + j].add(c)) });
            rows[j] = input_line(d);
        }
        for i in 0..4 {
            let v = input_line([rows[0][i], rows[1][i], rows[2][i], rows[3][i]]);
            for j in 0..4 {
                to[(4 * i + j) * stride + c..][..L].copy_from_slice(&v[j]);
            }
        }
    }
}

#[inline(always)]
fn transform_output_body<M: MulAdd, const L: usize>(sums: &[f32], stride: usize, output: &Output) {
    for c in (0..output.count).step_by(L) {
        let mut rows = [[[0.; L]; 2]; 4]; // [column, output along the rows' axis]
        for j in 0..4 {
            let mut m = [[0.; L]; 4];
            for i in 0..4 {
                m[i].copy_from_slice(&sums[(4 * i + j) * stride + c..][..L]);
            }
            rows[j] = output_line(m);
        }
        let mut bias = [0.; L];
        if let Some(values) = output.bias {
            bias.copy_from_slice(&values[c..c + L]);
        }
        for i in 0..2 {
            let y = output_line([rows[0][i], rows[1][i], rows[2][i], rows[3][i]]);
            for j in 0..2 {
                let Some(target) = output.targets[2 * i + j] else { continue };
                for l in 0..L {
                    // SAFETY: the target has `count` channels, a multiple of L, that this panel alone writes.
                    unsafe { target.add(c + l).write(y[j][l] + bias[l]) };
                }
            }
        }
    }
}
