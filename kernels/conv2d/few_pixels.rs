//! Convolutions whose weights outweigh their pixels: deep levels, small batches, the linear layers of a text.
//!
//! Law: with X[p, (c, u, v)] the pixels that output p reads, unfolded, and W[o, (c, u, v)] the weights as checkpoints store
//! them, Y = X Wᵀ, dX = dY W and dW = dYᵀ X.
//! All three are taken without turning or copying W as a whole: it is read once, in its own order, and dW is written so.
//! What is laid out anew is X, which is small here.
//!
//! Each product is cut into tiles of 6 rows by one panel of columns, as in `fast`: rows run along the sum without a gap.
//! | pass | rows | panel |
//! |---|---|---|
//! | forward | channels_out of W | pixels of X |
//! | input gradient | pixels of dY | (c, u, v) of W |
//! | weight gradient | channels_out of dYᵀ | (c, u, v) of X |

use super::Sizes;
use super::fast::{Destination, TILE, Tap, multiply_tile, panel_width};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of W that are summed over at once: a block of X stays in the second-level cache.
const DEPTH: usize = 512;

/// Channels_in of a task, so that its (c, u, v) fill whole panels.
const CHANNELS: usize = 32;

/// Pixels up to which weights outweigh them, for as many channels_out.
const PIXELS: usize = 256;

/// Whether this convolution gains by it.
pub(super) fn applies(sizes: &Sizes) -> bool {
    let pixels = pixels(sizes);
    pixels <= PIXELS && pixels <= sizes.channels_out && sizes.channels_in >= CHANNELS
}

fn pixels(sizes: &Sizes) -> usize {
    sizes.batch * sizes.output.0 * sizes.output.1
}

/// For each output pixel and each tap the input pixel that is read, `None` outside: [pixel, tap].
fn reads(sizes: &Sizes) -> Vec<Option<u32>> {
    let (window, (height, width)) = (sizes.window, sizes.input);
    let (rows, columns) = sizes.output;
    let mut reads = Vec::with_capacity(pixels(sizes) * sizes.taps());
    for pixel in 0..pixels(sizes) {
        let (image, i, j) = (pixel / (rows * columns), pixel / columns % rows, pixel % columns);
        for tap in 0..sizes.taps() {
            let at = |place: usize, offset: usize, size: usize| {
                (place * window.stride + offset).checked_sub(window.before).filter(|&k| k < size)
            };
            let row = at(i, tap / window.kernel, height);
            let column = at(j, tap % window.kernel, width);
            let place = row.zip(column).map(|(r, c)| ((image * height + r) * width + c) as u32);
            reads.push(place);
        }
    }
    reads
}

/// Rows of a tile from `first` on, `depth` numbers each from `skip` on; where there are no more, the last one again.
fn tile(rows: &[f32], first: usize, depth: usize, skip: usize) -> [Tap; 1] {
    let last = rows.len() / depth - 1;
    let sources = std::array::from_fn(|i| rows[(first + i).min(last) * depth + skip..].as_ptr());
    [Tap { offset: 0, sources }]
}

/// y [batch, height_out, width_out, channels_out].
pub(super) fn forward(x: &[f32], w: &[f32], bias: Option<&[f32]>, sizes: &Sizes) -> Vec<f32> {
    let (pixels, channels) = (pixels(sizes), sizes.channels_out);
    let width = panel_width(pixels);
    let columns = by_pixels(x, sizes, width);
    let mut y = Vec::with_capacity(pixels * channels);
    let destination = Destination(y.as_mut_ptr());
    let tiles = channels.div_ceil(TILE);
    // Enough tiles for each block of X that comes to the cache, and enough tasks for every thread.
    let each = tiles.div_ceil(4 * rayon::current_num_threads()).clamp(1, 32);
    (0..tiles.div_ceil(each)).into_par_iter().for_each(|task| {
        let tiles = task * each..((task + 1) * each).min(tiles);
        let sums = products(w, &columns, sizes, width, tiles.clone());
        store(&sums, tiles, width, bias, sizes, &destination);
    });
    // SAFETY: the tasks' tiles cover all channels of every pixel, so every element is written.
    unsafe { y.set_len(pixels * channels) };
    y
}

