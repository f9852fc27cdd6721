//! The statistics of a report, each a function of its numbers and a seed.
//!
//! | file            | law                                                                  |
//! |-----------------|----------------------------------------------------------------------|
//! | [`ranks`]       | average ranks, also of a resample given by counts                    |
//! | [`spearman`], [`partial_spearman`] | correlation of ranks, controls regressed out      |
//! | [`jonckheere`]  | a trend over ordered groups, with ties                               |
//! | [`Deciles`]     | equal groups by a priority, means and their trend                    |
//! | [`Bootstrap`]   | percentile intervals and shuffles from counter-based draws           |
//!
//! The unit of resampling is the example: an interval says what other examples of the same kind
//! would give under the *same* trainings, nothing about other trainings.

mod bootstrap;
mod correlation;
mod deciles;
mod draws;
mod rank;
mod trend;

pub use bootstrap::{Bootstrap, Interval, Side};
pub use correlation::{RankCorrelation, partial_spearman, pearson, spearman};
pub use deciles::Deciles;
pub use rank::ranks;
pub use trend::{Trend, jonckheere};

use crate::error::{Error, Result};

/// Checks that the columns are finite and as long as the first.
fn check_columns(statistic: &'static str, columns: &[&[f64]]) -> Result<usize> {
    let n = columns.first().map_or(0, |column| column.len());
    for column in columns {
        if column.len() != n {
            let reason = format!("columns of {n} and {} numbers cannot be paired", column.len());
            return Err(Error::undefined(statistic, reason));
        }
        if let Some(position) = column.iter().position(|number| !number.is_finite()) {
            let reason = format!("number {position} is {}", column[position]);
            return Err(Error::undefined(statistic, reason));
        }
    }
    Ok(n)
}

/// Arithmetic mean; none of no numbers.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod golden;
