//! The gated linear unit of transformers: one half of the channels, gated by the other.
//!
//! Law: y = a · gelu(b) with a, b the halves of x's channels, gelu(b) = b · Φ(b), Φ the normal distribution function.
//! ∂y/∂a = b·Φ(b), ∂y/∂b = a · (Φ(b) + b·φ(b)).
//! Source: Shazeer 2020, section 2; Hendrycks & Gimpel 2016, the exact form.
//!
//! In 32 bits Φ(−t) = e^(−t²/2) · g(1 / (1 + t/3.03)), t ≥ 0, with g the polynomial of ninth order that fits
//! e^(t²/2)·Φ(−t) for t up to 14 to 1.3e-8, relatively; so the gradient's φ comes along for nothing.
//! Operations: about 40 an element; bandwidth is the limit, 12 bytes forward and 20 backward for each number of y.

mod device;

use crate::elementary::exp;
use crate::simd::{MulAdd, multiversion};
use crate::view::{Route, View, in_full, route, tensor, written};
use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Rows done by one task.
const BLOCK: usize = 64;

/// [.., 2n] → [.., n].
///
/// # Errors
/// When the channels are odd, or the operand is not contiguous.
pub fn forward(x: &Tensor) -> Result<Tensor> {
    let (shape, n) = halved(x)?;
    match route("geglu", &[x])? {
        Route::Cuda => device::forward(x, &shape, n),
        Route::Composed => in_full(&[x], |t| composed(&t[0])),
        Route::Fast => {
            let x = View::of("geglu x", x)?;
            let x = x.f32()?;
            let blocks = |y: &mut [MaybeUninit<f32>]| {
                let rows = x.par_chunks(2 * n * BLOCK);
                y.par_chunks_mut(n * BLOCK).zip(rows).for_each(|(y, x)| fast_rows(x, y, n));
            };
            // SAFETY: x is rows of 2n numbers, of each of which a block writes all n of y.
            tensor(unsafe { written(x.len() / 2, blocks) }, &shape)
        }
        Route::Reference => {
            let x = View::of("geglu x", x)?;
            let halves = |row: &[f64]| -> Vec<f64> {
                (0..n).map(|i| row[i] * row[n + i] * distribution(row[n + i])).collect()
            };
            tensor(x.f64()?.chunks_exact(2 * n).flat_map(halves).collect(), &shape)
        }
    }
}

/// The gradient of x, shaped as x, from that of y.
///
/// # Errors
/// As [`forward`], and when the shapes do not belong together.
pub fn gradient(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (shape, n) = halved(x)?;
    if dy.dims() != shape {
        bail!("geglu: expected a gradient of {shape:?}, got {:?}", dy.dims());
    }
    match route("geglu", &[dy, x])? {
        Route::Cuda => device::gradient(dy, x, n),
        Route::Composed => in_full(&[dy, x], |t| composed_gradient(&t[0], &t[1])),
        Route::Fast => {
            let (x_view, dy_view) = (View::of("geglu x", x)?, View::of("geglu dy", dy)?);
            let (shape, x, dy) = (x.dims(), x_view.f32()?, dy_view.f32()?);
            let blocks = |dx: &mut [MaybeUninit<f32>]| {
                let rows = x.par_chunks(2 * n * BLOCK).zip(dy.par_chunks(n * BLOCK));
                dx.par_chunks_mut(2 * n * BLOCK)
                    .zip(rows)
                    .for_each(|(dx, (x, dy))| fast_gradient_rows(x, dy, dx, n));
            };
            // SAFETY: x and dy are as many rows, of each of which a block writes all 2n of dx.
            tensor(unsafe { written(x.len(), blocks) }, shape)
        }
        Route::Reference => {
            let (x_view, dy_view) = (View::of("geglu x", x)?, View::of("geglu dy", dy)?);
            let rows = x_view.f64()?.chunks_exact(2 * n).zip(dy_view.f64()?.chunks_exact(n));
            tensor(rows.flat_map(|(x, dy)| reference_gradient(x, dy, n)).collect(), x.dims())
        }
    }
}

/// The shape of y, and its channels.
fn halved(x: &Tensor) -> Result<(Vec<usize>, usize)> {
    let channels = x.dim(D::Minus1)?;
    if channels == 0 || !channels.is_multiple_of(2) {
        bail!("geglu: expected an even number of channels, got {:?}", x.dims());
    }
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = channels / 2;
    Ok((shape, channels / 2))
}

/// Φ.
fn distribution(b: f64) -> f64 {
    0.5 * libm::erfc(-b * std::f64::consts::FRAC_1_SQRT_2)
}

fn reference_gradient(x: &[f64], dy: &[f64], n: usize) -> Vec<f64> {
    let (a, b) = x.split_at(n);
    let density = |b: f64| (-0.5 * b * b).exp() / (2. * std::f64::consts::PI).sqrt();
    let of_a = b.iter().zip(dy).map(|(&b, dy)| dy * b * distribution(b));
    let of_b = a.iter().zip(b).zip(dy);
    let of_b = of_b.map(|((a, &b), dy)| dy * a * (distribution(b) + b * density(b)));
    of_a.chain(of_b).collect()
}

/// By candle's operations.
fn composed(x: &Tensor) -> Result<Tensor> {
    let halves = x.chunk(2, D::Minus1)?;
    &halves[0] * halves[1].contiguous()?.gelu_erf()?
}

