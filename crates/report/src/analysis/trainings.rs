//! The trainings one by one: how far the answers differ from seed to seed.
//!
//! An interval over examples says nothing of other trainings: only the trainings themselves do.

use super::headline::{self, Headline};
use super::{Outcome, View, arms};
use lethe_ledger::statistics::{Interval, mean};

/// The answers of one training.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Training {
    pub(crate) run: String,
    pub(crate) headline: Outcome<Headline>,
    /// Mitigation over all old training examples, for every replay arm in the order of the manifest.
    pub(crate) saved: Vec<Outcome<Interval>>,
}

/// Each training in view; none unless two at least tell of forgetting.
pub(crate) fn measure(view: &View<'_>) -> Vec<Training> {
    let trainings: Vec<Training> = view
        .one_by_one()
        .map(|(repetition, view)| Training {
            run: repetition.run.clone(),
            headline: headline::measure(&view),
            saved: arms::replaying(&view).map(|arm| arms::saved(&view, arm)).collect(),
        })
        .collect();
    let n_known = trainings.iter().filter(|training| training.headline.is_ok()).count();
    if n_known < 2 { Vec::new() } else { trainings }
}

/// Estimates of one number in several trainings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    pub(crate) mean: f64,
    /// Standard deviation, n − 1 in the denominator.
    pub(crate) deviation: f64,
}

impl Spread {
    /// Of one interval from each training; none with fewer than two, or where one of them lacks it.
    pub(crate) fn of<'a>(intervals: impl Iterator<Item = Option<&'a Interval>>) -> Option<Self> {
        let estimates: Vec<f64> =
            intervals.map(|interval| Some(interval?.estimate)).collect::<Option<_>>()?;
        let n = estimates.len();
        let mean = mean(&estimates).filter(|_| n > 1)?;
        let squares: f64 = estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum();
        Some(Self {
            lowest: estimates.iter().copied().fold(f64::INFINITY, f64::min),
            highest: estimates.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean,
            deviation: (squares / (n - 1) as f64).sqrt(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_over_all_trainings_or_not_at_all() {
        let [a, b, c] =
            [5.0, -1.0, 2.0].map(|estimate| Interval { estimate, low: -9.0, high: 9.0, n: 9 });
        let spread = Spread { lowest: -1.0, highest: 5.0, mean: 2.0, deviation: 3.0 };
        assert_eq!(Spread::of([&a, &b, &c].map(Some).into_iter()), Some(spread));
        assert_eq!(Spread::of([Some(&a), None].into_iter()), None);
        assert_eq!(Spread::of([Some(&a)].into_iter()), None);
    }
}
