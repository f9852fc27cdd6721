//! Feature vectors as evidence: what is asked of them, and the sums over them.

use std::collections::BTreeMap;

use super::Candidate;
use crate::{ContinualError, ExampleId, error::Result};

/// Feature vectors of the candidates, all of one length.
pub trait Features {
    /// The features of one example: `[features]`, finite; `None` if they were not computed.
    fn feature(&self, example: ExampleId) -> Option<&[f32]>;
}

impl<V: AsRef<[f32]>> Features for BTreeMap<ExampleId, V> {
    fn feature(&self, example: ExampleId) -> Option<&[f32]> {
        self.get(&example).map(AsRef::as_ref)
    }
}

/// The features, for a policy that cannot choose without them.
pub(super) fn required<'a>(
    features: Option<&'a dyn Features>,
    policy: &'static str,
    needed: &'static str,
) -> Result<&'a dyn Features> {
    features.ok_or(ContinualError::NoEvidence { policy, needed })
}

/// The index of the largest value, the first of equals.
pub(super) fn first_maximum(values: impl Iterator<Item = f64>) -> usize {
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), better).0
}

/// The mean of some vectors: `[features]`.
pub(super) fn mean(phi: &[&[f32]]) -> Vec<f64> {
    let mut mean = vec![0.0; phi.first().map_or(0, |phi| phi.len())];
    for phi in phi {
        mean.iter_mut().zip(*phi).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    mean.iter_mut().for_each(|sum| *sum /= phi.len() as f64);
    mean
}

/// w.phi.
///
/// Eight running sums let the compiler use vector units without reordering a single addition.
pub(super) fn dot(w: &[f64], phi: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let (w8, phi8) = (w.chunks_exact(8), phi.chunks_exact(8));
    let rest: f64 =
        w8.remainder().iter().zip(phi8.remainder()).map(|(w, &x)| w * f64::from(x)).sum();
    for (w, phi) in w8.zip(phi8) {
        for lane in 0..8 {
            sums[lane] += w[lane] * f64::from(phi[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// ||phi||^2.
pub(super) fn norm_squared(phi: &[f32]) -> f64 {
    phi.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// The features of every member, in their order: finite, and all of one length.
pub(super) fn gather<'a>(
    features: &'a dyn Features,
    members: &[Candidate],
) -> Result<Vec<&'a [f32]>> {
    let mut gathered: Vec<&[f32]> = Vec::with_capacity(members.len());
    for member in members {
        let refuse = |expected: String, got: String| {
            Err(ContinualError::Feature { example: member.id, expected, got })
        };
        let Some(phi) = features.feature(member.id) else {
            return refuse("features".to_owned(), "none".to_owned());
        };
        let length = gathered.first().map_or(phi.len().max(1), |first| first.len());
        if phi.len() != length {
            return refuse(format!("{length} features"), phi.len().to_string());
        }
        if let Some(i) = phi.iter().position(|x| !x.is_finite()) {
            return refuse("finite features".to_owned(), format!("{} at index {i}", phi[i]));
        }
        gathered.push(phi);
    }
    Ok(gathered)
}

/// ||w - phi||^2, from the differences themselves, so that equal vectors are at distance zero.
pub(super) fn distance_squared(w: &[f64], phi: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let (w8, phi8) = (w.chunks_exact(8), phi.chunks_exact(8));
    let square = |w: f64, x: f32| (w - f64::from(x)) * (w - f64::from(x));
    let rest: f64 = w8.remainder().iter().zip(phi8.remainder()).map(|(&w, &x)| square(w, x)).sum();
    for (w, phi) in w8.zip(phi8) {
        for lane in 0..8 {
            sums[lane] += square(w[lane], phi[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// A vector in double precision.
pub(super) fn widened(phi: &[f32]) -> Vec<f64> {
    phi.iter().copied().map(f64::from).collect()
}
