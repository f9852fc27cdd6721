//! Softmax over hidden units for many samples at once, and the products around it.
//!
//! Logits stand as [units, samples]: a maximum, an exponential or a sum over units is then one vector instruction for
//! eight samples.

use crate::vectorized::vectorized;
use gemm::Parallelism;
use std::ops::Range;

/// Samples whose logits stay in the first cache through all passes.
const COLUMNS: usize = 64;

/// e^x for x ≤ 0 to about two units in the last place, 0 below −700; without a branch, for whole vectors.
///
/// x = n·ln 2 + r, e^x = 2^n·e^r, e^r by its series to the 13th order.
#[inline(always)]
fn exp(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.; // 1.5 · 2^52: adding it rounds to an integer
    const LN2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    const FACTORIALS: [f64; 13] = [
        479_001_600.,
        39_916_800.,
        3_628_800.,
        362_880.,
        40_320.,
        5_040.,
        720.,
        120.,
        24.,
        6.,
        2.,
        1.,
        1.,
    ];
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2[0]) - n * LN2[1];
    let mut series = 1. / 6_227_020_800.;
    for factorial in FACTORIALS {
        series = series * r + 1. / factorial;
    }
    // The low bits of `shifted` are n: 2^n without a conversion.
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    // A comparison that a NaN passes, so that it is not hidden.
    if x < -700. { 0. } else { power * series }
}

vectorized! {
    /// Turns `logits` [k, n] into masses · softmax over the units; returns Σ_j mass_j log Σ_μ e^{logit_μj}.
    ///
    /// `masses`: [n], each times `scale`; `biases` [k] are added to the logits first.
    pub(super) fn associate(
        logits: &mut [f64],
        biases: Option<&[f64]>,
        masses: &[f64],
        scale: f64,
    ) -> f64 = associate_lanes;
}

#[inline(always)]
fn associate_lanes(logits: &mut [f64], biases: Option<&[f64]>, masses: &[f64], scale: f64) -> f64 {
    let n = masses.len();
    let mut total = 0.;
    for first in (0..n).step_by(COLUMNS) {
        total += associate_block(logits, n, first..(first + COLUMNS).min(n), biases, masses, scale);
    }
    total
}

/// The columns `block` of [`associate`]: closures would be compiled apart, without the wide registers.
#[inline(always)]
fn associate_block(
    logits: &mut [f64],
    n: usize,
    block: Range<usize>,
    biases: Option<&[f64]>,
    masses: &[f64],
    scale: f64,
) -> f64 {
    let (mut largest, mut sums) = ([f64::NEG_INFINITY; COLUMNS], [0.; COLUMNS]);
    let (largest, sums) = (&mut largest[..block.len()], &mut sums[..block.len()]);
    for (unit, row) in logits.chunks_exact_mut(n).enumerate() {
        let bias = biases.map_or(0., |biases| biases[unit]);
        for (logit, largest) in row[block.clone()].iter_mut().zip(&mut *largest) {
            *logit += bias;
            *largest = if *logit > *largest { *logit } else { *largest };
        }
    }
    for row in logits.chunks_exact_mut(n) {
        let row = row[block.clone()].iter_mut();
        for ((logit, largest), sum) in row.zip(&*largest).zip(&mut *sums) {
            *logit = exp(*logit - largest);
            *sum += *logit;
        }
    }
    let mut total = 0.;
    for ((sum, largest), mass) in sums.iter_mut().zip(largest).zip(&masses[block.clone()]) {
        total += scale * mass * (*largest + sum.ln());
        *sum = scale * mass / *sum;
    }
    for row in logits.chunks_exact_mut(n) {
        let row = row[block.clone()].iter_mut();
        row.zip(&*sums).for_each(|(weight, share)| *weight *= share);
    }
    total
}

/// log Σ e^l.
pub(super) fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

/// e^l / Σ e^l, in place.
pub(super) fn normalize(logits: &mut [f64]) {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
    let total: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|weight| *weight /= total);
}

/// Σ a b, in eight running sums that stay in registers.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.; 8];
    for (a, b) in a_eights.iter().zip(b_eights) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// A matrix in a slice: numbers, and how far apart rows and columns lie.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a>(&'a [f64], usize, usize);

