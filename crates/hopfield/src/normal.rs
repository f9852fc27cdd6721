//! Standard normal numbers by the hundred, the bits of [`Draws`] through Box & Muller's formula in vector instructions.
//!
//! Law: √(−2 log u) (cos 2πv, sin 2πv) with u, v as in [`Draws::normal_pair`], to which the numbers are equal up to
//! rounding; they depend on no instruction set.

use crate::vectorized::vectorized;
use lethe_candlex::rng::Draws;

/// Pairs that are made together.
const PAIRS: usize = 64;

/// Words for radii, and for angles.
type Bits = [[u32; PAIRS]; 2];

/// Cosines, and sines.
type Pairs = [[f64; PAIRS]; 2];

/// Fills `values` with normal numbers of standard deviation `deviation`, two from each two words of `draws`.
pub(crate) fn fill_normal(draws: &mut Draws, deviation: f64, values: &mut [f64]) {
    for values in values.chunks_mut(2 * PAIRS) {
        let (mut bits, mut pairs) = ([[0; PAIRS]; 2], [[0.; PAIRS]; 2]);
        let n = values.len().div_ceil(2);
        for i in 0..n {
            (bits[0][i], bits[1][i]) = (draws.bits32(), draws.bits32());
        }
        transform(&bits, &mut pairs, n, deviation);
        for (i, pair) in values.chunks_mut(2).enumerate() {
            pair.iter_mut().zip(&pairs).for_each(|(value, normals)| *value = normals[i]);
        }
    }
}

vectorized! {
    /// The first `n` pairs, cosines and sines apart.
    fn transform(bits: &Bits, pairs: &mut Pairs, n: usize, deviation: f64) -> () = transform_lanes;
}

#[inline(always)]
fn transform_lanes(bits: &Bits, pairs: &mut Pairs, n: usize, deviation: f64) {
    let [cosines, sines] = pairs;
    let normals = cosines[..n].iter_mut().zip(&mut sines[..n]);
    for ((a, b), (radius, angle)) in normals.zip(bits[0].iter().zip(&bits[1])) {
        let radius = deviation * (-2. * log_unit(*radius)).sqrt();
        let [cosine, sine] = turn(*angle);
        (*a, *b) = (radius * cosine, radius * sine);
    }
}

/// log((bits + 1) / 2³²) ≤ 0.
///
/// x = 2^n·m with m within √2 of 1, log m = 2 artanh s with s = (m − 1) / (m + 1), by its series to the 19th order.
#[inline(always)]
fn log_unit(bits: u32) -> f64 {
    const LN2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    let x = f64::from(bits) + 1.;
    // Moves the border between two exponents from 1 to √½.
    let shifted =
        x.to_bits().wrapping_add((1023 << 52) - std::f64::consts::FRAC_1_SQRT_2.to_bits());
    let n = (shifted >> 52) as i32 - 1023;
    let m = f64::from_bits(
        (shifted & ((1 << 52) - 1)).wrapping_add(std::f64::consts::FRAC_1_SQRT_2.to_bits()),
    );
    let s = (m - 1.) / (m + 1.);
    let square = s * s;
    let mut series = 1. / 19.;
    for odd in [17., 15., 13., 11., 9., 7., 5., 3.] {
        series = series * square + 1. / odd;
    }
    let n = f64::from(n - 32);
    n * LN2[0] + (n * LN2[1] + (2. * s + 2. * s * square * series))
}

/// cos and sin of 2π·bits / 2³².
///
/// The nearest quarter turn is taken off exactly; the rest, within π/4, by both series.
#[inline(always)]
fn turn(bits: u32) -> [f64; 2] {
    let quarter = bits.wrapping_add(1 << 29) >> 30;
    let rest = bits.wrapping_sub(quarter << 30) as i32;
    let x = f64::from(rest) * (std::f64::consts::TAU / 4_294_967_296.);
    let square = x * x;
    let (mut cosine, mut sine) = (1., 1.);
    for even in [16., 14., 12., 10., 8., 6., 4., 2.] {
        cosine = 1. - cosine * square * (1. / (even * (even - 1.)));
        sine = 1. - sine * square * (1. / (even * (even + 1.)));
    }
    let sine = x * sine;
    let [a, b] = if quarter & 1 == 0 { [cosine, sine] } else { [sine, cosine] };
    let sign = |is_negative: u32| 1. - 2. * f64::from(is_negative & 1);
    [a * sign((quarter ^ (quarter >> 1)) & 1), b * sign(quarter >> 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_candlex::rng::Seed;

    #[test]
    fn numbers_are_those_of_one_pair_at_a_time() {
        for n in [1, 2, 50, 127, 128, 129, 1001] {
            let [mut many, mut single] = [0, 0].map(|_| Seed(1).stream("normal").at(0, n as u64));
            let mut values = vec![0.; n];
            fill_normal(&mut many, 0.5, &mut values);
            for pair in values.chunks(2) {
                for (value, normal) in pair.iter().zip(single.normal_pair()) {
                    assert!((value - 0.5 * normal).abs() <= 1e-14, "{value}");
                }
            }
            assert_eq!(many.bits32(), single.bits32());
        }
    }

    #[test]
    fn ends_and_quarters_are_exact() {
        for bits in (0..=u32::MAX).step_by(65_521).chain([1, 2, 3, u32::MAX - 1, u32::MAX]) {
            let x = (f64::from(bits) + 1.) / 4_294_967_296.;
            assert!((log_unit(bits) - x.ln()).abs() <= 4. * f64::EPSILON * x.ln().abs(), "{bits}");
            let (sine, cosine) =
                (f64::from(bits) / 4_294_967_296. * std::f64::consts::TAU).sin_cos();
            let [found_cosine, found_sine] = turn(bits);
            assert!((found_cosine - cosine).abs() <= 1e-15 && (found_sine - sine).abs() <= 1e-15);
        }
        assert_eq!(
            [0, 1 << 30, 2 << 30, 3 << 30].map(turn),
            [[1., 0.], [0., 1.], [-1., 0.], [0., -1.]]
        );
        assert_eq!(log_unit(u32::MAX), 0.);
    }
}
