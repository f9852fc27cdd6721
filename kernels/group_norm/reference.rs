//! The law, element by element: slow, and the definition.

use super::{Activation, GroupNorm, Sizes};

/// Indices of one example's group: (index in x, channel).
fn members(
    sizes: &Sizes,
    b: usize,
    group: usize,
) -> impl Iterator<Item = (usize, usize)> + Clone + use<> {
    let Sizes { pixels, channels, groups, .. } = *sizes;
    let each = channels / groups;
    (0..pixels).flat_map(move |i| {
        (group * each..(group + 1) * each).map(move |c| ((b * pixels + i) * channels + c, c))
    })
}

/// Calls `visit(b, members, μ, 1/√(σ² + ε))` for every group of every example.
fn for_each_group(
    norm: &GroupNorm,
    sizes: &Sizes,
    x: &[f64],
    mut visit: impl FnMut(usize, Vec<(usize, usize)>, f64, f64),
) {
    for b in 0..sizes.batch {
        for group in 0..sizes.groups {
            let members: Vec<_> = members(sizes, b, group).collect();
            let n = members.len() as f64;
            let mean = members.iter().map(|&(k, _)| x[k]).sum::<f64>() / n;
            let variance = members.iter().map(|&(k, _)| (x[k] - mean).powi(2)).sum::<f64>() / n;
            visit(b, members, mean, 1. / (variance + norm.epsilon).sqrt());
        }
    }
}

fn scale_index(sizes: &Sizes, b: usize, c: usize) -> usize {
    if sizes.per_example { b * sizes.channels + c } else { c }
}

pub(super) fn forward(
    norm: &GroupNorm,
    sizes: &Sizes,
    x: &[f64],
    gamma: &[f64],
    beta: &[f64],
) -> Vec<f64> {
    let mut y = vec![0.; x.len()];
    for_each_group(norm, sizes, x, |b, members, mean, rstd| {
        for (k, c) in members {
            let s = scale_index(sizes, b, c);
            let z = (x[k] - mean) * rstd * gamma[s] + beta[s];
            y[k] = match norm.activation {
                Activation::Identity => z,
                Activation::Silu => z / (1. + (-z).exp()),
            };
        }
    });
    y
}

pub(super) fn gradients(
    norm: &GroupNorm,
    sizes: &Sizes,
    dy: &[f64],
    x: &[f64],
    gamma: &[f64],
    beta: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut dx, mut dgamma, mut dbeta) =
        (vec![0.; x.len()], vec![0.; gamma.len()], vec![0.; beta.len()]);
    for_each_group(norm, sizes, x, |b, members, mean, rstd| {
        let n = members.len() as f64;
        let (mut sum, mut sum_normed) = (0., 0.); // Σ dx̂ and Σ dx̂ · x̂
        for &(k, c) in &members {
            let s = scale_index(sizes, b, c);
            let normed = (x[k] - mean) * rstd;
            let z = normed * gamma[s] + beta[s];
            let slope = match norm.activation {
                Activation::Identity => 1.,
                Activation::Silu => {
                    let sigmoid = 1. / (1. + (-z).exp());
                    sigmoid * (1. + z * (1. - sigmoid))
                }
            };
            let dz = dy[k] * slope;
            dgamma[s] += dz * normed;
            dbeta[s] += dz;
            dx[k] = dz * gamma[s]; // dx̂ for now
            sum += dx[k];
            sum_normed += dx[k] * normed;
        }
        for (k, _) in members {
            dx[k] = rstd * (dx[k] - sum / n - (x[k] - mean) * rstd * sum_normed / n);
        }
    });
    (dx, dgamma, dbeta)
}
