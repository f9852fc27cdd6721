//! When a number decides a claim: above its own rounding, and from enough rotations.

use super::setting::Turning;
use lethe_hopfield::Recall;
use lethe_ledger::statistics::{Interval, Side};
use lethe_report::article::Section;

/// Rotations from which on an interval over them decides: with fewer its own ends are not known.
pub const FEWEST: usize = 30;

/// Rounding of an energy, as a share of the numbers that it is the difference of.
const OF_ENERGY: f64 = 1e-13;

/// Uncertainty of a rise, as a share of it: that of the fixed point at which it is taken.
const OF_RISE: f64 = 1e-10;

/// What the numbers say of a claim, and where they say nothing, why.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    holds: Option<bool>,
    doubt: Option<String>,
}

impl Ruling {
    /// Decided.
    pub fn decided(holds: bool) -> Self {
        Self { holds: Some(holds), doubt: None }
    }

    /// Not decided, for a reason.
    pub fn undecided(doubt: impl Into<String>) -> Self {
        Self { holds: None, doubt: Some(doubt.into()) }
    }

    /// Whether `value` lies above zero, its rounding being `floor`.
    pub fn exact(value: f64, floor: f64) -> Self {
        if value.abs() > floor { Self::decided(value > 0.) } else { Self::rounding(floor) }
    }

    /// Whether the mean behind `interval` lies above zero.
    pub fn above(interval: &Interval, floor: f64) -> Self {
        if interval.estimate.is_nan() || interval.estimate.abs() <= floor {
            return Self::rounding(floor);
        }
        Self::of_many(interval.n, || match interval.side() {
            Side::Above => Self::decided(true),
            Side::Below => Self::decided(false),
            Side::Straddles => Self::undecided("the interval holds 0"),
        })
    }

    /// Whether what all `intervals` hold is at most `bound` in size; of the `size` with the rounding `floor`.
    pub fn within(intervals: &[Interval], bound: f64) -> Self {
        let Some(n) = intervals.iter().map(|interval| interval.n).min() else {
            return Self::undecided("nothing was measured");
        };
        let is_inside = |i: &Interval| -bound <= i.low && i.high <= bound;
        let is_outside = |i: &Interval| i.high < -bound || i.low > bound;
        Self::of_many(n, || {
            if intervals.iter().any(is_outside) {
                Self::decided(false)
            } else if intervals.iter().all(is_inside) {
                Self::decided(true)
            } else {
                Self::undecided("the interval reaches over the bound")
            }
        })
    }

    /// What `rule` says, where there are enough rotations.
    pub fn of_many(n: usize, rule: impl FnOnce() -> Self) -> Self {
        if n >= FEWEST {
            rule()
        } else {
            Self::undecided(format!("{n} rotations decide nothing, {FEWEST} are the fewest"))
        }
    }

    /// What lies below `floor` is rounding.
    pub fn rounding(floor: f64) -> Self {
        Self::undecided(format!("below {floor:.1e} it is rounding"))
    }

    /// Appends the claim with this verdict, and its doubt behind the evidence.
    pub fn write(&self, section: &mut Section, id: &str, claim: &str, evidence: &str) {
        let doubt = self.doubt.as_ref().map_or(String::new(), |doubt| format!("; {doubt}"));
        section.verdict(self.holds, id, claim, &format!("{evidence}{doubt}"));
    }
}

/// Rounding of an energy of `turning`, in its unit.
pub fn energy_floor(turning: &Turning) -> f64 {
    // E is the difference of ½‖x‖² and a logarithm.
    let half = |x: &[f64]| 0.5 * x.iter().map(|x| x * x).sum::<f64>();
    let size = |(x, recall): (&[f64], &Recall)| recall.energy.abs() + half(x);
    OF_ENERGY * turning.points.rows().zip(&turning.recalls).map(size).fold(0., f64::max)
}

/// What a difference of means of `rises` may be by rounding alone.
pub fn rise_floor(turning: &Turning, rises: &[f64]) -> f64 {
    let largest = rises.iter().fold(0f64, |largest, rise| largest.max(rise.abs()));
    energy_floor(turning) + OF_RISE * largest
}

/// The same of net gains, which are rises times a susceptibility up to `susceptibility`.
pub fn gain_floor(turning: &Turning, susceptibility: f64, gains: &[f64]) -> f64 {
    let largest = gains.iter().fold(0f64, |largest, gain| largest.max(gain.abs()));
    susceptibility * energy_floor(turning) + OF_RISE * largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(estimate: f64, half: f64, n: usize) -> Interval {
        Interval { estimate, low: estimate - half, high: estimate + half, n }
    }

    #[test]
    fn noise_and_few_rotations_decide_nothing() {
        let above = |estimate, half, n| Ruling::above(&interval(estimate, half, n), 1e-13).holds;
        assert_eq!(above(0.1, 0.01, 100), Some(true));
        assert_eq!(above(-0.1, 0.01, 100), Some(false));
        assert_eq!(above(0.1, 0.2, 100), None);
        assert_eq!(above(0.1, 0.01, 29), None);
        assert_eq!(above(-8e-17, 1e-18, 2000), None);
        assert_eq!(above(f64::NAN, 0., 2000), None);
        assert_eq!(Ruling::exact(1e-16, 1e-13).holds, None);
        assert_eq!(Ruling::exact(-1e-3, 1e-13).holds, Some(false));
        let within = |estimate, half, n| Ruling::within(&[interval(estimate, half, n)], 0.05).holds;
        assert_eq!(within(0.02, 0.01, 30), Some(true));
        assert_eq!(within(-0.5, 0.01, 30), Some(false));
        assert_eq!(within(-0.5, 0.01, 2), None);
        assert_eq!(within(0.045, 0.01, 30), None);
        assert_eq!(Ruling::within(&[], 0.05).holds, None);
    }
}
