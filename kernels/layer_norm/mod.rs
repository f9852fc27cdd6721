//! Layer normalisation over the last dimension, and its gradients.
//!
//! Law: y = x̂ · γ + β, x̂ = (x − μ) / √(σ² + ε), with μ and σ² (biased) over the channels of each row.
//! With g = dy · γ: dx = (g − mean(g) − x̂ · mean(g · x̂)) / √(σ² + ε), dγ = Σ dy · x̂ and dβ = Σ dy over the rows.
//! Source: Ba et al. 2016, eq. 3 and 4; `torch.nn.LayerNorm`.
//!
//! | operand | shape |
//! |---|---|
//! | `x`, `y` | [.., channels] |
//! | `gamma`, `beta` | [channels] |
//!
//! A row stays in the first-level cache between its passes: the limit is bandwidth, 8 bytes an element forward and 12
//! backward. The statistics are taken again in the backward pass rather than kept.

mod device;

use crate::simd::{MulAdd, folded, multiversion};
use crate::view::{Route, View, full, in_full, route, tensor, written};
use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Rows done by one task; their sums are added in 32 bits before they join the 64-bit ones.
const BLOCK: usize = 32;

/// Sums side by side along a row, whatever the vectors of the processor.
const SUMS: usize = 32;

/// Gradients of the three operands, each in its operand's shape.
#[derive(Debug)]
pub struct Gradients {
    /// Gradient of x.
    pub x: Tensor,
    /// Gradient of gamma.
    pub gamma: Tensor,
    /// Gradient of beta.
    pub beta: Tensor,
}

/// Channels, once the shapes were found to fit.
fn channels(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<usize> {
    let channels = x.dim(D::Minus1)?;
    if channels == 0 || gamma.dims() != [channels] || beta.dims() != [channels] {
        bail!(
            "layer norm: expected gamma and beta [{channels}], got {:?} and {:?}",
            gamma.dims(),
            beta.dims()
        );
    }
    Ok(channels)
}

/// y; shapes at the top of this file.
///
/// # Errors
/// When shapes, dtypes or devices do not fit, or an operand is not contiguous.
pub fn forward(x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f64) -> Result<Tensor> {
    let n = channels(x, gamma, beta)?;
    let route = route("layer norm", &[x, gamma, beta])?;
    if route == Route::Cuda {
        return device::forward(x, gamma, beta, epsilon);
    }
    if route == Route::Composed {
        return in_full(&[x, gamma, beta], |t| {
            normed(&t[0], epsilon)?.0.broadcast_mul(&t[1])?.broadcast_add(&t[2])
        });
    }
    let shape = x.dims();
    let [x, gamma, beta] = views(x, gamma, beta)?;
    if route == Route::Reference {
        let (x, gamma, beta) = (x.f64()?, gamma.f64()?, beta.f64()?);
        let row = |x| (0..n).zip(reference_row(x, epsilon).0);
        let y = x.chunks_exact(n).flat_map(|x| row(x).map(|(c, x)| x * gamma[c] + beta[c]));
        return tensor(y.collect(), shape);
    }
    let (x, gamma, beta) = (x.f32()?, gamma.f32()?, beta.f32()?);
    let blocks = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(n * BLOCK)
            .zip(x.par_chunks(n * BLOCK))
            .for_each(|(y, x)| fast_rows(x, gamma, beta, epsilon as f32, y));
    };
    // SAFETY: x is rows of n numbers, of each of which a block writes every one.
    tensor(unsafe { written(x.len(), blocks) }, shape)
}