impl<'a> Matrix<'a> {
    /// `values`: [rows, columns], row after row.
    pub fn rows(values: &'a [f64], columns: usize) -> Self {
        Self(values, columns, 1)
    }

    /// The transpose of `values`: [columns, rows], row after row.
    pub fn transposed(values: &'a [f64], columns: usize) -> Self {
        Self(values, 1, columns)
    }

    fn reaches(&self, rows: usize, columns: usize) -> bool {
        self.0.len() > (rows - 1) * self.1 + (columns - 1) * self.2
    }
}

/// to = keep·to + scale·a·b with `to` [m, n] row after row, a [m, depth], b [depth, n].
pub(super) fn multiply(
    to: &mut [f64],
    [keep, scale]: [f64; 2],
    a: Matrix,
    b: Matrix,
    [m, n, depth]: [usize; 3],
) {
    if m == 0 || n == 0 || depth == 0 {
        return;
    }
    assert!(a.reaches(m, depth) && b.reaches(depth, n) && to.len() >= m * n);
    // SAFETY: the furthest element of each matrix lies inside its slice, as asserted; `to` overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            depth,
            to.as_mut_ptr(),
            1,
            n as isize,
            keep != 0.,
            a.0.as_ptr(),
            a.2 as isize,
            a.1 as isize,
            b.0.as_ptr(),
            b.2 as isize,
            b.1 as isize,
            keep,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_candlex::rng::Seed;

    #[test]
    fn exp_is_good_to_two_units_in_the_last_place() {
        for i in 0..200_000 {
            let x = -10f64.powf(f64::from(i) / 200_000. * 20. - 17.2);
            let exact = if x < -700. { 0. } else { x.exp() };
            assert!((exp(x) - exact).abs() <= 3. * f64::EPSILON * exact, "{x}");
        }
        assert!(exp(0.) == 1. && exp(f64::NEG_INFINITY) == 0. && exp(f64::NAN).is_nan());
    }

    #[test]
    fn many_columns_agree_with_one_at_a_time() {
        for (k, n) in [(1, 1), (3, 64), (5, 65), (26, 200)] {
            let mut draws = Seed(1).stream("logits").at(0, 0);
            // Up to about 1e4.
            let logits: Vec<f64> =
                (0..k * n).map(|i| draws.normal_pair()[0] * 10f64.powi(i as i32 % 5)).collect();
            let biases: Vec<f64> = (0..k).map(|_| draws.normal_pair()[0]).collect();
            let masses: Vec<f64> = (0..n).map(|_| draws.uniform()).collect();
            let mut weights = logits.clone();
            let total = associate(&mut weights, Some(&biases), &masses, 0.5);
            let mut expected = 0.;
            for j in 0..n {
                let mut column: Vec<f64> = (0..k).map(|i| logits[i * n + j] + biases[i]).collect();
                expected += 0.5 * masses[j] * log_sum_exp(&column);
                normalize(&mut column);
                for i in 0..k {
                    assert!((weights[i * n + j] - 0.5 * masses[j] * column[i]).abs() <= 1e-15);
                }
            }
            assert!((total - expected).abs() <= 1e-14 * (n as f64) * expected.abs());
        }
    }

    #[test]
    fn products_take_both_layouts() {
        let a: Vec<f64> = (0..6).map(f64::from).collect();
        let b: Vec<f64> = (0..12).map(f64::from).collect();
        let naive =
            |i: usize, j: usize| -> f64 { (0..3).map(|l| a[i * 3 + l] * b[l * 4 + j]).sum() };
        let transposed: Vec<f64> = (0..12).map(|at| b[at % 3 * 4 + at / 3]).collect();
        for b in [Matrix::rows(&b, 4), Matrix::transposed(&transposed, 3)] {
            let mut to = vec![1.; 8];
            multiply(&mut to, [1., 2.], Matrix::rows(&a, 3), b, [2, 4, 3]);
            for at in 0..8 {
                assert_eq!(to[at], 1. + 2. * naive(at / 4, at % 4));
            }
        }
    }
}
