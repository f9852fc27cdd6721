//! exp and its kin over lanes, accurate to about two units in the last place.
//!
//! The standard library's `exp` is a call for each element; these are a dozen instructions for a whole vector.

use crate::simd::MulAdd;

/// e^x for x in about [-87, 88], saturating outside; NaN stays NaN.
///
/// x = n·ln 2 + r, e^x = 2^n · (1 + r + r²·p(r)); the polynomial is Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp<M: MulAdd>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer
    const COEFFICIENTS: [f32; 5] =
        [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // Written as comparisons that a NaN fails, so that it passes through.
    let x = if x > 88.3 { 88.3 } else { x };
    let x = if x < -87.3 { -87.3 } else { x };
    let rounded = M::mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = M::mul_add(n, -0.693_359_4, x);
    let r = M::mul_add(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for coefficient in COEFFICIENTS {
        p = M::mul_add(p, r, coefficient);
    }
    // The last bits of `rounded` are n itself, as the units of ROUND's last place are ones.
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    M::mul_add(p, r * r, r + 1.) * power
}

/// (e^x, e^x − 1) in 64 bits for x ≤ 0, each to about two units in its last place, without a branch.
///
/// x = n·ln 2 + r, e^r − 1 by its series to the 13th order, e^x − 1 = 2^n·(e^r − 1) + (2^n − 1).
#[inline(always)]
pub(crate) fn exp_and_m1(x: f64) -> (f64, f64) {
    const ROUND: f64 = 6_755_399_441_055_744.; // 1.5 · 2^52
    const LN2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    let x = if x < -708. { -708. } else { x };
    let rounded = x * std::f64::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN2[0]) - n * LN2[1];
    let mut series = 1. / 6_227_020_800.;
    for factorial in [
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
    ] {
        series = series * r + 1. / factorial;
    }
    let power = f64::from_bits(rounded.to_bits().wrapping_add(1023) << 52);
    (power * (1. + series * r), power * (series * r) + (power - 1.))
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(crate) fn sigmoid<M: MulAdd>(x: f32) -> f32 {
    1. / (1. + exp::<M>(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Fused, Separate};

    fn error(approximate: f32, exact: f64) -> f64 {
        (f64::from(approximate) - exact).abs() / exact
    }

    #[test]
    fn exp_is_good_to_two_units_in_the_last_place() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            assert!(error(exp::<Fused>(x), exact) <= 2. * f64::from(f32::EPSILON), "{x}");
            assert!(error(exp::<Separate>(x), exact) <= 2. * f64::from(f32::EPSILON), "{x}");
        }
    }

    #[test]
    fn both_forms_of_exp_are_good_for_small_and_large_arguments() {
        for i in 0..200_000 {
            let x = -10f64.powf(f64::from(i) / 200_000. * 20. - 17.2);
            let (exp, excess) = exp_and_m1(x);
            assert!((excess - x.exp_m1()).abs() <= 3. * f64::EPSILON * x.exp_m1().abs(), "{x}");
            assert!((exp - x.exp()).abs() <= 3. * f64::EPSILON * x.exp().max(1e-300), "{x}");
        }
        assert!(exp_and_m1(0.) == (1., 0.));
        assert!(exp_and_m1(f64::NEG_INFINITY).0 < 1e-300 && exp_and_m1(f64::NEG_INFINITY).1 == -1.);
        assert!(exp_and_m1(f64::NAN).0.is_nan() && exp_and_m1(f64::NAN).1.is_nan());
    }

    #[test]
    fn extremes_saturate_and_nan_stays() {
        assert!(exp::<Fused>(1e30).is_finite() && exp::<Fused>(1e30) > 1e38);
        assert!(exp::<Fused>(-1e30) > 0. && exp::<Fused>(-1e30) < 1e-37);
        assert!(exp::<Fused>(f32::NAN).is_nan());
        assert!(sigmoid::<Fused>(f32::NAN).is_nan());
        assert!(sigmoid::<Fused>(100.) == 1. && sigmoid::<Fused>(0.) == 0.5);
    }
}
