//! A sample that leans towards high energies (`energy-weighted`).

use super::{Candidate, Evidence, Group, SelectionPolicy};
use crate::{ExampleId, draws::Draws, error::Result};

/// Sampling without replacement: each next one with probability proportional to e^{E/tau} among
/// those that are left, drawn at once as the largest of the keys E/tau + g, g standard Gumbel.
///
/// tau is the standard deviation of the group's energies, so that neither their unit nor their
/// origin matters: between `top-energy` (tau to 0) and a uniform sample (tau to infinity).
/// Where all energies are equal, every subset is equally likely.
/// Equal keys go to the lower id.
///
/// Source: Yellott 1977, "The Relationship between Luce's Choice Axiom, Thurstone's Theory of
/// Comparative Judgment, and the Double Exponential Distribution"; as Gumbel top-k, Kool et al.
/// 2019, "Stochastic Beams and Where to Find Them".
#[derive(Debug, Clone, Copy)]
pub struct EnergyWeighted;

impl SelectionPolicy for EnergyWeighted {
    fn select(
        &self,
        groups: &[Group],
        _evidence: Evidence<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let mut kept = Vec::new();
        for group in groups {
            let energies: Vec<f64> =
                group.members.iter().map(Candidate::rank).collect::<Result<_>>()?;
            let chosen = sample(&in_deviations(&energies), group.quota, draws);
            kept.extend(chosen.into_iter().map(|i| group.members[i].id));
        }
        Ok(kept)
    }
}

/// E/tau up to a constant, from 0 for the lowest; zeros where all are equal.
fn in_deviations(energies: &[f64]) -> Vec<f64> {
    // Halves, since even the range of two finite numbers can be infinite.
    let halves = energies.iter().map(|e| 0.5 * e);
    let low = halves.clone().fold(f64::INFINITY, f64::min);
    let range = halves.clone().fold(f64::NEG_INFINITY, f64::max) - low;
    if range <= 0.0 {
        return vec![0.0; energies.len()];
    }
    // Shares of the range first: squares of huge or tiny energies would be infinite or zero.
    let shares: Vec<f64> = halves.map(|half| (half - low) / range).collect();
    let n = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / n;
    let tau = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / n).sqrt();
    shares.into_iter().map(|share| share / tau).collect()
}

/// Indices of `size` items in the order of their keys; `logits`: the log weight of each, in nats.
fn sample(logits: &[f64], size: usize, draws: &mut dyn Draws) -> Vec<usize> {
    let key = |logit: &f64| logit + standard_gumbel(draws);
    let mut keyed: Vec<(f64, usize)> = logits.iter().map(key).zip(0..).collect();
    // Stable, so that ties stay in ascending order of id.
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
    keyed.into_iter().take(size).map(|(_, i)| i).collect()
}