/// The gradients of Σ dy · y.
///
/// # Errors
/// As [`forward`].
pub fn gradients(
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f64,
) -> Result<Gradients> {
    let n = channels(x, gamma, beta)?;
    if dy.dims() != x.dims() {
        bail!("layer norm: expected the output's gradient as {:?}, got {:?}", x.dims(), dy.dims());
    }
    let route = route("layer norm", &[dy, x, gamma, beta])?;
    if route == Route::Cuda {
        return device::gradients(dy, x, gamma, epsilon);
    }
    if route == Route::Composed {
        return composed_gradients(dy, x, gamma, epsilon);
    }
    let shape = x.dims();
    let [x, gamma, dy] = views(x, gamma, dy)?;
    if route == Route::Reference {
        let (dx, dgamma, dbeta) =
            reference_gradients(dy.f64()?, x.f64()?, gamma.f64()?, epsilon, n);
        return gathered(tensor(dx, shape)?, tensor(dgamma, &[n])?, tensor(dbeta, &[n])?);
    }
    let (dx, sums) = fast_gradients(dy.f32()?, x.f32()?, gamma.f32()?, epsilon, n);
    let narrow = |sums: &[f64]| tensor(sums.iter().map(|&sum| sum as f32).collect(), &[n]);
    gathered(tensor(dx, shape)?, narrow(&sums[..n])?, narrow(&sums[n..])?)
}

fn gathered(x: Tensor, gamma: Tensor, beta: Tensor) -> Result<Gradients> {
    Ok(Gradients { x, gamma, beta })
}

fn views<'a>(x: &'a Tensor, gamma: &'a Tensor, third: &'a Tensor) -> Result<[View<'a>; 3]> {
    Ok([
        View::of("layer norm x", x)?,
        View::of("layer norm gamma", gamma)?,
        View::of("layer norm beta or dy", third)?,
    ])
}

/// (x̂, 1 / √(σ² + ε)) of one row.
fn reference_row(x: &[f64], epsilon: f64) -> (Vec<f64>, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let rstd = 1. / (variance + epsilon).sqrt();
    (x.iter().map(|x| (x - mean) * rstd).collect(), rstd)
}

fn reference_gradients(
    dy: &[f64],
    x: &[f64],
    gamma: &[f64],
    epsilon: f64,
    n: usize,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut dx, mut dgamma, mut dbeta) = (Vec::with_capacity(x.len()), vec![0.; n], vec![0.; n]);
    for (dy, x) in dy.chunks_exact(n).zip(x.chunks_exact(n)) {
        let (normed, rstd) = reference_row(x, epsilon);
        let g: Vec<f64> = dy.iter().zip(gamma).map(|(dy, gamma)| dy * gamma).collect();
        let plain = g.iter().sum::<f64>() / n as f64;
        let along = g.iter().zip(&normed).map(|(g, x)| g * x).sum::<f64>() / n as f64;
        dx.extend(g.iter().zip(&normed).map(|(g, x)| (g - plain - x * along) * rstd));
        for c in 0..n {
            dgamma[c] += dy[c] * normed[c];
            dbeta[c] += dy[c];
        }
    }
    (dx, dgamma, dbeta)
}

/// (x̂, 1 / √(σ² + ε)) by candle's operations.
fn normed(x: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let rstd = (centred.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&rstd)?, rstd))
}

fn composed_gradients(dy: &Tensor, x: &Tensor, gamma: &Tensor, epsilon: f64) -> Result<Gradients> {
    let dtype = x.dtype();
    let [dy, x, gamma] = [full(dy)?, full(x)?, full(gamma)?];
    let (normed, rstd) = normed(&x, epsilon)?;
    let g = dy.broadcast_mul(&gamma)?;
    let along = normed.broadcast_mul(&(&g * &normed)?.mean_keepdim(D::Minus1)?)?;
    let dx = g.broadcast_sub(&g.mean_keepdim(D::Minus1)?)?.sub(&along)?.broadcast_mul(&rstd)?;
    let over_rows = |t: Tensor| t.reshape(((), gamma.elem_count()))?.sum(0);
    let [dgamma, dbeta] = [over_rows((&dy * &normed)?)?, over_rows(dy)?];
    gathered(dx.to_dtype(dtype)?, dgamma.to_dtype(dtype)?, dbeta.to_dtype(dtype)?)
}

