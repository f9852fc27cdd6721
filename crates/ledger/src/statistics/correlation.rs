//! Spearman's rank correlation, also with controls taken out, also of a resample.
//!
//! Law: the partial Spearman correlation of x and y given controls z is the Pearson correlation of
//! what is left of rank(x) and rank(y) after a least-squares regression, with intercept, on the
//! ranks of z. Regressing out one control after the other is Gaussian elimination on the matrix of
//! cross products of the centred ranks (Frisch, Waugh and Lovell), which costs O(n) for a resample.

use super::bootstrap::{Bootstrap, Interval};
use super::check_columns;
use super::rank::Order;
use crate::error::{Error, Result};

/// What must remain of a column's variance for it to count as not explained by the others.
const REMAINDER: f64 = 1e-10;

/// Pearson's correlation.
///
/// # Errors
/// [`Error::Undefined`] for unequal lengths, numbers that are not finite, fewer than 2 pairs, or a
/// constant column.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<f64> {
    let n = check_columns("Pearson correlation", &[x, y])?;
    let centred = |column: &[f64]| -> Vec<f64> {
        let mean = column.iter().sum::<f64>() / n as f64;
        column.iter().map(|value| value - mean).collect()
    };
    let (x, y) = (centred(x), centred(y));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let correlation = dot(&x, &y) / (dot(&x, &x).sqrt() * dot(&y, &y).sqrt());
    if correlation.is_finite() {
        return Ok(correlation.clamp(-1.0, 1.0));
    }
    Err(Error::undefined("Pearson correlation", format!("a column of {n} numbers is constant")))
}

/// Spearman's rank correlation, ties by average ranks.
///
/// # Errors
/// As [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Result<f64> {
    RankCorrelation::new(x, y, &[])?.value()
}

/// Partial Spearman correlation of `x` and `y` given the controls; a control that the others
/// explain is ignored.
///
/// # Errors
/// As [`pearson`]; also if the controls explain a column wholly.
pub fn partial_spearman(x: &[f64], y: &[f64], controls: &[&[f64]]) -> Result<f64> {
    RankCorrelation::new(x, y, controls)?.value()
}

/// Columns sorted once, for the (partial) Spearman correlation of many resamples.
#[derive(Debug, Clone)]
pub struct RankCorrelation {
    /// x, y, then the controls.
    orders: Vec<Order>,
    n: usize,
}

impl RankCorrelation {
    /// Sorts the columns.
    ///
    /// # Errors
    /// [`Error::Undefined`] for unequal lengths or numbers that are not finite.
    pub fn new(x: &[f64], y: &[f64], controls: &[&[f64]]) -> Result<Self> {
        let columns: Vec<&[f64]> = [x, y].into_iter().chain(controls.iter().copied()).collect();
        let n = check_columns(NAME, &columns)?;
        Ok(Self { orders: columns.into_iter().map(Order::of).collect(), n })
    }

    /// The correlation of the examples as they are.
    ///
    /// # Errors
    /// [`Error::Undefined`] for fewer than 2 pairs, or a column that is constant or explained.
    pub fn value(&self) -> Result<f64> {
        self.resampled(&vec![1; self.n]).ok_or_else(|| {
            let reason = format!(
                "of {} examples a column is constant, or the controls explain it wholly",
                self.n
            );
            Error::undefined(NAME, reason)
        })
    }

    /// The correlation in a sample that holds example `i` `counts[i]` times; ranks are those of
    /// that sample. None where it is undefined.
    pub fn resampled(&self, counts: &[u32]) -> Option<f64> {
        correlate(&self.ranks(counts)?, counts)
    }

    /// The correlation with its percentile interval over examples.
    ///
    /// # Errors
    /// As [`Self::value`] and [`Bootstrap::interval`].
    pub fn interval(&self, bootstrap: &Bootstrap) -> Result<Interval> {
        self.value()?;
        bootstrap.interval(NAME, self.n, |counts| self.resampled(counts))
    }

    /// What remains when x is shuffled over the examples: the range that chance alone gives.
    ///
    /// # Errors
    /// As [`Self::interval`].
    pub fn shuffled(&self, bootstrap: &Bootstrap) -> Result<Interval> {
        self.value()?;
        let ones = vec![1; self.n];
        let ranks = self.ranks(&ones).ok_or_else(|| Error::undefined(NAME, "no examples"))?;
        bootstrap.shuffled(NAME, self.n, |order| {
            let mut shuffled = ranks.clone();
            for (place, &from) in order.iter().enumerate() {
                shuffled[0][place] = ranks[0][from as usize];
            }
            correlate(&shuffled, &ones)
        })
    }

