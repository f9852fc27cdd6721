//! Ten equal groups of examples by a priority, and what a quantity does across them.

use super::bootstrap::{Bootstrap, Interval};
use super::check_columns;
use super::correlation::spearman;
use super::trend::{Trend, jonckheere};
use crate::error::{Error, Result};

/// Number of groups.
const N_DECILES: usize = 10;
const NAME: &str = "decile";

/// Which examples are in which decile; decile 0 holds the lowest priorities.
///
/// Membership is fixed by all examples and does not change in a resample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deciles {
    members: Vec<Vec<usize>>,
    n: usize,
}

impl Deciles {
    /// Sorts examples by priority, ties by position, and cuts them into ten groups whose sizes
    /// differ by at most one.
    ///
    /// # Errors
    /// [`Error::Undefined`] for fewer than ten examples or a priority that is not finite.
    pub fn by(priorities: &[f64]) -> Result<Self> {
        let n = check_columns(NAME, &[priorities])?;
        if n < N_DECILES {
            return Err(Error::undefined(NAME, format!("{n} examples are fewer than ten")));
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| priorities[a].total_cmp(&priorities[b]));
        let bound = |decile: usize| decile * n / N_DECILES;
        let members = (0..N_DECILES)
            .map(|decile| {
                let mut members = order[bound(decile)..bound(decile + 1)].to_vec();
                members.sort_unstable();
                members
            })
            .collect();
        Ok(Self { members, n })
    }

    /// Positions of each decile's examples, ascending.
    pub fn members(&self) -> &[Vec<usize>] {
        &self.members
    }

    /// Positions of the examples with the highest priorities.
    pub fn top(&self) -> &[usize] {
        self.members.last().map_or(&[], Vec::as_slice)
    }

    /// Mean of the values in each decile, with its interval over that decile's examples.
    ///
    /// # Errors
    /// [`Error::Undefined`] for values that are not finite or not one for each example.
    pub fn means(&self, values: &[f64], bootstrap: &Bootstrap) -> Result<Vec<Interval>> {
        let groups = self.groups(values)?;
        let intervals = bootstrap.group_means(NAME, &groups, |means| Some(means.to_vec()))?;
        let sized =
            |(interval, group): (Interval, &Vec<f64>)| Interval { n: group.len(), ..interval };
        Ok(intervals.into_iter().zip(&groups).map(sized).collect())
    }

    /// Spearman correlation of decile and decile mean, resampled within the deciles.
    ///
    /// # Errors
    /// As [`Self::means`]; also if all means are equal.
    pub fn spearman(&self, values: &[f64], bootstrap: &Bootstrap) -> Result<Interval> {
        let name = "Spearman correlation over deciles";
        let deciles: Vec<f64> = (0..N_DECILES).map(|decile| decile as f64).collect();
        let correlation = |means: &[f64]| Some(vec![spearman(&deciles, means).ok()?]);
        let intervals = bootstrap.group_means(name, &self.groups(values)?, correlation)?;
        intervals.first().copied().ok_or_else(|| Error::undefined(name, "it gave no number"))
    }

    /// Tests whether the values rise over the deciles.
    ///
    /// # Errors
    /// As [`Self::means`] and [`jonckheere`].
    pub fn trend(&self, values: &[f64]) -> Result<Trend> {
        jonckheere(&self.groups(values)?)
    }

    /// Range of each decile's mean when the priorities are shuffled over the examples.
    ///
    /// # Errors
    /// As [`Self::means`].
    pub fn shuffled_means(&self, values: &[f64], bootstrap: &Bootstrap) -> Result<Vec<Interval>> {
        self.check(values)?;
        bootstrap.all_shuffled(NAME, self.n, |order| {
            let mean_of = |members: &Vec<usize>| {
                let sum: f64 = members.iter().map(|&i| values[order[i] as usize]).sum();
                sum / members.len() as f64
            };
            Some(self.members.iter().map(mean_of).collect())
        })
    }

    /// The values by decile.
    fn groups(&self, values: &[f64]) -> Result<Vec<Vec<f64>>> {
        self.check(values)?;
        let group = |members: &Vec<usize>| members.iter().map(|&i| values[i]).collect();
        Ok(self.members.iter().map(group).collect())
    }

    fn check(&self, values: &[f64]) -> Result<()> {
        let n = check_columns(NAME, &[values])?;
        if n == self.n {
            return Ok(());
        }
        Err(Error::undefined(NAME, format!("{n} values for {} examples", self.n)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::mean;
    use super::*;

    #[test]
    fn groups_are_equal_up_to_one_and_ordered() {
        let priorities: Vec<f64> = (0..23).map(|i| f64::from((i * 7) % 23)).collect();
        let deciles = Deciles::by(&priorities).unwrap();
        let sizes: Vec<usize> = deciles.members().iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 23);
        assert!(sizes.iter().all(|&size| size == 2 || size == 3), "{sizes:?}");
        let ceiling =
            |members: &[usize]| members.iter().map(|&i| priorities[i]).fold(f64::MIN, f64::max);
        let floor =
            |members: &[usize]| members.iter().map(|&i| priorities[i]).fold(f64::MAX, f64::min);
        for pair in deciles.members().windows(2) {
            assert!(ceiling(&pair[0]) < floor(&pair[1]));
        }
        assert_eq!(deciles.top(), deciles.members()[9]);
    }

    #[test]
    fn a_monotone_quantity_has_decile_correlation_one_and_a_shuffle_has_none() {
        let priorities: Vec<f64> = (0..400).map(f64::from).collect();
        let squares: Vec<f64> = priorities.iter().map(|p| p * p).collect();
        let deciles = Deciles::by(&priorities).unwrap();
        let bootstrap = Bootstrap { draws: 400, ..Bootstrap::default() };
        let correlation = deciles.spearman(&squares, &bootstrap).unwrap();
        assert!((correlation.estimate - 1.0).abs() <= 1e-12 && correlation.low >= 0.99);
        assert!(deciles.trend(&squares).unwrap().p <= 1e-9);

        let overall = mean(&squares).unwrap();
        for interval in deciles.shuffled_means(&squares, &bootstrap).unwrap() {
            assert!(interval.low <= overall && overall <= interval.high);
        }
        let means = deciles.means(&squares, &bootstrap).unwrap();
        assert_eq!(means[0].n, 40);
        assert!(means[0].high < overall && means[9].low > overall);
    }

    #[test]
    fn what_cannot_be_cut_in_ten_is_refused() {
        assert!(Deciles::by(&[1.0; 9]).is_err());
        assert!(Deciles::by(&[f64::NAN; 10]).is_err());
        let deciles = Deciles::by(&[1.0; 10]).unwrap();
        assert!(deciles.means(&[1.0; 9], &Bootstrap::default()).is_err());
        assert!(deciles.spearman(&[1.0; 10], &Bootstrap::default()).is_err(), "all means equal");
    }
}
