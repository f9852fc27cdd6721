//! The law, one pattern after another: slow, and the definition.
#![cfg(test)]

use super::{Form, Question};

/// (energy, entropy, retrieved) of one query.
pub(super) fn energy(
    x: &[f64],
    patterns: &[f64],
    left_out: Option<usize>,
    question: &Question,
) -> (f64, f64, Vec<f64>) {
    let (d, beta) = (x.len(), question.inverse_temperature);
    let kept: Vec<usize> = (0..patterns.len() / d).filter(|&mu| Some(mu) != left_out).collect();
    let pattern = |mu: usize| &patterns[mu * d..(mu + 1) * d];
    let mass = |mu: usize| question.masses.map_or(1., |masses| masses[mu]);
    let similarity = |mu: usize| -> f64 {
        let pairs = x.iter().zip(pattern(mu));
        match question.form {
            Form::Dot => pairs.map(|(x, xi)| x * xi).sum(),
            Form::Distance => pairs.map(|(x, xi)| -0.5 * (x - xi).powi(2)).sum(),
        }
    };
    let logits: Vec<f64> = kept.iter().map(|&mu| beta * similarity(mu)).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> =
        kept.iter().zip(&logits).map(|(&mu, l)| mass(mu) * (l - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let energy = match question.form {
        Form::Dot => 0.5 * x.iter().map(|x| x * x).sum::<f64>() - (largest + total.ln()) / beta,
        Form::Distance => {
            -(largest + (total / kept.iter().map(|&mu| mass(mu)).sum::<f64>()).ln()) / beta
        }
    };
    let p: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
    let entropy = p.iter().filter(|&&p| p > 0.).map(|p| -p * p.ln()).sum();
    let mut retrieved = vec![0.; d];
    for (&mu, p) in kept.iter().zip(&p) {
        retrieved.iter_mut().zip(pattern(mu)).for_each(|(sum, xi)| *sum += p * xi);
    }
    (energy, entropy, retrieved)
}
