//! Percentile intervals by resampling examples, the same on any number of threads.
//!
//! Law: draw d replaces the n examples by n draws with replacement; the interval runs from the
//! (1-c)/2 to the (1+c)/2 quantile of the statistic over all draws (Efron 1979), linearly
//! interpolated. A statistic of several columns is resampled jointly: the pairing stays.

use super::check_columns;
use super::draws::Draws;
use crate::error::{Error, Result};
use rayon::prelude::*;

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Seed of the draws.
    pub seed: u64,
    /// Number of draws.
    pub draws: usize,
    /// Coverage of the interval, between 0 and 1.
    pub confidence: f64,
}

impl Default for Bootstrap {
    /// 5000 draws, 95 %.
    fn default() -> Self {
        Self { seed: 0, draws: 5000, confidence: 0.95 }
    }
}

/// An estimate and the range that other examples of the same kind would give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The statistic of the examples as they are.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Number of examples.
    pub n: usize,
}

/// On which side of zero an interval lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Wholly above.
    Above,
    /// Wholly below.
    Below,
    /// Zero lies in it.
    Straddles,
}

impl Interval {
    /// On which side of zero the interval lies.
    pub fn side(&self) -> Side {
        if self.low > 0.0 {
            Side::Above
        } else if self.high < 0.0 {
            Side::Below
        } else {
            Side::Straddles
        }
    }
}

impl Bootstrap {
    /// Interval of a statistic of n examples; `statistic` is given how often each example is in
    /// the sample, all ones for the estimate.
    ///
    /// # Errors
    /// [`Error::Undefined`] if the statistic has no value on the examples or on any resample.
    pub fn interval(
        &self,
        name: &'static str,
        n: usize,
        statistic: impl Fn(&[u32]) -> Option<f64> + Sync,
    ) -> Result<Interval> {
        let intervals = self.intervals(name, n, |counts| Some(vec![statistic(counts)?]))?;
        intervals.first().copied().ok_or_else(|| Error::undefined(name, "it gave no number"))
    }

    /// Intervals of several statistics of the same examples from the same resamples.
    ///
    /// # Errors
    /// As [`Self::interval`].
    pub fn intervals(
        &self,
        name: &'static str,
        n: usize,
        statistics: impl Fn(&[u32]) -> Option<Vec<f64>> + Sync,
    ) -> Result<Vec<Interval>> {
        self.resampled(name, n, |draws, counts| draws.resample(counts), statistics)
    }

    /// Intervals of what `combine` makes of the groups' means, each group resampled by itself.
    ///
    /// # Errors
    /// [`Error::Undefined`] for an empty group, a value that is not finite, or where `combine` has
    /// no value.
    pub fn group_means(
        &self,
        name: &'static str,
        groups: &[Vec<f64>],
        combine: impl Fn(&[f64]) -> Option<Vec<f64>> + Sync,
    ) -> Result<Vec<Interval>> {
        for group in groups {
            if check_columns(name, &[group])? == 0 {
                return Err(Error::undefined(name, "a group holds no examples"));
            }
        }
        let values: Vec<f64> = groups.concat();
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        let sampler = |draws: &mut Draws, counts: &mut [u32]| draws.resample_within(&sizes, counts);
        self.resampled(name, values.len(), sampler, |counts| {
            combine(&weighted_means(&values, &sizes, counts))
        })
    }

    fn resampled(
        &self,
        name: &'static str,
        n: usize,
        sampler: impl Fn(&mut Draws, &mut [u32]) + Sync,
        statistics: impl Fn(&[u32]) -> Option<Vec<f64>> + Sync,
    ) -> Result<Vec<Interval>> {
        let estimates = statistics(&vec![1; n])
            .ok_or_else(|| Error::undefined(name, format!("it has no value on {n} examples")))?;
        let draws = self.collect(name, n, |draw, counts| {
            counts.resize(n, 0);
            sampler(&mut Draws::new(self.seed, draw), counts);
            statistics(counts)
        })?;
        self.quantiles(name, n, &draws, Some(&estimates))
    }

