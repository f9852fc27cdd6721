//! A cover: nothing is far from what is kept (`k-center`).

use super::{
    Evidence, Group, SelectionPolicy,
    feature::{distance_squared, first_maximum, gather, mean, required, widened},
};
use crate::{ExampleId, draws::Draws, error::Result};

/// Greedy k-center: starts with the member nearest to the group's mean, then always adds the member
/// farthest from the kept ones; equal distances go to the lower id.
///
/// Law: the radius max over x of min over kept c of ||phi(x) - phi(c)|| is at most twice that of
/// the best set of the same size.
/// Source: Gonzalez 1985, "Clustering to Minimize the Maximum Intercluster Distance"; as a choice
/// of examples, Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks".
/// Unlike there, where the start is anybody or what is labelled already, it is the most typical
/// member, so that nothing is random.
#[derive(Debug, Clone, Copy)]
pub struct KCenter;

impl SelectionPolicy for KCenter {
    fn select(
        &self,
        groups: &[Group],
        evidence: Evidence<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let features = required(evidence.features, "k-center", "feature vectors")?;
        let mut kept = Vec::new();
        for group in groups {
            let phi = gather(features, &group.members)?;
            kept.extend(cover(&phi, group.quota).into_iter().map(|i| group.members[i].id));
        }
        Ok(kept)
    }
}

/// Indices into `phi` in order of choice.
fn cover(phi: &[&[f32]], quota: usize) -> Vec<usize> {
    let from = |w: &[f64]| phi.iter().map(|phi| distance_squared(w, phi)).collect::<Vec<_>>();
    let first = first_maximum(from(&mean(phi)).iter().map(|distance| -distance));
    farthest_first(phi.len(), quota, first, |centre| from(&widened(phi[centre])))
}

/// `quota` of `n` indices: `first`, then always the one farthest from its nearest chosen one.
///
/// `distances(i)`: `[n]`, from i to each; any numbers in the order of distance will do.
pub(super) fn farthest_first(
    n: usize,
    quota: usize,
    first: usize,
    distances: impl Fn(usize) -> Vec<f64>,
) -> Vec<usize> {
    let mut to_nearest = vec![f64::INFINITY; n];
    let mut chosen = Vec::with_capacity(quota);
    let mut next = first;
    while chosen.len() < quota.min(n) {
        chosen.push(next);
        let shorten =
            |(to_nearest, distance): (&mut f64, f64)| *to_nearest = to_nearest.min(distance);
        to_nearest.iter_mut().zip(distances(next)).for_each(shorten);
        // Below every distance, so that nothing is chosen twice.
        to_nearest[next] = f64::NEG_INFINITY;
        next = first_maximum(to_nearest.iter().copied());
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slices(phi: &[Vec<f32>]) -> Vec<&[f32]> {
        phi.iter().map(Vec::as_slice).collect()
    }

    /// The definition of a distance.
    fn distance(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
    }

    /// From x to the nearest of `kept`.
    fn to_kept(phi: &[Vec<f32>], kept: &[usize], x: usize) -> f64 {
        kept.iter().map(|&c| distance(&phi[x], &phi[c])).fold(f64::INFINITY, f64::min)
    }

    /// The farthest that any member is from the nearest of `kept`.
    fn radius(phi: &[Vec<f32>], kept: &[usize]) -> f64 {
        (0..phi.len()).map(|x| to_kept(phi, kept, x)).fold(0.0, f64::max)
    }

    /// The least radius among all sets of `quota` members.
    fn best_radius(phi: &[Vec<f32>], quota: usize) -> f64 {
        let set = |bits: u32| (0..phi.len()).filter(|i| bits >> i & 1 == 1).collect::<Vec<_>>();
        let sets = (1_u32..1 << phi.len()).filter(|bits| bits.count_ones() as usize == quota);
        sets.map(|bits| radius(phi, &set(bits))).fold(f64::INFINITY, f64::min)
    }

    fn points(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<f32>>> {
        (1_usize..20).prop_flat_map(move |d| {
            prop::collection::vec(prop::collection::vec(-10.0_f32..10.0, d), n.clone())
        })
    }

    #[test]
    fn the_most_typical_comes_first_and_then_the_ends() {
        // Mean 4.8; 5 is nearest; 12 is 7 away and 0 is 5; then 3 is 2 away and 4 is 1.
        let phi = [vec![0.0], vec![3.0], vec![4.0], vec![5.0], vec![12.0]];
        assert_eq!(cover(&slices(&phi), 5), [3, 4, 0, 1, 2]);
    }

    #[test]
    fn equal_distances_go_to_the_lower_id_and_twins_come_last() {
        assert_eq!(cover(&[[1.0_f32, 1.0].as_slice(); 4], 3), [0, 1, 2]);
        // All but 4 are equally near to the mean; 1 and 3 are equally far from 0 and from 4.
        let phi: [&[f32]; 5] = [&[1.0, 0.0], &[0.0, 1.0], &[1.0, 0.0], &[0.0, -1.0], &[-2.0, 0.0]];
        assert_eq!(cover(&phi, 5), [0, 4, 1, 3, 2]);
        assert!(cover(&phi, 0).is_empty() && cover(&[], 0).is_empty());
    }

    proptest! {
        #![proptest_config(crate::draws::tests::repeatable())]

        #[test]
        fn every_choice_is_the_argmax_of_the_definition(
            phi in points(1..14), quota in 1_usize..8,
        ) {
            let chosen = cover(&slices(&phi), quota);
            prop_assert_eq!(chosen.len(), quota.min(phi.len()));
            let mean = |j: usize| phi.iter().map(|x| f64::from(x[j])).sum::<f64>() / phi.len() as f64;
            let to_mean = |x: &Vec<f32>| {
                x.iter().enumerate().map(|(j, &x)| (f64::from(x) - mean(j)).powi(2)).sum::<f64>().sqrt()
            };
            let least = phi.iter().map(to_mean).fold(f64::INFINITY, f64::min);
            prop_assert!(to_mean(&phi[chosen[0]]) - least <= 1e-9);
            for k in 1..chosen.len() {
                let left = (0..phi.len()).filter(|i| !chosen[..k].contains(i));
                let most = left.map(|x| to_kept(&phi, &chosen[..k], x)).fold(0.0, f64::max);
                // Two members may tie up to rounding.
                prop_assert!(most - to_kept(&phi, &chosen[..k], chosen[k]) <= 1e-9);
                prop_assert!(!chosen[..k].contains(&chosen[k]));
            }
        }

        #[test]
        fn the_radius_is_at_most_twice_the_best(phi in points(3..10), quota in 1_usize..5) {
            let quota = quota.min(phi.len());
            let (found, best) = (radius(&phi, &cover(&slices(&phi), quota)), best_radius(&phi, quota));
            prop_assert!(found <= 2.0 * best + 1e-9, "{found} of {best}");
            prop_assert!(found >= best - 1e-9, "{found} of {best}");
        }
    }

    #[test]
    fn the_bound_on_the_radius_can_be_broken() {
        // The control of the bound: two typical members leave the far one uncovered.
        let phi = [vec![0.0], vec![0.5], vec![1.0], vec![40.0]];
        assert!(radius(&phi, &[0, 1]) > 2.0 * best_radius(&phi, 2));
        assert!(radius(&phi, &cover(&slices(&phi), 2)) <= 2.0 * best_radius(&phi, 2));
    }
}