/// X by panels of pixels: [panel, (c, u, v), width].
fn by_pixels(x: &[f32], sizes: &Sizes, width: usize) -> Vec<f32> {
    let (taps, depth, reads) = (sizes.taps(), sizes.channels_in, reads(sizes));
    let mut columns = vec![0.; pixels(sizes).div_ceil(width) * depth * taps * width];
    columns.par_chunks_mut(depth * taps * width).enumerate().for_each(|(panel, columns)| {
        let reads = &reads[panel * width * taps..];
        // A few channels at a time: what is written then stays in the first-level cache.
        for (block, columns) in columns.chunks_mut(8 * taps * width).enumerate() {
            for (k, place) in reads.iter().take(width * taps).enumerate() {
                let Some(place) = place else { continue };
                let (slot, tap) = (k / taps, k % taps);
                let from = &x[*place as usize * depth + 8 * block..(*place as usize + 1) * depth];
                let to = columns[tap * width + slot..].iter_mut().step_by(taps * width);
                to.zip(from).for_each(|(to, &x)| *to = x);
            }
        }
    });
    columns
}

/// Y of some tiles of channels: [tile, panel, 6, width].
fn products(
    w: &[f32],
    columns: &[f32],
    sizes: &Sizes,
    width: usize,
    tiles: Range<usize>,
) -> Vec<f32> {
    let depth = sizes.channels_in * sizes.taps();
    let panels = columns.len() / (depth * width);
    let mut sums = vec![0.; tiles.len() * panels * TILE * width];
    let mut part = [0.; TILE * 32];
    let part = &mut part[..TILE * width];
    for first in (0..depth).step_by(DEPTH) {
        let count = DEPTH.min(depth - first);
        let mut sums = sums.chunks_exact_mut(TILE * width);
        for number in tiles.clone() {
            let rows = tile(w, number * TILE, depth, first);
            for (panel, sums) in columns.chunks_exact(depth * width).zip(sums.by_ref()) {
                multiply_tile(&rows, &[panel[first * width..].as_ptr()], count, width, part);
                sums.iter_mut().zip(part.iter()).for_each(|(sum, part)| *sum += part);
            }
        }
    }
    sums
}

fn store(
    sums: &[f32],
    tiles: Range<usize>,
    width: usize,
    bias: Option<&[f32]>,
    sizes: &Sizes,
    destination: &Destination,
) {
    let (pixels, channels) = (pixels(sizes), sizes.channels_out);
    let each = pixels / sizes.batch;
    let panels = pixels.div_ceil(width);
    for (k, sums) in sums.chunks_exact(TILE * width).enumerate() {
        let first = (tiles.start + k / panels) * TILE;
        for pixel in (k % panels * width..pixels).take(width) {
            for channel in first..(first + TILE).min(channels) {
                let sum = sums[(channel - first) * width + pixel % width];
                let bias = bias.map_or(0., |bias| {
                    let image = if bias.len() == channels { 0 } else { pixel / each };
                    bias[image * channels + channel]
                });
                // SAFETY: within the capacity, and no other task has this tile of channels.
                unsafe { destination.0.add(pixel * channels + channel).write(sum + bias) };
            }
        }
    }
}

/// dx [batch, height, width, channels_in].
pub(super) fn input_gradient(dy: &[f32], w: &[f32], sizes: &Sizes) -> Vec<f32> {
    let reads = reads(sizes);
    let places = sizes.batch * sizes.input.0 * sizes.input.1;
    let mut dx = Vec::with_capacity(places * sizes.channels_in);
    let destination = Destination(dx.as_mut_ptr());
    let tasks = sizes.channels_in.div_ceil(CHANNELS);
    (0..tasks).into_par_iter().for_each(|task| {
        let channels = task * CHANNELS..((task + 1) * CHANNELS).min(sizes.channels_in);
        let unfolded = unfolded_gradient(dy, w, sizes, channels.clone());
        let folded = fold(&unfolded, &reads, channels.len(), sizes);
        for (place, folded) in folded.chunks_exact(channels.len()).enumerate() {
            // SAFETY: within the capacity, and no other task has these channels.
            unsafe { destination.write(place * sizes.channels_in + channels.start, folded) };
        }
    });
    // SAFETY: the tasks' channels cover all, at every place.
    unsafe { dx.set_len(places * sizes.channels_in) };
    dx
}

/// dY W for some channels_in: [pixel, (c, u, v)], each row filled up to whole panels.
fn unfolded_gradient(dy: &[f32], w: &[f32], sizes: &Sizes, channels: Range<usize>) -> Vec<f32> {
    let (taps, depth) = (sizes.taps(), sizes.channels_out);
    let columns = channels.len() * taps;
    let width = panel_width(columns);
    let panels = columns.div_ceil(width);
    let mut packed = vec![0.; panels * depth * width];
    for (row, w) in w.chunks_exact(sizes.channels_in * taps).enumerate() {
        let own = &w[channels.start * taps..][..columns];
        for (panel, own) in own.chunks(width).enumerate() {
            packed[(panel * depth + row) * width..][..own.len()].copy_from_slice(own);
        }
    }
    let mut unfolded = vec![0.; pixels(sizes).next_multiple_of(TILE) * panels * width];
    let mut part = [0.; TILE * 32];
    for (panel, packed) in packed.chunks_exact(depth * width).enumerate() {
        for first in (0..pixels(sizes)).step_by(TILE) {
            let rows = tile(dy, first, depth, 0);
            multiply_tile(&rows, &[packed.as_ptr()], depth, width, &mut part[..TILE * width]);
            for (i, part) in part[..TILE * width].chunks_exact(width).enumerate() {
                let at = ((first + i) * panels + panel) * width;
                unfolded[at..at + width].copy_from_slice(part);
            }
        }
    }
    unfolded
}

