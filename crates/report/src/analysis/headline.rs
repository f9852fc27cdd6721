//! Was there forgetting: the mean rise of the error on the first task, beside the control's.

use super::{CONTROL, NONE, Outcome, View, subtract};
use lethe_ledger::Split;
use lethe_ledger::statistics::{Interval, Side};

/// The first answer of a report.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Headline {
    /// Mean error after the first task.
    pub(crate) before: Interval,
    /// Mean error after the last, without replay.
    pub(crate) after: Interval,
    /// Mean rise without replay.
    pub(crate) increment: Interval,
    /// Mean rise of the control.
    pub(crate) control: Outcome<Interval>,
    /// Rise without replay minus rise of the control, example by example.
    pub(crate) excess: Outcome<Interval>,
    pub(crate) finding: Finding,
}

/// Whether there was forgetting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The rise is above zero and above the control's.
    Forgot,
    /// The rise, or what it exceeds the control by, is below zero.
    DidNotForget,
    /// Neither.
    Undecided,
}

/// Measures the rise on the first task's training examples.
pub(crate) fn measure(view: &View<'_>) -> Outcome<Headline> {
    let gauge = view.headline();
    let positions = view.first_task(Split::Train);
    let increments = view.increment(NONE, gauge)?;
    let increment = view.mean(&increments, &positions)?;
    let of_control = view.increment(CONTROL, gauge);
    let control = of_control.clone().and_then(|column| view.mean(&column, &positions));
    let excess =
        of_control.and_then(|column| view.mean(&subtract(&increments, &column), &positions));
    Ok(Headline {
        before: view.mean(&view.before(gauge)?, &positions)?,
        after: view.mean(&view.after(NONE, view.last(), gauge)?, &positions)?,
        finding: finding(&increment, excess.as_ref().ok()),
        increment,
        control,
        excess,
    })
}

fn finding(increment: &Interval, excess: Option<&Interval>) -> Finding {
    match (increment.side(), excess.map_or(Side::Above, Interval::side)) {
        (Side::Above, Side::Above) => Finding::Forgot,
        (Side::Below, _) | (_, Side::Below) => Finding::DidNotForget,
        _ => Finding::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_must_exceed_the_control() {
        let interval = |low, high| Interval { estimate: (low + high) / 2.0, low, high, n: 9 };
        let (above, below, across) =
            (interval(1.0, 2.0), interval(-2.0, -1.0), interval(-1.0, 1.0));
        assert_eq!(finding(&above, None), Finding::Forgot);
        assert_eq!(finding(&above, Some(&above)), Finding::Forgot);
        assert_eq!(finding(&above, Some(&across)), Finding::Undecided);
        assert_eq!(finding(&above, Some(&below)), Finding::DidNotForget);
        assert_eq!(finding(&across, Some(&above)), Finding::Undecided);
        assert_eq!(finding(&below, None), Finding::DidNotForget);
    }
}