/// -log(-log u), u uniform; within [-3.6, 36.8].
fn standard_gumbel(draws: &mut dyn Draws) -> f64 {
    -(-draws.uniform_open().ln()).ln()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::draws::tests::split_mix;

    /// Unnormalized log weights of six items; the heaviest weighs e^2.5 = 12.2 of the lightest.
    const LOGITS: [f64; 6] = [0.0, 2.5, 1.0, 0.5, 2.0, 1.5];

    /// P(the set is chosen): the sum over its orders of the product of w over what is left.
    fn probability(weights: &[f64], set: &[usize], left: f64) -> f64 {
        if set.is_empty() {
            return 1.0;
        }
        let after = |&i: &usize| {
            let rest: Vec<usize> = set.iter().copied().filter(|&j| j != i).collect();
            weights[i] / left * probability(weights, &rest, left - weights[i])
        };
        set.iter().map(after).sum()
    }

    /// Pearson's statistic of 40,000 choices of 3 out of 6 at `tau` against the law at tau = 1.
    fn misfit(tau: f64) -> f64 {
        let weights = LOGITS.map(f64::exp);
        let logits = LOGITS.map(|logit| logit / tau);
        let n = 40_000;
        let mut counts = BTreeMap::<Vec<usize>, u64>::new();
        for seed in 0..n {
            let mut kept = sample(&logits, 3, &mut split_mix(seed));
            kept.sort_unstable();
            *counts.entry(kept).or_default() += 1;
        }
        let sets = (0_u32..64).filter(|bits| bits.count_ones() == 3);
        let statistic = |bits: u32| {
            let set: Vec<usize> = (0..6).filter(|i| bits >> i & 1 == 1).collect();
            let expected = n as f64 * probability(&weights, &set, weights.iter().sum());
            (counts.get(&set).map_or(0.0, |&c| c as f64) - expected).powi(2) / expected
        };
        sets.map(statistic).sum()
    }

    #[test]
    fn every_subset_is_as_likely_as_successive_draws_make_it() {
        // 19 degrees of freedom: the 1e-6 quantile is 63.7.
        assert!(misfit(1.0) <= 63.7, "{}", misfit(1.0));
        assert!(misfit(1.1) > 150.0 && misfit(0.9) > 150.0, "{} {}", misfit(1.1), misfit(0.9));
    }

    #[test]
    fn a_low_temperature_takes_the_top_and_a_high_one_is_blind() {
        let at = |tau: f64, seed| sample(&LOGITS.map(|e| e / tau), 3, &mut split_mix(seed));
        assert!((0..100).all(|seed| at(1e-3, seed) == [1, 4, 5]));
        let lightest = (0..2_000).filter(|&seed| at(1e6, seed).contains(&0)).count();
        // Expected 1000 with a standard deviation of 22.4.
        assert!((880..=1_120).contains(&lightest), "{lightest}");
    }

    #[test]
    fn keys_are_finite_at_both_ends_and_ties_go_to_the_lower_id() {
        let ends = [standard_gumbel(&mut || 0), standard_gumbel(&mut || u64::MAX)];
        assert!(ends[0] >= -3.61 && ends[0] <= -3.6, "{ends:?}");
        assert!(ends[1] >= 36.73 && ends[1] <= 36.74, "{ends:?}");
        assert_eq!(sample(&[1.0, 2.0, 2.0, 2.0], 2, &mut || 5), [1, 2]);
    }

    #[test]
    fn the_unit_is_the_standard_deviation() {
        assert_eq!(in_deviations(&[3.0, 7.0, 3.0, 7.0]), [0.0, 2.0, 0.0, 2.0]);
        assert_eq!(in_deviations(&[-1.5; 5]), [0.0; 5]);
        assert_eq!(in_deviations(&[f64::MIN, f64::MAX]), [0.0, 2.0]);
        assert_eq!(in_deviations(&[0.0, 1e-300]), [0.0, 2.0]);
        assert_eq!(in_deviations(&[]), [0.0; 0]);
    }

    proptest! {
        #![proptest_config(crate::draws::tests::repeatable())]

        #[test]
        fn differences_are_in_standard_deviations(
            energies in prop::collection::vec(-100.0_f64..100.0, 2..40),
        ) {
            let n = energies.len() as f64;
            let mean = energies.iter().sum::<f64>() / n;
            let tau = (energies.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / n).sqrt();
            let found = in_deviations(&energies);
            for (e, z) in energies.iter().zip(&found) {
                let expected = (e - energies[0]) / tau;
                prop_assert!((z - found[0] - expected).abs() <= 1e-9);
            }
        }

        #[test]
        fn neither_unit_nor_origin_matters(
            energies in prop::collection::vec(-100_i32..100, 1..40),
            exponent in -30_i32..30, origin in -100_i32..100, seed in any::<u64>(),
        ) {
            // Integers and powers of two, so that nothing rounds.
            let plain: Vec<f64> = energies.iter().map(|&e| f64::from(e)).collect();
            let moved: Vec<f64> =
                plain.iter().map(|e| (e + f64::from(origin)) * 2_f64.powi(exponent)).collect();
            let chosen = |energies: &[f64]| sample(&in_deviations(energies), 5, &mut split_mix(seed));
            prop_assert_eq!(chosen(&moved), chosen(&plain));
        }
    }
}