/// dx, and the sums [2, n] of dγ and dβ.
fn fast_gradients(
    dy: &[f32],
    x: &[f32],
    gamma: &[f32],
    epsilon: f64,
    n: usize,
) -> (Vec<f32>, Vec<f64>) {
    let mut sums: Vec<Vec<f32>> = Vec::new();
    let blocks = |dx: &mut [MaybeUninit<f32>]| {
        let of_block = |dx: &mut [MaybeUninit<f32>], dy: &[f32], x: &[f32]| {
            let mut sums = vec![0.; 2 * n];
            fast_gradient_rows(dy, x, gamma, epsilon as f32, dx, &mut sums);
            sums
        };
        let operands = dy.par_chunks(n * BLOCK).zip(x.par_chunks(n * BLOCK));
        let blocks = dx.par_chunks_mut(n * BLOCK).zip(operands);
        sums = blocks.map(|(dx, (dy, x))| of_block(dx, dy, x)).collect();
    };
    // SAFETY: x is rows of n numbers, of each of which a block writes every one.
    let dx = unsafe { written(x.len(), blocks) };
    let mut totals = vec![0f64; 2 * n];
    for sums in &sums {
        totals.iter_mut().zip(sums).for_each(|(total, &sum)| *total += f64::from(sum));
    }
    (dx, totals)
}

/// Σ f(a[c], b[c], d[c]) over the channels.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], d: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; SUMS];
    let (a, a_rest) = a.as_chunks::<SUMS>();
    let (b, b_rest) = b.as_chunks::<SUMS>();
    let (d, d_rest) = d.as_chunks::<SUMS>();
    for ((a, b), d) in a.iter().zip(b).zip(d) {
        for l in 0..SUMS {
            sums[l] += f(a[l], b[l], d[l]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).zip(d_rest);
    for (sum, ((&a, &b), &d)) in sums.iter_mut().zip(rest) {
        *sum += f(a, b, d);
    }
    folded(sums, |a, b| a + b)
}

/// μ and 1 / √(σ² + ε) of one row.
#[inline(always)]
fn statistics(x: &[f32], epsilon: f32) -> (f32, f32) {
    let n = x.len();
    // About the first value, so that a large mean costs no digits.
    let about = x[0];
    let mean = about + sum(x, x, x, |x, _, _| x - about) / n as f32;
    let variance = sum(x, x, x, |x, _, _| (x - mean) * (x - mean)) / n as f32;
    (mean, 1. / (variance + epsilon).sqrt())
}

multiversion! {
    fn fast_rows(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, y: &mut [MaybeUninit<f32>]) = fast_rows_body;
}

#[inline(always)]
fn fast_rows_body<M: MulAdd, const L: usize>(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    y: &mut [MaybeUninit<f32>],
) {
    let n = gamma.len();
    let beta = &beta[..n];
    for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
        let (mean, rstd) = statistics(x, epsilon);
        for c in 0..n {
            y[c].write(M::mul_add((x[c] - mean) * rstd, gamma[c], beta[c]));
        }
    }
}

multiversion! {
    /// dx, and onto `sums` [2, n] what these rows add to dγ and dβ.
    fn fast_gradient_rows(dy: &[f32], x: &[f32], gamma: &[f32], epsilon: f32, dx: &mut [MaybeUninit<f32>], sums: &mut [f32]) =
        fast_gradient_body;
}

