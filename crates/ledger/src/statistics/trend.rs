//! The Jonckheere-Terpstra test of a trend over ordered groups.
//!
//! Law: J = number of pairs from different groups in the expected order, ties counting one half;
//! under no trend J is nearly normal with the mean and the tie-corrected variance of Hollander,
//! Wolfe and Chicken (2014, section 6.2). J is a linear function of Kendall's S of group and value,
//! hence z is that of Kendall's test.

use super::check_columns;
use crate::error::{Error, Result};

const NAME: &str = "Jonckheere-Terpstra test";

/// Outcome of a test against an increasing trend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// J.
    pub statistic: f64,
    /// Standard deviations of J above its mean without a trend.
    pub z: f64,
    /// Probability of such a z or a larger one without a trend.
    pub p: f64,
}

/// Tests whether the values rise from group to group.
///
/// # Errors
/// [`Error::Undefined`] if a value is not finite, or all values are equal, or fewer than two
/// groups hold any.
pub fn jonckheere(groups: &[Vec<f64>]) -> Result<Trend> {
    let mut items: Vec<(f64, usize)> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        check_columns(NAME, &[group])?;
        items.extend(group.iter().map(|&value| (value, index)));
    }
    items.sort_by(|a, b| a.0.total_cmp(&b.0));
    let runs: Vec<&[(f64, usize)]> = items.chunk_by(|a, b| a.0 == b.0).collect();
    let sizes: Vec<f64> = groups.iter().map(|group| group.len() as f64).collect();
    let ties: Vec<f64> = runs.iter().map(|run| run.len() as f64).collect();
    let variance = variance(items.len() as f64, &sizes, &ties);
    if variance <= 0.0 {
        return Err(Error::undefined(NAME, "it needs two groups and two different values"));
    }
    let statistic = ordered_pairs(groups.len(), &runs);
    let n = items.len() as f64;
    let mean = (n * n - sizes.iter().map(|size| size * size).sum::<f64>()) / 4.0;
    let z = (statistic - mean) / variance.sqrt();
    Ok(Trend { statistic, z, p: 0.5 * libm::erfc(z / std::f64::consts::SQRT_2) })
}

/// J, from the runs of equal values in ascending order.
fn ordered_pairs(n_groups: usize, runs: &[&[(f64, usize)]]) -> f64 {
    let mut below = vec![0.0; n_groups];
    let mut statistic = 0.0;
    for run in runs {
        let mut equal = vec![0.0; n_groups];
        run.iter().for_each(|&(_, group)| equal[group] += 1.0);
        for group in 0..n_groups {
            let pairs = |earlier: usize| below[earlier] + equal[earlier] / 2.0;
            statistic += equal[group] * (0..group).map(pairs).sum::<f64>();
        }
        below.iter_mut().zip(&equal).for_each(|(below, equal)| *below += equal);
    }
    statistic
}

fn variance(n: f64, sizes: &[f64], ties: &[f64]) -> f64 {
    let sum = |counts: &[f64], term: fn(f64) -> f64| counts.iter().map(|&c| term(c)).sum::<f64>();
    let first = |c: f64| c * (c - 1.0) * (2.0 * c + 5.0);
    let second = |c: f64| c * (c - 1.0) * (c - 2.0);
    let third = |c: f64| c * (c - 1.0);
    let mut variance = (first(n) - sum(sizes, first) - sum(ties, first)) / 72.0;
    if n > 2.0 {
        variance += sum(sizes, second) * sum(ties, second) / (36.0 * second(n));
    }
    if n > 1.0 {
        variance += sum(sizes, third) * sum(ties, third) / (8.0 * third(n));
    }
    variance
}

#[cfg(test)]
mod tests {
    use super::*;

    /// J by its definition: every pair of groups, every pair of values.
    fn by_definition(groups: &[Vec<f64>]) -> f64 {
        let mut statistic = 0.0;
        for (index, later) in groups.iter().enumerate() {
            for (a, b) in
                groups[..index].iter().flatten().flat_map(|a| later.iter().map(move |b| (a, b)))
            {
                statistic += if a < b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                };
            }
        }
        statistic
    }

    #[test]
    fn the_statistic_is_its_definition() {
        let groups = vec![vec![1.0, 4.0, 2.0], vec![], vec![2.0, 2.0, 9.0], vec![-1.0, 4.0]];
        assert_eq!(jonckheere(&groups).unwrap().statistic, by_definition(&groups));
    }

    #[test]
    fn a_rise_has_a_small_p_and_a_fall_a_large_one() {
        let rising: Vec<Vec<f64>> =
            (0..5).map(|g| (0..6).map(|i| f64::from(g * 3 + i)).collect()).collect();
        let falling: Vec<Vec<f64>> = rising.iter().rev().cloned().collect();
        let (up, down) = (jonckheere(&rising).unwrap(), jonckheere(&falling).unwrap());
        assert!(up.p <= 1e-5 && down.p >= 1.0 - 1e-5, "{up:?} {down:?}");
        assert!((up.z + down.z).abs() <= 1e-12);
    }

    #[test]
    fn no_trend_can_be_tested_without_two_groups_and_values() {
        for groups in
            [vec![], vec![vec![1.0, 2.0]], vec![vec![1.0], vec![1.0]], vec![vec![], vec![1.0]]]
        {
            assert!(jonckheere(&groups).is_err(), "{groups:?}");
        }
        assert!(jonckheere(&[vec![1.0], vec![f64::NAN]]).is_err());
    }
}
