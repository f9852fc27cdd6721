//! A sample whose mean follows the mean of its class (`herding`).

use super::{
    Evidence, Group, SelectionPolicy,
    feature::{dot, first_maximum, gather, mean, norm_squared, required},
};
use crate::{ExampleId, draws::Draws, error::Result};

/// Herding: the k-th choice is argmin over x of ||mu - (phi(x) + sum of the chosen phi)/k||, without
/// repetition; equal distances go to the lower id.
///
/// Source: Rebuffi et al. 2017, "iCaRL", algorithm 4 (after Welling 2009).
/// Unlike there, features are used as they are given: scale them to unit length first if that is
/// wanted.
///
/// | symbol | meaning                              | shape        |
/// |--------|--------------------------------------|--------------|
/// | phi(x) | features of candidate x              | `[features]` |
/// | mu     | mean of phi over the group           | `[features]` |
/// | w      | k mu minus the sum of the chosen phi | `[features]` |
#[derive(Debug, Clone, Copy)]
pub struct Herding;

impl SelectionPolicy for Herding {
    fn select(
        &self,
        groups: &[Group],
        evidence: Evidence<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let features = required(evidence.features, "herding", "feature vectors")?;
        let mut kept = Vec::new();
        for group in groups {
            let phi = gather(features, &group.members)?;
            kept.extend(herd(&phi, group.quota).into_iter().map(|i| group.members[i].id));
        }
        Ok(kept)
    }
}

/// Indices into `phi` in order of choice.
fn herd(phi: &[&[f32]], quota: usize) -> Vec<usize> {
    let mu = mean(phi);
    let half_norms: Vec<f64> = phi.iter().map(|phi| 0.5 * norm_squared(phi)).collect();
    let mut w = vec![0.0; mu.len()];
    let mut left: Vec<usize> = (0..phi.len()).collect();
    let mut chosen = Vec::with_capacity(quota);
    while chosen.len() < quota && !left.is_empty() {
        w.iter_mut().zip(&mu).for_each(|(w, mu)| *w += mu);
        // ||w - phi||^2 = ||w||^2 - 2 (w.phi - ||phi||^2/2): the nearest has the largest bracket.
        let nearness = left.iter().map(|&i| dot(&w, phi[i]) - half_norms[i]);
        let next = left.remove(first_maximum(nearness));
        w.iter_mut().zip(phi[next]).for_each(|(w, &phi)| *w -= f64::from(phi));
        chosen.push(next);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: how far the mean would be from the group's with `candidate` chosen next.
    fn distance(phi: &[Vec<f32>], chosen: &[usize], candidate: usize) -> f64 {
        let all: Vec<usize> = (0..phi.len()).collect();
        let with: Vec<usize> = chosen.iter().copied().chain([candidate]).collect();
        let mean = |indices: &[usize], j: usize| -> f64 {
            indices.iter().map(|&i| f64::from(phi[i][j])).sum::<f64>() / indices.len() as f64
        };
        let squares = (0..phi[0].len()).map(|j| (mean(&all, j) - mean(&with, j)).powi(2));
        squares.sum::<f64>().sqrt()
    }

    #[test]
    fn the_first_choice_is_nearest_to_the_mean_and_the_second_balances_it() {
        // Mean 3; 2 is nearest; then (2 + 4)/2 = 3 is exact.
        let phi: [&[f32]; 4] = [&[0.0], &[2.0], &[4.0], &[6.0]];
        assert_eq!(herd(&phi, 2), [1, 2]);
    }

    #[test]
    fn equal_distances_go_to_the_lower_id() {
        let phi: [&[f32]; 4] = [&[1.0, 1.0]; 4];
        assert_eq!(herd(&phi, 3), [0, 1, 2]);
    }

    proptest! {
        #![proptest_config(crate::draws::tests::repeatable())]

        #[test]
        fn every_choice_is_the_argmin_of_the_definition(
            phi in (1_usize..20).prop_flat_map(|d| {
                prop::collection::vec(prop::collection::vec(-10.0_f32..10.0, d), 1..14)
            }),
            quota in 1_usize..8,
        ) {
            let slices: Vec<&[f32]> = phi.iter().map(Vec::as_slice).collect();
            let chosen = herd(&slices, quota);
            prop_assert_eq!(chosen.len(), quota.min(phi.len()));
            for (k, &choice) in chosen.iter().enumerate() {
                let before = &chosen[..k];
                let left = (0..phi.len()).filter(|i| !before.contains(i));
                let least = left.map(|i| distance(&phi, before, i)).fold(f64::INFINITY, f64::min);
                // Two candidates may tie up to rounding (any two points around their mean do).
                prop_assert!(distance(&phi, before, choice) - least <= 1e-9);
            }
        }
    }
}