fn composed_gradient(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let halves = x.chunk(2, D::Minus1)?;
    let (a, b) = (halves[0].contiguous()?, halves[1].contiguous()?);
    let phi = ((&b * std::f64::consts::FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5))?;
    let density = ((b.sqr()? * -0.5)?.exp()? / (2. * std::f64::consts::PI).sqrt())?;
    let of_a = ((dy * &b)? * &phi)?;
    let of_b = ((dy * a)? * (phi + (b * density)?)?)?;
    Tensor::cat(&[of_a, of_b], D::Minus1)?.contiguous()
}

/// (Φ(b), φ(b)).
#[inline(always)]
fn normal<M: MulAdd>(b: f32) -> (f32, f32) {
    const STRETCH: f32 = 0.33;
    /// From the ninth order down.
    const G: [f32; 10] = [
        -0.026_549_5,
        0.151_958_38,
        -0.329_574_6,
        0.300_402_46,
        -0.113_377_89,
        0.149_071_74,
        0.102_739_15,
        0.133_863_66,
        0.131_459_42,
        7.190_302e-6,
    ];
    let t = b.abs();
    let s = 1. / M::mul_add(STRETCH, t, 1.);
    let mut g = 0.;
    for coefficient in G {
        g = M::mul_add(g, s, coefficient);
    }
    let bell = exp::<M>(-0.5 * t * t);
    let tail = bell * g;
    let phi = if b < 0. { tail } else { 1. - tail };
    (phi, bell * (0.5 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2))
}

multiversion! {
    fn fast_rows(x: &[f32], y: &mut [MaybeUninit<f32>], n: usize) = fast_rows_body;
}

#[inline(always)]
fn fast_rows_body<M: MulAdd, const L: usize>(x: &[f32], y: &mut [MaybeUninit<f32>], n: usize) {
    for (x, y) in x.chunks_exact(2 * n).zip(y.chunks_exact_mut(n)) {
        let (a, b) = x.split_at(n);
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            y.write(a * b * normal::<M>(b).0);
        }
    }
}

multiversion! {
    fn fast_gradient_rows(x: &[f32], dy: &[f32], dx: &mut [MaybeUninit<f32>], n: usize) = fast_gradient_body;
}

#[inline(always)]
fn fast_gradient_body<M: MulAdd, const L: usize>(
    x: &[f32],
    dy: &[f32],
    dx: &mut [MaybeUninit<f32>],
    n: usize,
) {
    let rows = x.chunks_exact(2 * n).zip(dy.chunks_exact(n));
    for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(2 * n)) {
        let ((a, b), (da, db)) = (x.split_at(n), dx.split_at_mut(n));
        let operands = a.iter().zip(b).zip(dy);
        for (((&a, &b), &dy), (da, db)) in operands.zip(da.iter_mut().zip(db)) {
            let (phi, density) = normal::<M>(b);
            da.write(dy * b * phi);
            db.write(dy * a * M::mul_add(b, density, phi));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, f32, filled, inner};

    #[test]
    fn the_reference_is_candle_and_its_gradient_the_slope() {
        let x = (filled(&[3, 5, 14], 1) * 3.).unwrap();
        let (dy, direction) = (filled(&[3, 5, 7], 2), filled(&[3, 5, 14], 3));
        assert!(distance(&forward(&x).unwrap(), &composed(&x).unwrap()) <= 1e-14);
        let dx = gradient(&dy, &x).unwrap();
        assert!(distance(&composed_gradient(&dy, &x).unwrap(), &dx) <= 1e-13);
        let at = |step: f64| forward(&(&x + (&direction * step).unwrap()).unwrap()).unwrap();
        let slope = inner(&((at(1e-5) - at(-1e-5)).unwrap() / 2e-5).unwrap(), &dy);
        let found = inner(&dx, &direction);
        assert!((slope - found).abs() <= 1e-8 * found.abs().max(1.), "{slope} {found}");
    }

    #[test]
    fn the_fast_version_is_the_reference_at_awkward_sizes_and_values() {
        for (rows, n, scale) in
            [(1, 1, 1.), (3, 7, 2.), (65, 33, 4.), (130, 16, 30.), (2, 100, 1e-4)]
        {
            let x = (filled(&[rows, 2 * n], 3) * scale).unwrap();
            let (x32, dy) = (f32(&x), filled(&[rows, n], 4));
            let x = x32.to_dtype(candle_core::DType::F64).unwrap();
            let y = forward(&x32).unwrap();
            assert!(distance(&y, &forward(&x).unwrap()) <= 6e-7, "{rows} {n} {scale}");
            let dx = gradient(&f32(&dy), &x32).unwrap();
            assert!(distance(&dx, &gradient(&dy, &x).unwrap()) <= 6e-7, "{rows} {n} {scale}");
        }
        assert!(forward(&filled(&[2, 3], 1)).is_err());
        assert!(gradient(&filled(&[2, 2], 1), &filled(&[2, 2], 1)).is_err());
        let poisoned = Tensor::new(&[[1f32, f32::NAN]], &candle_core::Device::Cpu).unwrap();
        assert!(forward(&poisoned).unwrap().to_vec2::<f32>().unwrap()[0][0].is_nan());
    }
}
