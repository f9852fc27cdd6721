//! The law on the processor: one task a head, in blocks of queries, over the `gemm` crate's matrix product.

use super::Sizes;
use crate::elementary::exp;
use crate::simd::{MulAdd, folded, multiversion};
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// Probabilities held at once: with their gradients they stay in a core's second-level cache.
const HELD: usize = 1 << 17;

/// A matrix inside a slice: rows `row` elements apart, columns `column` apart.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// One head's tokens: [tokens, d].
    fn tokens(values: &'a [f32], sizes: &Sizes, start: usize) -> Self {
        Self { values: &values[start..], row: sizes.channels(), column: 1 }
    }

    fn dense(values: &'a [f32], columns: usize) -> Self {
        Self { values, row: columns, column: 1 }
    }

    fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

/// to = keep · to + scale · a · b, with `to` [m, n] and a's n columns `depth`.
fn product(
    to: &mut [f32],
    row: usize,
    keep: f32,
    scale: f32,
    a: Matrix,
    b: Matrix,
    [m, n, depth]: [usize; 3],
) {
    let last = |matrix: Matrix, rows: usize, columns: usize| {
        (rows - 1) * matrix.row + (columns - 1) * matrix.column
    };
    assert!(m > 0 && n > 0 && depth > 0);
    assert!(last(a, m, depth) < a.values.len() && last(b, depth, n) < b.values.len());
    assert!((m - 1) * row + n <= to.len());
    // SAFETY: the furthest element of each of the three matrices lies inside its slice, as asserted.
    unsafe {
        gemm::gemm(
            m,
            n,
            depth,
            to.as_mut_ptr(),
            1,
            row as isize,
            keep != 0.,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            keep,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Head h of image b: where its tokens begin.
fn start(sizes: &Sizes, tokens: usize, task: usize) -> usize {
    let (b, h) = (task / sizes.heads, task % sizes.heads);
    b * tokens * sizes.channels() + h * sizes.depth
}

fn blocks(sizes: &Sizes) -> impl Iterator<Item = Range<usize>> {
    let (queries, block) = (sizes.queries, (HELD / sizes.keys.max(1)).clamp(32, 256));
    (0..queries).step_by(block).map(move |first| first..(first + block).min(queries))
}

/// p [rows, keys] of a block of queries.
fn probabilities(q: Matrix, k: Matrix, rows: usize, sizes: &Sizes, p: &mut Vec<f32>) {
    p.clear();
    p.resize(rows * sizes.keys, 0.);
    product(
        p,
        sizes.keys,
        0.,
        sizes.scale() as f32,
        q,
        k.transposed(),
        [rows, sizes.keys, sizes.depth],
    );
    softmax_rows(p, sizes.keys);
}

/// Each head's dense results, [tokens, d], put in their places: [batch, tokens, heads · d].
fn interleave(heads: Vec<Vec<f32>>, sizes: &Sizes, tokens: usize) -> Vec<f32> {
    if sizes.heads == 1 {
        return heads.concat();
    }
    let mut whole = vec![0.; sizes.batch * tokens * sizes.channels()];
    for (b, image) in whole.chunks_exact_mut((tokens * sizes.channels()).max(1)).enumerate() {
        for (token, row) in image.chunks_exact_mut(sizes.channels()).enumerate() {
            for (h, head) in row.chunks_exact_mut(sizes.depth).enumerate() {
                head.copy_from_slice(
                    &heads[b * sizes.heads + h][token * sizes.depth..][..sizes.depth],
                );
            }
        }
    }
    whole
}

pub(super) fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes) -> Vec<f32> {
    let heads =
        (0..sizes.batch * sizes.heads).into_par_iter().map(|task| head(q, k, v, sizes, task));
    interleave(heads.collect(), sizes, sizes.queries)
}

fn head(q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes, task: usize) -> Vec<f32> {
    let (from, to) = (start(sizes, sizes.queries, task), start(sizes, sizes.keys, task));
    let (k, v) = (Matrix::tokens(k, sizes, to), Matrix::tokens(v, sizes, to));
    let mut o = vec![0.; sizes.queries * sizes.depth];
    let mut p = Vec::new();
    for block in blocks(sizes) {
        let rows = block.len();
        probabilities(
            Matrix::tokens(q, sizes, from + block.start * sizes.channels()),
            k,
            rows,
            sizes,
            &mut p,
        );
        let o = &mut o[block.start * sizes.depth..];
        product(
            o,
            sizes.depth,
            0.,
            1.,
            Matrix::dense(&p, sizes.keys),
            v,
            [rows, sizes.depth, sizes.keys],
        );
    }
    o
}

pub(super) fn gradients(
    d_o: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    sizes: &Sizes,
) -> [Vec<f32>; 3] {
    let heads: Vec<[Vec<f32>; 3]> = (0..sizes.batch * sizes.heads)
        .into_par_iter()
        .map(|task| head_gradients(d_o, q, k, v, sizes, task))
        .collect();
    let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
    for [q, k, v] in heads {
        dq.push(q);
        dk.push(k);
        dv.push(v);
    }
    [
        interleave(dq, sizes, sizes.queries),
        interleave(dk, sizes, sizes.keys),
        interleave(dv, sizes, sizes.keys),
    ]
}

fn head_gradients(
    d_o: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    sizes: &Sizes,
    task: usize,
) -> [Vec<f32>; 3] {
    let (depth, keys, channels) = (sizes.depth, sizes.keys, sizes.channels());
    let (from, to) = (start(sizes, sizes.queries, task), start(sizes, keys, task));
    let (k, v) = (Matrix::tokens(k, sizes, to), Matrix::tokens(v, sizes, to));
    let (mut dq, mut dk, mut dv) =
        (vec![0.; sizes.queries * depth], vec![0.; keys * depth], vec![0.; keys * depth]);
    let (mut p, mut dp) = (Vec::new(), Vec::new());
    let scale = sizes.scale() as f32;
    for block in blocks(sizes) {
        let rows = block.len();
        let q = Matrix::tokens(q, sizes, from + block.start * channels);
        let d_o = Matrix::tokens(d_o, sizes, from + block.start * channels);
        probabilities(q, k, rows, sizes, &mut p);
        dp.clear();
        dp.resize(rows * keys, 0.);
        product(&mut dp, keys, 0., 1., d_o, v.transposed(), [rows, keys, depth]);
        let p = Matrix::dense(&p, keys);
        product(&mut dv, depth, 1., 1., p.transposed(), d_o, [keys, depth, rows]);
        softmax_slope(p.values, &mut dp, keys);
        let d_logits = Matrix::dense(&dp, keys);
        product(&mut dq[block.start * depth..], depth, 0., scale, d_logits, k, [rows, depth, keys]);
        product(&mut dk, depth, 1., scale, d_logits.transposed(), q, [keys, depth, rows]);
    }
    [dq, dk, dv]
}

multiversion! {
    /// Each row of `columns` logits becomes its softmax.
    fn softmax_rows(logits: &mut [f32], columns: usize) = softmax_rows_body;
}

multiversion! {
    /// dp becomes p · (dp − Σ_j p · dp), row by row.
    fn softmax_slope(p: &[f32], dp: &mut [f32], columns: usize) = softmax_slope_body;
}

/// Lanes of a row's sum and maximum: fixed, so that the order does not depend on the processor.
const LANES: usize = 32;

/// Σ f(a[j], b[j]) in lanes that the compiler keeps in registers.
#[inline(always)]
fn lane_sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for l in 0..LANES {
            sums[l] += f(a[l], b[l]);
        }
    }
    for (sum, (&a, &b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += f(a, b);
    }
    folded(sums, |a, b| a + b)
}

/// The largest of a row, NaN passed over: `exp` brings it back.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] = larger(lanes[l], chunk[l]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, value);
    }
    folded(lanes, larger)
}

#[inline(always)]
fn softmax_rows_body<M: MulAdd, const L: usize>(logits: &mut [f32], columns: usize) {
    for row in logits.chunks_exact_mut(columns) {
        let largest = largest(row);
        for logit in row.iter_mut() {
            *logit = exp::<M>(*logit - largest);
        }
        let inverse = 1. / lane_sum(row, row, |weight, _| weight);
        for weight in row.iter_mut() {
            *weight *= inverse;
        }
    }
}

#[inline(always)]
fn softmax_slope_body<M: MulAdd, const L: usize>(p: &[f32], dp: &mut [f32], columns: usize) {
    for (p, dp) in p.chunks_exact(columns).zip(dp.chunks_exact_mut(columns)) {
        let mean = lane_sum(p, dp, |p, dp| p * dp);
        for (dp, &p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - mean);
        }
    }
}