    /// Mean of the values with its interval.
    ///
    /// # Errors
    /// As [`Self::interval`]; also if a value is not finite.
    pub fn mean(&self, values: &[f64]) -> Result<Interval> {
        let intervals = self.means(&[values])?;
        intervals.first().copied().ok_or_else(|| Error::undefined("mean", "no column"))
    }

    /// Mean of a - b over the pairs.
    ///
    /// # Errors
    /// As [`Self::mean`]; also for unequal lengths.
    pub fn mean_difference(&self, a: &[f64], b: &[f64]) -> Result<Interval> {
        check_columns("mean difference", &[a, b])?;
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        self.mean(&differences)
    }

    /// Means of several columns of the same examples, resampled jointly.
    ///
    /// # Errors
    /// As [`Self::mean`]; also for unequal lengths.
    pub fn means(&self, columns: &[&[f64]]) -> Result<Vec<Interval>> {
        let n = check_columns("mean", columns)?;
        if n == 0 {
            return Err(Error::undefined("mean", "there are no examples"));
        }
        let mean = |column: &&[f64], counts: &[u32]| {
            column.iter().zip(counts).map(|(value, &count)| value * f64::from(count)).sum::<f64>()
                / n as f64
        };
        self.intervals("mean", n, |counts| {
            Some(columns.iter().map(|column| mean(column, counts)).collect())
        })
    }

    /// Range of a statistic when the examples are shuffled; `statistic` is given the order.
    /// The estimate is the mean over shuffles.
    ///
    /// # Errors
    /// As [`Self::interval`].
    pub fn shuffled(
        &self,
        name: &'static str,
        n: usize,
        statistic: impl Fn(&[u32]) -> Option<f64> + Sync,
    ) -> Result<Interval> {
        let intervals = self.all_shuffled(name, n, |order| Some(vec![statistic(order)?]))?;
        intervals.first().copied().ok_or_else(|| Error::undefined(name, "it gave no number"))
    }

    /// Ranges of several statistics under the same shuffles.
    ///
    /// # Errors
    /// As [`Self::interval`].
    pub fn all_shuffled(
        &self,
        name: &'static str,
        n: usize,
        statistics: impl Fn(&[u32]) -> Option<Vec<f64>> + Sync,
    ) -> Result<Vec<Interval>> {
        let draws = self.collect(name, n, |draw, order| {
            order.clear();
            order.extend(0..n as u32);
            Draws::new(self.seed, draw).shuffle(order);
            statistics(order)
        })?;
        self.quantiles(name, n, &draws, None)
    }

    /// The statistics of every draw, in the order of the draws.
    fn collect(
        &self,
        name: &'static str,
        n: usize,
        statistics: impl Fn(u64, &mut Vec<u32>) -> Option<Vec<f64>> + Sync,
    ) -> Result<Vec<Vec<f64>>> {
        if self.draws == 0 || !(0.0..=1.0).contains(&self.confidence) {
            let reason = format!("{} draws and confidence {}", self.draws, self.confidence);
            return Err(Error::undefined(name, reason));
        }
        let draws: Option<Vec<Vec<f64>>> = (0..self.draws as u64)
            .into_par_iter()
            .map_init(Vec::new, |scratch, draw| statistics(draw, scratch))
            .collect();
        draws.ok_or_else(|| {
            Error::undefined(name, format!("it has no value on some resample of {n} examples"))
        })
    }

    fn quantiles(
        &self,
        name: &'static str,
        n: usize,
        draws: &[Vec<f64>],
        estimates: Option<&[f64]>,
    ) -> Result<Vec<Interval>> {
        let n_statistics = draws.first().map_or(0, Vec::len);
        let tail = (1.0 - self.confidence) / 2.0;
        (0..n_statistics)
            .map(|index| {
                let mut values: Vec<f64> =
                    draws.iter().filter_map(|draw| draw.get(index).copied()).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let estimate = estimates.map_or(Some(mean), |all| all.get(index).copied());
                values.sort_unstable_by(f64::total_cmp);
                let (low, high) = (quantile(&values, tail), quantile(&values, 1.0 - tail));
                match (estimate, low, high) {
                    (Some(estimate), Some(low), Some(high)) if values.len() == draws.len() => {
                        Ok(Interval { estimate, low, high, n })
                    }
                    _ => Err(Error::undefined(name, "it gave now more, now fewer numbers")),
                }
            })
            .collect()
    }
}

