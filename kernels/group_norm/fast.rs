//! The law on the processor: an image's statistics, then its pixels, both in blocks of rows that are shared out.

use super::{Activation, GroupNorm, Sizes};
use crate::elementary::sigmoid;
use crate::simd::{MulAdd, multiversion};
use crate::view::{copied, written};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Rows added in 32 bits before they join the 64-bit sums.
const BLOCK: usize = 64;

/// Per channel of one image: what turns x into z.
struct Scales {
    /// μ of the channel's group.
    mean: Vec<f32>,
    /// 1 / √(σ² + ε) of the channel's group.
    rstd: Vec<f32>,
    /// γ / √(σ² + ε).
    scale: Vec<f32>,
}

pub(super) fn forward(
    norm: &GroupNorm,
    sizes: &Sizes,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
) -> Vec<f32> {
    let length = sizes.pixels * sizes.channels;
    let of_image = |(b, y): (usize, &mut [MaybeUninit<f32>])| {
        let x = &x[b * length..][..length];
        let own = example(sizes, b);
        let scales = Scales::of(norm, sizes, x, &gamma[own.clone()]);
        match norm.activation {
            Activation::Identity => {
                in_blocks(sizes.channels, x, x, y, |x, _, y| {
                    apply(x, &scales, &beta[own.clone()], y)
                });
            }
            Activation::Silu => in_blocks(sizes.channels, x, x, y, |x, _, y| {
                apply_silu(x, &scales, &beta[own.clone()], y);
            }),
        }
    };
    let images = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(length.max(1)).enumerate().for_each(of_image);
    };
    // SAFETY: x is whole images of whole rows, of each of which every number is written.
    unsafe { written(x.len(), images) }
}

pub(super) fn gradients(
    norm: &GroupNorm,
    sizes: &Sizes,
    dy: &[f32],
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let length = sizes.pixels * sizes.channels;
    let of_image = |(b, dx): (usize, &mut [MaybeUninit<f32>])| {
        let (x, dy) = (&x[b * length..][..length], &dy[b * length..][..length]);
        let own = example(sizes, b);
        let scales = Scales::of(norm, sizes, x, &gamma[own.clone()]);
        let dx = slopes(norm, sizes, dy, x, &beta[own.clone()], &scales, dx);
        image_gradients(sizes, x, &gamma[own], &scales, dx)
    };
    let mut sums: Vec<Sums> = Vec::new();
    let images = |dx: &mut [MaybeUninit<f32>]| {
        sums = dx.par_chunks_mut(length.max(1)).enumerate().map(of_image).collect();
    };
    // SAFETY: as in `forward`.
    let dx = unsafe { written(x.len(), images) };
    let (mut dgamma, mut dbeta) = (vec![0f64; gamma.len()], vec![0f64; beta.len()]);
    for (b, sums) in sums.iter().enumerate() {
        let own = example(sizes, b);
        for (c, k) in own.enumerate() {
            dgamma[k] += sums.normed[c];
            dbeta[k] += sums.plain[c];
        }
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    (dx, narrow(dgamma), narrow(dbeta))
}

/// Where example `b` finds its gamma and beta.
fn example(sizes: &Sizes, b: usize) -> std::ops::Range<usize> {
    let start = if sizes.per_example { b * sizes.channels } else { 0 };
    start..start + sizes.channels
}

impl Scales {
    /// Statistics of one image's groups from sums about each channel's first value, which keeps them exact for large means.
    fn of(norm: &GroupNorm, sizes: &Sizes, x: &[f32], gamma: &[f32]) -> Self {
        let (channels, each) = (sizes.channels, sizes.channels / sizes.groups);
        let about = &x[..channels.min(x.len())];
        let (first, second) = blocked(channels, x, &[], |rows, _, sums| moments(rows, about, sums));
        let n = sizes.pixels as f64;
        let (mut mean, mut rstd) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
        for group in (0..channels).step_by(each) {
            let own = group..group + each;
            let channel_mean = |c: usize| f64::from(about[c]) + first[c] / n;
            let group_mean = own.clone().map(channel_mean).sum::<f64>() / each as f64;
            let squares = |c: usize| {
                second[c] - first[c] * first[c] / n + n * (channel_mean(c) - group_mean).powi(2)
            };
            let variance = own.clone().map(squares).sum::<f64>() / (n * each as f64);
            mean.resize(own.end, group_mean as f32);
            rstd.resize(own.end, (1. / (variance + norm.epsilon).sqrt()) as f32);
        }
        let scale = gamma.iter().zip(&rstd).map(|(gamma, rstd)| gamma * rstd).collect();
        Self { mean, rstd, scale }
    }
}

/// Per channel of one image: Σ dz and Σ dz · x̂.
struct Sums {
    plain: Vec<f64>,
    normed: Vec<f64>,
}

/// dz of one image, which waits in dx until its sums are known.
fn slopes<'a>(
    norm: &GroupNorm,
    sizes: &Sizes,
    dy: &[f32],
    x: &[f32],
    beta: &[f32],
    scales: &Scales,
    dx: &'a mut [MaybeUninit<f32>],
) -> &'a mut [f32] {
    match norm.activation {
        Activation::Identity => copied(dx, dy),
        Activation::Silu => in_blocks(sizes.channels, x, dy, dx, |x, dy, dx| {
            silu_slope(dy, x, scales, beta, dx);
        }),
    }
    // SAFETY: an image is whole rows, of each of which every number was written.
    unsafe { &mut *(std::ptr::from_mut(dx) as *mut [f32]) }
}