/// What every input pixel gets of the outputs that read it: [pixel of the input, channel].
fn fold(unfolded: &[f32], reads: &[Option<u32>], channels: usize, sizes: &Sizes) -> Vec<f32> {
    let taps = sizes.taps();
    let row = (channels * taps).next_multiple_of(panel_width(channels * taps));
    let mut folded = vec![0.; sizes.batch * sizes.input.0 * sizes.input.1 * channels];
    for (reads, unfolded) in reads.chunks_exact(taps).zip(unfolded.chunks_exact(row)) {
        for (tap, place) in reads.iter().enumerate() {
            let Some(place) = place else { continue };
            let to = &mut folded[*place as usize * channels..][..channels];
            let from = unfolded[tap..].iter().step_by(taps);
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }
    folded
}

/// dw [channels_out, channels_in, kernel, kernel].
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], sizes: &Sizes) -> Vec<f32> {
    let (reads, pixels) = (reads(sizes), pixels(sizes));
    let turned = turned(dy, sizes.channels_out);
    let row = sizes.channels_in * sizes.taps();
    let mut dw = Vec::with_capacity(sizes.channels_out * row);
    let destination = Destination(dw.as_mut_ptr());
    let tasks = sizes.channels_in.div_ceil(CHANNELS);
    (0..tasks).into_par_iter().for_each(|task| {
        let channels = task * CHANNELS..((task + 1) * CHANNELS).min(sizes.channels_in);
        let columns = channels.len() * sizes.taps();
        let width = panel_width(columns);
        let panels = by_columns(x, &reads, sizes, channels.clone(), width);
        let mut part = [0.; TILE * 32];
        for first in (0..sizes.channels_out).step_by(TILE) {
            let rows = tile(&turned, first, pixels, 0);
            for (panel, values) in panels.chunks_exact(pixels * width).enumerate() {
                let part = &mut part[..TILE * width];
                multiply_tile(&rows, &[values.as_ptr()], pixels, width, part);
                let count = width.min(columns - panel * width);
                for i in 0..TILE.min(sizes.channels_out - first) {
                    let start = (first + i) * row + channels.start * sizes.taps() + panel * width;
                    // SAFETY: within the capacity, and no other task has these channels.
                    unsafe { destination.write(start, &part[i * width..][..count]) };
                }
            }
        }
    });
    // SAFETY: the tasks' channels cover all, in every row.
    unsafe { dw.set_len(sizes.channels_out * row) };
    dw
}

/// dYᵀ: [channels, pixels].
fn turned(dy: &[f32], channels: usize) -> Vec<f32> {
    let pixels = dy.len() / channels;
    let mut turned = vec![0.; dy.len()];
    turned.par_chunks_mut(16 * pixels).enumerate().for_each(|(block, turned)| {
        for (pixel, dy) in dy.chunks_exact(channels).enumerate() {
            let to = turned[pixel..].iter_mut().step_by(pixels);
            to.zip(&dy[16 * block..]).for_each(|(to, &dy)| *to = dy);
        }
    });
    turned
}

/// X by panels of some channels' (c, u, v): [panel, pixel, width].
fn by_columns(
    x: &[f32],
    reads: &[Option<u32>],
    sizes: &Sizes,
    channels: Range<usize>,
    width: usize,
) -> Vec<f32> {
    let taps = sizes.taps();
    let columns = channels.len() * taps;
    let mut panels = vec![0.; columns.div_ceil(width) * pixels(sizes) * width];
    let mut row = vec![0.; columns.next_multiple_of(width)];
    for (pixel, reads) in reads.chunks_exact(taps).enumerate() {
        for (tap, place) in reads.iter().enumerate() {
            let to = row[tap..columns].iter_mut().step_by(taps);
            match place {
                None => to.for_each(|to| *to = 0.),
                Some(place) => {
                    let from = &x[*place as usize * sizes.channels_in..][channels.clone()];
                    to.zip(from).for_each(|(to, &x)| *to = x);
                }
            }
        }
        for (panel, row) in row.chunks_exact(width).enumerate() {
            panels[(panel * pixels(sizes) + pixel) * width..][..width].copy_from_slice(row);
        }
    }
    panels
}
