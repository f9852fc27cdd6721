//! Value and gradients of the three voices against one another, and against finite differences.

use super::*;
use crate::testing::{TYPES, distance, f32, filled, inner, on_devices, same_in_any_order, there};
use candle_core::DType;

fn norms() -> Vec<(GroupNorm, Vec<usize>)> {
    let norm = |groups, activation| GroupNorm { groups, epsilon: 1e-5, activation };
    vec![
        (norm(1, Activation::Identity), vec![1, 1, 1]),
        (norm(3, Activation::Silu), vec![2, 5, 3]),
        (norm(4, Activation::Silu), vec![3, 4, 4, 32]),
        (norm(8, Activation::Identity), vec![2, 9, 7, 40]),
        (norm(32, Activation::Silu), vec![2, 33, 2, 64]),
        (norm(1, Activation::Silu), vec![1, 130, 31]),
    ]
}

/// (x, gamma, beta, dy); x lies far from zero in some channels.
fn operands(shape: &[usize], per_example: bool) -> [Tensor; 4] {
    let (batch, channels) = (shape[0], shape[shape.len() - 1]);
    let scale_shape = if per_example { vec![batch, channels] } else { vec![channels] };
    let x = filled(shape, 1).broadcast_add(&(filled(&[channels], 2) * 5.).unwrap()).unwrap();
    [x, filled(&scale_shape, 3), filled(&scale_shape, 4), filled(shape, 5)]
}

#[test]
fn three_voices_agree_in_value_and_gradients() {
    for (norm, shape) in norms() {
        for per_example in [false, true] {
            let [x, gamma, beta, dy] = operands(&shape, per_example);
            let y = norm.forward(&x, &gamma, &beta).unwrap();
            let gradients = norm.gradients(&dy, &x, &gamma, &beta).unwrap();
            let composed = composed::forward(&norm, &x, &gamma, &beta).unwrap();
            assert!(distance(&composed, &y) <= 1e-12);
            let composed = composed::gradients(&norm, &dy, &x, &gamma, &beta).unwrap();
            assert!(distance(&composed.gamma, &gradients.gamma) <= 1e-11);
            assert!(distance(&composed.beta, &gradients.beta) <= 1e-11);
            let fast = norm.forward(&f32(&x), &f32(&gamma), &f32(&beta)).unwrap();
            assert!(distance(&fast, &y) <= 2e-6, "{norm:?} {shape:?}: {}", distance(&fast, &y));
            let fast = norm.gradients(&f32(&dy), &f32(&x), &f32(&gamma), &f32(&beta)).unwrap();
            assert!(distance(&fast.gamma, &gradients.gamma) <= 3e-6);
            assert!(distance(&fast.beta, &gradients.beta) <= 3e-6);
            if shape.iter().product::<usize>() > 1 {
                assert!(distance(&composed.x, &gradients.x) <= 1e-10);
                assert!(
                    distance(&fast.x, &gradients.x) <= 5e-6,
                    "{norm:?} {shape:?}: {}",
                    distance(&fast.x, &gradients.x)
                );
            }
        }
    }
}

#[test]
fn gradients_equal_difference_quotients() {
    let norm = GroupNorm { groups: 2, epsilon: 1e-3, activation: Activation::Silu };
    let [x, gamma, beta, dy] = operands(&[2, 3, 3, 6], true);
    let gradients = norm.gradients(&dy, &x, &gamma, &beta).unwrap();
    let value = |x: &Tensor, gamma: &Tensor, beta: &Tensor| {
        inner(&dy, &norm.forward(x, gamma, beta).unwrap())
    };
    let step = 1e-6;
    for salt in 0..5 {
        let direction = (filled(x.dims(), 10 + salt) * step).unwrap();
        let (up, down) = ((&x + &direction).unwrap(), (&x - &direction).unwrap());
        let quotient = (value(&up, &gamma, &beta) - value(&down, &gamma, &beta)) / 2.;
        assert!(
            (quotient - inner(&gradients.x, &direction)).abs()
                <= 1e-8 * step.max(quotient.abs() * 100.)
        );
        let direction = (filled(gamma.dims(), 20 + salt) * step).unwrap();
        let (up, down) = ((&gamma + &direction).unwrap(), (&gamma - &direction).unwrap());
        let quotient = (value(&x, &up, &beta) - value(&x, &down, &beta)) / 2.;
        assert!(
            (quotient - inner(&gradients.gamma, &direction)).abs()
                <= 1e-6 * quotient.abs().max(1e-3 * step)
        );
    }
}