/// From dz in dx to dx, in place.
fn image_gradients(
    sizes: &Sizes,
    x: &[f32],
    gamma: &[f32],
    scales: &Scales,
    dx: &mut [f32],
) -> Sums {
    let (plain, centred) =
        blocked(sizes.channels, dx, x, |dz, x, sums| products(dz, x, &scales.mean, sums));
    let normed: Vec<f64> =
        centred.iter().zip(&scales.rstd).map(|(sum, &rstd)| sum * f64::from(rstd)).collect();
    let each = sizes.channels / sizes.groups;
    let n = (sizes.pixels * each) as f64;
    let group_mean = |sums: &[f64], c: usize| {
        let own = c / each * each..(c / each + 1) * each;
        own.map(|c| sums[c] * f64::from(gamma[c])).sum::<f64>() / n
    };
    let (mut offset, mut slope) =
        (Vec::with_capacity(sizes.channels), Vec::with_capacity(sizes.channels));
    for c in 0..sizes.channels {
        let rstd = f64::from(scales.rstd[c]);
        offset.push((rstd * group_mean(&plain, c)) as f32);
        slope.push((rstd * rstd * group_mean(&normed, c)) as f32);
    }
    in_blocks(sizes.channels, x, x, dx, |x, _, dx| finish(x, scales, &offset, &slope, dx));
    Sums { plain, normed }
}

/// Adds pairs of per-channel sums over blocks of rows, 32 bits within a block and 64 beyond.
fn blocked(
    channels: usize,
    first: &[f32],
    second: &[f32],
    add: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
) -> (Vec<f64>, Vec<f64>) {
    let mut totals = vec![0f64; 2 * channels];
    let block = BLOCK * channels.max(1);
    let one = |(k, rows): (usize, &[f32])| {
        let mut sums = vec![0f32; 2 * channels];
        add(rows, second.get(k * block..k * block + rows.len()).unwrap_or(&[]), &mut sums);
        sums
    };
    let blocks: Vec<Vec<f32>> = first.par_chunks(block).enumerate().map(one).collect();
    for sums in &blocks {
        totals.iter_mut().zip(sums).for_each(|(total, &sum)| *total += f64::from(sum));
    }
    let second = totals.split_off(channels);
    (totals, second)
}

/// Calls `work` on blocks of the rows of x, another operand of the same shape, and y.
fn in_blocks<T: Send>(
    channels: usize,
    x: &[f32],
    other: &[f32],
    y: &mut [T],
    work: impl Fn(&[f32], &[f32], &mut [T]) + Sync,
) {
    let block = BLOCK * channels.max(1);
    let rows = x.par_chunks(block).zip(other.par_chunks(block));
    y.par_chunks_mut(block).zip(rows).for_each(|(y, (x, other))| work(x, other, y));
}

multiversion! {
    /// sums[0, c] += Σ (x − about), sums[1, c] += Σ (x − about)².
    fn moments(rows: &[f32], about: &[f32], sums: &mut [f32]) = moments_body;
}

multiversion! {
    /// sums[0, c] += Σ dz, sums[1, c] += Σ dz · (x − μ).
    fn products(dz: &[f32], x: &[f32], mean: &[f32], sums: &mut [f32]) = products_body;
}

multiversion! {
    /// y = (x − μ) · scale + β.
    fn apply(x: &[f32], scales: &Scales, beta: &[f32], y: &mut [MaybeUninit<f32>]) = apply_body;
}

