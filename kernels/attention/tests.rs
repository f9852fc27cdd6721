//! Value and gradients of the three voices against one another, and against finite differences.

use super::*;
use crate::testing::{distance, f32, filled, inner};

/// (batch, queries, keys, heads, depth).
const CASES: [(usize, usize, usize, usize, usize); 6] = [
    (1, 1, 1, 1, 1),
    (2, 5, 5, 1, 7),
    (2, 16, 77, 4, 8),
    (3, 33, 31, 3, 5),
    (1, 300, 40, 2, 16),
    (2, 64, 64, 8, 4),
];

/// (q, k, v, do) with logits spread enough that the softmax is not flat.
fn operands(
    (batch, queries, keys, heads, depth): (usize, usize, usize, usize, usize),
) -> [Tensor; 4] {
    let channels = heads * depth;
    let (q, k) = (filled(&[batch, queries, channels], 1), filled(&[batch, keys, channels], 2));
    [
        (q * 3.).unwrap(),
        (k * 3.).unwrap(),
        filled(&[batch, keys, channels], 3),
        filled(&[batch, queries, channels], 4),
    ]
}

#[test]
fn three_voices_agree_in_value_and_gradients() {
    for case in CASES {
        let ([q, k, v, d_o], heads) = (operands(case), case.3);
        let sizes = Sizes::new(&q, &k, &v, heads).unwrap();
        let o = forward(&q, &k, &v, heads).unwrap();
        assert!(distance(&composed::forward(&q, &k, &v, &sizes).unwrap(), &o) <= 1e-12);
        let fast = forward(&f32(&q), &f32(&k), &f32(&v), heads).unwrap();
        assert!(distance(&fast, &o) <= 3e-6, "{case:?} {}", distance(&fast, &o));
        let exact = gradients(&d_o, &q, &k, &v, heads).unwrap();
        let composed = composed::gradients(&d_o, &q, &k, &v, &sizes).unwrap();
        let fast = gradients(&f32(&d_o), &f32(&q), &f32(&k), &f32(&v), heads).unwrap();
        assert!(distance(&composed.v, &exact.v) <= 1e-12);
        assert!(distance(&fast.v, &exact.v) <= 5e-6);
        // With one key the probabilities do not depend on q and k: nothing to compare relative to.
        if case.2 > 1 {
            for (composed, fast, exact) in
                [(&composed.q, &fast.q, &exact.q), (&composed.k, &fast.k, &exact.k)]
            {
                assert!(distance(composed, exact) <= 1e-12);
                assert!(distance(fast, exact) <= 1e-5, "{case:?} {}", distance(fast, exact));
            }
        }
    }
}

#[test]
fn gradients_equal_difference_quotients() {
    let case = (2, 4, 5, 2, 3);
    let ([q, k, v, d_o], heads) = (operands(case), case.3);
    let exact = gradients(&d_o, &q, &k, &v, heads).unwrap();
    let value = |q: &Tensor, k: &Tensor, v: &Tensor| inner(&d_o, &forward(q, k, v, heads).unwrap());
    let step = 1e-5;
    for salt in 0..4 {
        let (dq, dk, dv) =
            (filled(q.dims(), 10 + salt), filled(k.dims(), 20 + salt), filled(v.dims(), 30 + salt));
        let moved = |x: &Tensor, by: &Tensor, step: f64| (x + (by * step).unwrap()).unwrap();
        let at = |step| value(&moved(&q, &dq, step), &moved(&k, &dk, step), &moved(&v, &dv, step));
        let quotient = (at(step) - at(-step)) / (2. * step);
        let slope = inner(&exact.q, &dq) + inner(&exact.k, &dk) + inner(&exact.v, &dv);
        assert!((quotient - slope).abs() <= 1e-7 * slope.abs().max(1.), "{quotient} {slope}");
    }
}

#[test]
fn extreme_logits_pick_one_key_and_nan_shows() {
    let q = f32(&(filled(&[1, 3, 4], 1) * 1e4).unwrap());
    let k = f32(&filled(&[1, 6, 4], 2));
    let v = f32(&filled(&[1, 6, 4], 3));
    let o = forward(&q, &k, &v, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(o.iter().all(|o| o.is_finite()));
    let broken = (q * f64::NAN).unwrap();
    let o = forward(&broken, &k, &v, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(o.iter().all(|o| o.is_nan()));
}

#[test]
fn heads_that_do_not_divide_are_refused() {
    let q = filled(&[1, 2, 6], 1);
    assert!(forward(&q, &q, &q, 4).unwrap_err().to_string().contains("4 heads"));
}