#[test]
fn a_large_mean_does_not_spoil_the_variance() {
    let norm = GroupNorm { groups: 2, epsilon: 1e-6, activation: Activation::Identity };
    let x = ((filled(&[1, 500, 8], 1) * 1e-2).unwrap() + 50.).unwrap();
    let x = f32(&x).to_dtype(candle_core::DType::F64).unwrap(); // what f32 can hold of it
    let (gamma, beta) = (filled(&[8], 2), filled(&[8], 3));
    let y = norm.forward(&x, &gamma, &beta).unwrap();
    let fast = norm.forward(&f32(&x), &f32(&gamma), &f32(&beta)).unwrap();
    assert!(distance(&fast, &y) <= 1e-3, "{}", distance(&fast, &y));
}

#[test]
fn nan_is_not_hidden() {
    let norm = GroupNorm { groups: 1, epsilon: 1e-5, activation: Activation::Silu };
    let x = (filled(&[1, 4, 4], 1) * f64::NAN).unwrap();
    let one = filled(&[4], 2);
    let y = norm.forward(&f32(&x), &f32(&one), &f32(&one)).unwrap();
    assert!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|y| y.is_nan()));
}

#[test]
fn groups_that_do_not_divide_are_refused() {
    let norm = GroupNorm { groups: 3, epsilon: 1e-5, activation: Activation::Silu };
    let one = filled(&[4], 2);
    let error = norm.forward(&filled(&[1, 4, 4], 1), &one, &one).unwrap_err().to_string();
    assert!(error.contains("4 channels") && error.contains("3 groups"), "{error}");
}

#[test]
fn devices_compute_the_reference() {
    let norm = |groups, activation| GroupNorm { groups, epsilon: 1e-5, activation };
    let many = (norm(8, Activation::Silu), vec![1, 1000, 24]);
    let wide = (norm(5, Activation::Silu), vec![2, 3, 1030]);
    on_devices(|device| {
        for (norm, shape) in norms().into_iter().chain([many.clone(), wide.clone()]) {
            for (per_example, (dtype, tolerance)) in
                [false, true].into_iter().flat_map(|each| TYPES.map(|kind| (each, kind)))
            {
                let ([x, x64], [gamma, gamma64], [beta, beta64], [dy, dy64]) = {
                    let [x, gamma, beta, dy] = operands(&shape, per_example)
                        .map(|t| <[Tensor; 2]>::from(there(&t, dtype, device)));
                    (x, gamma, beta, dy)
                };
                let sizes = norm.sizes(&x, &gamma, &beta).unwrap();
                let label = format!("{norm:?} {shape:?} {dtype:?} {per_example}");
                let (y, kept) = device::forward(&norm, &sizes, &x, &gamma, &beta).unwrap();
                let exact = norm.forward(&x64, &gamma64, &beta64).unwrap();
                assert!(distance(&y, &exact) <= tolerance, "{label}: {}", distance(&y, &exact));
                let all = [&dy, &x, &gamma, &beta];
                let found = device::gradients(&norm, &sizes, &kept, all).unwrap();
                let exact = norm.gradients(&dy64, &x64, &gamma64, &beta64).unwrap();
                let tolerance = 2. * tolerance;
                let off = [
                    distance(&found.gamma, &exact.gamma),
                    distance(&found.beta, &exact.beta),
                    // The gradient of a single number vanishes: nothing to compare relative to.
                    if x.elem_count() > 1 { distance(&found.x, &exact.x) } else { 0. },
                ];
                assert!(off.iter().all(|off| *off <= tolerance), "{label}: {off:?}");
            }
        }
    });
}

#[test]
fn devices_keep_large_means_and_nan_and_the_order() {
    let norm = GroupNorm { groups: 2, epsilon: 1e-6, activation: Activation::Identity };
    on_devices(|device| {
        let x = ((filled(&[2, 500, 8], 1) * 1e-2).unwrap() + 50.).unwrap();
        let (x, exact_x) = there(&x, DType::F32, device);
        let (gamma, exact_gamma) = there(&filled(&[8], 2), DType::F32, device);
        let sizes = norm.sizes(&x, &gamma, &gamma).unwrap();
        let forward = |x: &Tensor| device::forward(&norm, &sizes, x, &gamma, &gamma).unwrap().0;
        let exact = norm.forward(&exact_x, &exact_gamma, &exact_gamma).unwrap();
        assert!(distance(&forward(&x), &exact) <= 1e-3);
        let poisoned = (&x * f64::NAN).unwrap();
        let y = forward(&poisoned).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y.iter().all(|y| y.is_nan()));
        same_in_any_order(|| {
            let (all, kept) = ([&x, &x, &gamma, &gamma], Kept::default());
            let found = device::gradients(&norm, &sizes, &kept, all).unwrap();
            vec![forward(&x), found.x, found.gamma, found.beta]
        });
    });
}
