//! Sums of rows: the gradient of a bias.

use crate::simd::{MulAdd, multiversion};
use rayon::prelude::*;

/// Rows added in 32 bits before they join the 64-bit sums.
const BLOCK: usize = 64;

/// Sums of every `rows` rows of `channels` values.
pub(super) fn reference(dy: &[f64], rows: usize, channels: usize) -> Vec<f64> {
    let mut sums = Vec::new();
    for rows in dy.chunks_exact((rows * channels).max(1)) {
        sums.extend((0..channels).map(|c| rows.iter().skip(c).step_by(channels).sum::<f64>()));
    }
    sums
}

/// As [`reference`].
pub(super) fn fast(dy: &[f32], rows: usize, channels: usize) -> Vec<f32> {
    let blocks = dy.par_chunks((rows * channels).max(1)).map(|rows| {
        let parts: Vec<Vec<f32>> =
            rows.par_chunks(BLOCK * channels).map(|rows| block(rows, channels)).collect();
        let mut sums = vec![0f64; channels];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
        }
        sums.into_iter().map(|sum| sum as f32).collect::<Vec<f32>>()
    });
    blocks.collect::<Vec<_>>().concat()
}

fn block(rows: &[f32], channels: usize) -> Vec<f32> {
    let mut sums = vec![0.; channels];
    add_rows(rows, &mut sums);
    sums
}

multiversion! {
    /// sums[c] += Σ rows[·, c].
    fn add_rows(rows: &[f32], sums: &mut [f32]) = add_rows_body;
}

#[inline(always)]
fn add_rows_body<M: MulAdd, const L: usize>(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}