    fn ranks(&self, counts: &[u32]) -> Option<Vec<Vec<f64>>> {
        if counts.len() != self.n {
            return None;
        }
        let rank = |order: &Order| {
            let mut ranks = vec![0.0; self.n];
            order.rank(counts, &mut ranks);
            ranks
        };
        Some(self.orders.iter().map(rank).collect())
    }
}

const NAME: &str = "Spearman correlation";

/// Correlation of the first two columns of ranks given the others.
fn correlate(ranks: &[Vec<f64>], counts: &[u32]) -> Option<f64> {
    let mut products = cross_products(ranks, counts);
    let total: Vec<f64> = (0..ranks.len()).map(|i| products[i][i]).collect();
    let is_left = |remaining: f64, i: usize| remaining > REMAINDER * total[i].max(1.0);
    let mut controls: Vec<usize> = (2..ranks.len()).collect();
    // The control with the largest share left goes first, as in pivoted elimination.
    while let Some(place) = (0..controls.len()).max_by(|&a, &b| {
        let share = |place: usize| {
            let i: usize = controls[place];
            products[i][i] / total[i].max(1.0)
        };
        share(a).total_cmp(&share(b))
    }) {
        let pivot = controls.swap_remove(place);
        if is_left(products[pivot][pivot], pivot) {
            eliminate(&mut products, pivot);
        }
    }
    let (xx, yy, xy) = (products[0][0], products[1][1], products[0][1]);
    (is_left(xx, 0) && is_left(yy, 1)).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}

/// `P[i][j] = sum_e counts[e] (ranks[i][e] - m) (ranks[j][e] - m)`, m the mean rank of any column.
fn cross_products(ranks: &[Vec<f64>], counts: &[u32]) -> Vec<Vec<f64>> {
    let n: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    let mean = (n + 1.0) / 2.0;
    let weighted: Vec<Vec<f64>> = ranks
        .iter()
        .map(|column| column.iter().zip(counts).map(|(r, &c)| (r - mean) * f64::from(c)).collect())
        .collect();
    let product = |i: usize, j: usize| -> f64 {
        weighted[i].iter().zip(&ranks[j]).map(|(w, r)| w * (r - mean)).sum()
    };
    let mut products = vec![vec![0.0; ranks.len()]; ranks.len()];
    for i in 0..ranks.len() {
        for j in 0..=i {
            products[i][j] = product(i, j);
            products[j][i] = products[i][j];
        }
    }
    products
}

/// Regresses the pivot column out of all others.
fn eliminate(products: &mut [Vec<f64>], pivot: usize) {
    let row = products[pivot].clone();
    for i in (0..row.len()).filter(|&i| i != pivot) {
        let slope = products[i][pivot] / row[pivot];
        for j in 0..row.len() {
            products[i][j] -= slope * row[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotone_means_one() {
        let x = [1.0, 2.0, 5.0, 9.0];
        let y = [0.1, 0.2, 10.0, 11.0];
        let falling = [4.0, 3.0, 2.0, 1.0];
        assert!((spearman(&x, &y).unwrap() - 1.0).abs() <= 1e-15);
        assert!((spearman(&x, &falling).unwrap() + 1.0).abs() <= 1e-15);
    }

    #[test]
    fn what_has_no_value_says_why() {
        let cases: [(&[f64], &[f64], &str); 4] = [
            (&[1.0, 2.0], &[1.0], "cannot be paired"),
            (&[1.0, f64::NAN], &[1.0, 2.0], "number 1 is NaN"),
            (&[1.0, 1.0], &[1.0, 2.0], "constant"),
            (&[], &[], "constant"),
        ];
        for (x, y, reason) in cases {
            for outcome in [spearman(x, y), pearson(x, y)] {
                let message = outcome.unwrap_err().to_string();
                assert!(message.contains(reason), "{message}");
            }
        }
    }

    #[test]
    fn a_column_that_the_controls_explain_has_no_correlation_left() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0];
        let y = [2.0, 1.0, 4.0, 3.0, 5.0];
        assert!(partial_spearman(&x, &y, &[&x]).is_err());
    }

    #[test]
    fn shuffling_keeps_nothing() {
        let x: Vec<f64> = (0..400).map(f64::from).collect();
        let null =
            RankCorrelation::new(&x, &x, &[]).unwrap().shuffled(&Bootstrap::default()).unwrap();
        // The standard deviation of Spearman's correlation of n independent pairs is 1/sqrt(n-1).
        assert!((null.high - 1.96 / 399f64.sqrt()).abs() <= 0.01, "{null:?}");
        assert!((null.low + 1.96 / 399f64.sqrt()).abs() <= 0.01, "{null:?}");
        assert!(null.estimate.abs() <= 0.005, "{null:?}");
    }
}