/// Means of consecutive groups of these sizes, item `i` counted `counts[i]` times.
fn weighted_means(values: &[f64], sizes: &[usize], counts: &[u32]) -> Vec<f64> {
    let mut items = values.iter().zip(counts);
    let sum_of_next = |size: usize| -> f64 {
        items.by_ref().take(size).map(|(value, &count)| value * f64::from(count)).sum()
    };
    sizes.iter().copied().map(sum_of_next).zip(sizes).map(|(sum, &n)| sum / n as f64).collect()
}

/// Quantile of ascending values, linearly interpolated between order statistics.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values without any pattern that a resample could favour.
    fn values(n: u32) -> Vec<f64> {
        (0..n).map(|i| (f64::from(i) * 0.754_877_666).fract()).collect()
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_central_limit() {
        let values = values(500);
        let interval = Bootstrap::default().mean(&values).unwrap();
        let mean = values.iter().sum::<f64>() / 500.0;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 500.0;
        let half_width = 1.96 * (variance / 500.0).sqrt();
        assert!((interval.estimate - mean).abs() <= 1e-12);
        assert!((interval.low - (mean - half_width)).abs() <= 0.05 * half_width, "{interval:?}");
        assert!((interval.high - (mean + half_width)).abs() <= 0.05 * half_width, "{interval:?}");
    }

    #[test]
    fn pairing_narrows_the_difference() {
        let before = values(200);
        let after: Vec<f64> = before
            .iter()
            .enumerate()
            .map(|(i, value)| value + 0.1 + 1e-3 * (i % 2) as f64)
            .collect();
        let difference = Bootstrap::default().mean_difference(&after, &before).unwrap();
        assert!(difference.low >= 0.1 && difference.high <= 0.101, "{difference:?}");
        assert_eq!(difference.side(), Side::Above);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let values = values(100);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Bootstrap { draws: 333, ..Bootstrap::default() }.mean(&values).unwrap())
        };
        assert_eq!(on(1), on(3));
        let other_seed = Bootstrap { draws: 333, seed: 1, ..Bootstrap::default() };
        assert_ne!(on(1), other_seed.mean(&values).unwrap());
    }

    #[test]
    fn a_statistic_without_a_value_on_some_resample_is_refused() {
        let bootstrap = Bootstrap::default();
        let undefined_without_first =
            bootstrap.interval("share", 5, |counts| (counts[0] > 0).then_some(1.0));
        let message = undefined_without_first.unwrap_err().to_string();
        assert!(message.contains("share is undefined"), "{message}");
        assert!(bootstrap.mean(&[]).is_err());
        assert!(bootstrap.mean(&[f64::NAN]).is_err());
        assert!(Bootstrap { draws: 0, ..bootstrap }.mean(&[1.0]).is_err());
        assert!(Bootstrap { confidence: 1.5, ..bootstrap }.mean(&[1.0]).is_err());
    }

    #[test]
    fn a_difference_of_two_groups_has_the_sum_of_their_variances() {
        let (a, b) = (values(300), values(100));
        let spread = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            squares / (values.len() as f64).powi(2)
        };
        let half_width = 1.96 * (spread(&a) + spread(&b)).sqrt();
        let groups = [a, b];
        let difference = |means: &[f64]| Some(vec![means[0] - means[1]]);
        let intervals = Bootstrap::default().group_means("gap", &groups, difference).unwrap();
        let found = (intervals[0].high - intervals[0].low) / 2.0;
        assert!((found - half_width).abs() <= 0.05 * half_width, "{found} and {half_width}");
        assert!(Bootstrap::default().group_means("gap", &[vec![]], difference).is_err());
    }

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        let sorted = [1.0, 2.0, 4.0];
        assert_eq!(quantile(&sorted, 0.0), Some(1.0));
        assert_eq!(quantile(&sorted, 0.25), Some(1.5));
        assert_eq!(quantile(&sorted, 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