multiversion! {
    /// y = silu((x − μ) · scale + β).
    fn apply_silu(x: &[f32], scales: &Scales, beta: &[f32], y: &mut [MaybeUninit<f32>]) = apply_silu_body;
}

multiversion! {
    /// dz = dy · silu′(z).
    fn silu_slope(dy: &[f32], x: &[f32], scales: &Scales, beta: &[f32], dz: &mut [MaybeUninit<f32>]) = silu_slope_body;
}

multiversion! {
    /// dx = scale · dz − offset − slope · (x − μ), in place of dz.
    fn finish(x: &[f32], scales: &Scales, offset: &[f32], slope: &[f32], dx: &mut [f32]) = finish_body;
}

#[inline(always)]
fn moments_body<M: MulAdd, const L: usize>(rows: &[f32], about: &[f32], sums: &mut [f32]) {
    let n = about.len();
    let (first, second) = sums.split_at_mut(n);
    let second = &mut second[..n];
    for row in rows.chunks_exact(n) {
        for c in 0..n {
            let d = row[c] - about[c];
            first[c] += d;
            second[c] = M::mul_add(d, d, second[c]);
        }
    }
}

#[inline(always)]
fn products_body<M: MulAdd, const L: usize>(dz: &[f32], x: &[f32], mean: &[f32], sums: &mut [f32]) {
    let n = mean.len();
    let (first, second) = sums.split_at_mut(n);
    let second = &mut second[..n];
    for (dz, x) in dz.chunks_exact(n).zip(x.chunks_exact(n)) {
        for c in 0..n {
            first[c] += dz[c];
            second[c] = M::mul_add(dz[c], x[c] - mean[c], second[c]);
        }
    }
}

/// y = value(x − μ, scale, β, other), in each pixel's channels.
#[inline(always)]
fn for_each_row(
    x: &[f32],
    other: &[f32],
    scales: &Scales,
    beta: &[f32],
    y: &mut [MaybeUninit<f32>],
    value: impl Fn(f32, f32, f32, f32) -> f32,
) {
    let n = beta.len();
    let (mean, scale) = (&scales.mean[..n], &scales.scale[..n]);
    let rows = x.chunks_exact(n).zip(other.chunks_exact(n));
    for ((x, other), y) in rows.zip(y.chunks_exact_mut(n)) {
        for c in 0..n {
            y[c].write(value(x[c] - mean[c], scale[c], beta[c], other[c]));
        }
    }
}

#[inline(always)]
fn apply_body<M: MulAdd, const L: usize>(
    x: &[f32],
    scales: &Scales,
    beta: &[f32],
    y: &mut [MaybeUninit<f32>],
) {
    for_each_row(x, x, scales, beta, y, |d, scale, beta, _| M::mul_add(d, scale, beta));
}

#[inline(always)]
fn apply_silu_body<M: MulAdd, const L: usize>(
    x: &[f32],
    scales: &Scales,
    beta: &[f32],
    y: &mut [MaybeUninit<f32>],
) {
    for_each_row(x, x, scales, beta, y, |d, scale, beta, _| {
        let z = M::mul_add(d, scale, beta);
        z * sigmoid::<M>(z)
    });
}

#[inline(always)]
fn silu_slope_body<M: MulAdd, const L: usize>(
    dy: &[f32],
    x: &[f32],
    scales: &Scales,
    beta: &[f32],
    dz: &mut [MaybeUninit<f32>],
) {
    for_each_row(x, dy, scales, beta, dz, |d, scale, beta, dy| {
        let z = M::mul_add(d, scale, beta);
        let sigmoid = sigmoid::<M>(z);
        dy * sigmoid * M::mul_add(z, 1. - sigmoid, 1.)
    });
}

#[inline(always)]
fn finish_body<M: MulAdd, const L: usize>(
    x: &[f32],
    scales: &Scales,
    offset: &[f32],
    slope: &[f32],
    dx: &mut [f32],
) {
    let n = offset.len();
    let slope = &slope[..n];
    let (mean, scale) = (&scales.mean[..n], &scales.scale[..n]);
    for (x, dx) in x.chunks_exact(n).zip(dx.chunks_exact_mut(n)) {
        for c in 0..n {
            dx[c] = M::mul_add(-slope[c], x[c] - mean[c], M::mul_add(scale[c], dx[c], -offset[c]));
        }
    }
}
