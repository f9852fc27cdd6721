//! The law, one query at a time: slow, and the definition.

use super::Sizes;

/// Elements of one token's head.
fn at(sizes: &Sizes, tokens: usize, b: usize, token: usize, h: usize) -> std::ops::Range<usize> {
    let start = (b * tokens + token) * sizes.channels() + h * sizes.depth;
    start..start + sizes.depth
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], scale: f64, values: &[f64]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += scale * value);
}

/// softmax_j(q_i · k_j / √d).
fn probabilities(q: &[f64], k: &[f64], sizes: &Sizes, b: usize, h: usize) -> Vec<f64> {
    let logit = |j| dot(q, &k[at(sizes, sizes.keys, b, j, h)]) * sizes.scale();
    let logits: Vec<f64> = (0..sizes.keys).map(logit).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Calls `visit(b, h, elements of query i's head)` for every query.
fn for_each_query(sizes: &Sizes, mut visit: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    for b in 0..sizes.batch {
        for h in 0..sizes.heads {
            for i in 0..sizes.queries {
                visit(b, h, at(sizes, sizes.queries, b, i, h));
            }
        }
    }
}

pub(super) fn forward(q: &[f64], k: &[f64], v: &[f64], sizes: &Sizes) -> Vec<f64> {
    let mut o = vec![0.; q.len()];
    for_each_query(sizes, |b, h, query| {
        for (j, p) in probabilities(&q[query.clone()], k, sizes, b, h).into_iter().enumerate() {
            add(&mut o[query.clone()], p, &v[at(sizes, sizes.keys, b, j, h)]);
        }
    });
    o
}

pub(super) fn gradients(
    d_o: &[f64],
    q: &[f64],
    k: &[f64],
    v: &[f64],
    sizes: &Sizes,
) -> [Vec<f64>; 3] {
    let (mut dq, mut dk, mut dv) = (vec![0.; q.len()], vec![0.; k.len()], vec![0.; v.len()]);
    for_each_query(sizes, |b, h, query| {
        let p = probabilities(&q[query.clone()], k, sizes, b, h);
        let key = |j| at(sizes, sizes.keys, b, j, h);
        let dp: Vec<f64> = (0..sizes.keys).map(|j| dot(&d_o[query.clone()], &v[key(j)])).collect();
        let mean = dot(&p, &dp);
        for j in 0..sizes.keys {
            let d_logit = p[j] * (dp[j] - mean) * sizes.scale();
            add(&mut dq[query.clone()], d_logit, &k[key(j)]);
            add(&mut dk[key(j)], d_logit, &q[query.clone()]);
            add(&mut dv[key(j)], p[j], &d_o[query.clone()]);
        }
    });
    [dq, dk, dv]
}