#[inline(always)]
fn fast_gradient_body<M: MulAdd, const L: usize>(
    dy: &[f32],
    x: &[f32],
    gamma: &[f32],
    epsilon: f32,
    dx: &mut [MaybeUninit<f32>],
    sums: &mut [f32],
) {
    let n = gamma.len();
    let (dgamma, dbeta) = sums.split_at_mut(n);
    let dbeta = &mut dbeta[..n];
    for ((dy, x), dx) in dy.chunks_exact(n).zip(x.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
        let (mean, rstd) = statistics(x, epsilon);
        let plain = sum(dy, gamma, x, |dy, gamma, _| dy * gamma) / n as f32;
        let along = sum(dy, gamma, x, |dy, gamma, x| dy * gamma * (x - mean)) * rstd / n as f32;
        for c in 0..n {
            let normed = (x[c] - mean) * rstd;
            dx[c].write((M::mul_add(dy[c], gamma[c], -plain) - normed * along) * rstd);
            dgamma[c] = M::mul_add(dy[c], normed, dgamma[c]);
            dbeta[c] += dy[c];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, f32, filled, inner};

    const EPSILON: f64 = 1e-5;

    fn operands(rows: usize, n: usize) -> [Tensor; 4] {
        let gamma = (filled(&[n], 2) + 1.).unwrap();
        [filled(&[rows, n], 1), gamma, filled(&[n], 3), filled(&[rows, n], 4)]
    }

    #[test]
    fn the_reference_is_candle_and_its_gradients_the_slopes() {
        let [x, gamma, beta, dy] = operands(5, 7);
        let y = forward(&x, &gamma, &beta, EPSILON).unwrap();
        let by_candle = normed(&x, EPSILON).unwrap().0.broadcast_mul(&gamma).unwrap();
        assert!(distance(&by_candle.broadcast_add(&beta).unwrap(), &y) <= 1e-13);
        let found = gradients(&dy, &x, &gamma, &beta, EPSILON).unwrap();
        let by_candle = composed_gradients(&dy, &x, &gamma, EPSILON).unwrap();
        let pairs = [(&found.x, &by_candle.x), (&found.gamma, &by_candle.gamma)];
        for (a, b) in pairs.into_iter().chain([(&found.beta, &by_candle.beta)]) {
            assert!(distance(a, b) <= 1e-12);
        }
        let moved = |t: &Tensor, by: &Tensor, step: f64| (t + (by * step).unwrap()).unwrap();
        let slope = |at: &dyn Fn(f64) -> Tensor| {
            inner(&((at(1e-5) - at(-1e-5)).unwrap() / 2e-5).unwrap(), &dy)
        };
        let (dx, dn) = (filled(&[5, 7], 5), filled(&[7], 6));
        let of_x = slope(&|s| forward(&moved(&x, &dx, s), &gamma, &beta, EPSILON).unwrap());
        let of_gamma = slope(&|s| forward(&x, &moved(&gamma, &dn, s), &beta, EPSILON).unwrap());
        let of_beta = slope(&|s| forward(&x, &gamma, &moved(&beta, &dn, s), EPSILON).unwrap());
        for (slope, expected) in [
            (of_x, inner(&found.x, &dx)),
            (of_gamma, inner(&found.gamma, &dn)),
            (of_beta, inner(&found.beta, &dn)),
        ] {
            assert!((slope - expected).abs() <= 1e-7 * expected.abs().max(1.), "{slope}");
        }
    }

    #[test]
    fn the_fast_version_is_the_reference_at_awkward_sizes_and_means() {
        for (rows, n, mean) in [(1, 1, 0.), (3, 33, 0.), (70, 31, 2.), (33, 64, 50.), (2, 1280, 0.)]
        {
            let [x, gamma, beta, dy] = operands(rows, n).map(|t| f32(&t));
            let x = (x + mean).unwrap();
            let wide = [&x, &gamma, &beta, &dy].map(|t| t.to_dtype(candle_core::DType::F64));
            let [x64, gamma64, beta64, dy64] = wide.map(|t| t.unwrap());
            let exact = forward(&x64, &gamma64, &beta64, EPSILON).unwrap();
            let y = forward(&x, &gamma, &beta, EPSILON).unwrap();
            // What rounding of x itself costs once its mean is gone.
            let tolerance = 2e-6 * (1. + mean);
            assert!(distance(&y, &exact) <= tolerance, "{rows} {n}: {}", distance(&y, &exact));
            let exact = gradients(&dy64, &x64, &gamma64, &beta64, EPSILON).unwrap();
            let found = gradients(&dy, &x, &gamma, &beta, EPSILON).unwrap();
            if n > 1 {
                assert!(distance(&found.x, &exact.x) <= tolerance, "{rows} {n}");
                assert!(distance(&found.gamma, &exact.gamma) <= tolerance, "{rows} {n}");
            }
            assert!(distance(&found.beta, &exact.beta) <= tolerance, "{rows} {n}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let [x, gamma, beta, dy] = operands(2, 3);
        assert!(forward(&x, &filled(&[4], 1), &beta, EPSILON).is_err());
        assert!(gradients(&dy.t().unwrap(), &x, &gamma, &beta, EPSILON).is_err());
        let poisoned = Tensor::new(&[[1f32, f32::NAN, 0.]], &candle_core::Device::Cpu).unwrap();
        let y = forward(&poisoned, &f32(&gamma), &f32(&beta), EPSILON).unwrap();
        assert!(y.to_vec2::<f32>().unwrap()[0].iter().all(|y| y.is_nan()));
    }
}
