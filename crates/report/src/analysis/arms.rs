//! What replay saves: mitigation M_a(x) = R without replay - R in arm a, at equal budget.
//!
//! Old examples are those of every task before the last; R is the headline's reconstruction error
//! after the last task.

use super::{CONTROL, NONE, Outcome, View, sentence, subtract};
use crate::gauge::Scope;
use crate::study::complete;
use lethe_ledger::Split;
use lethe_ledger::statistics::Interval;

/// One arm.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ArmRow {
    pub(crate) arm: String,
    /// Mean number of probed old examples in its buffer.
    pub(crate) n_buffered: Outcome<f64>,
    /// Mitigation in the top energy decile of the old training examples.
    pub(crate) top_decile: Outcome<Interval>,
    /// Over all old training examples.
    pub(crate) all: Outcome<Interval>,
    /// Over those in this arm's buffer.
    pub(crate) buffered: Outcome<Interval>,
    /// Over those not in it.
    pub(crate) unbuffered: Outcome<Interval>,
    /// Over old held-out examples.
    pub(crate) held_out: Outcome<Interval>,
    /// Mean R on the last task's training examples: lower is better.
    pub(crate) newest: Outcome<Interval>,
}

/// Measures one arm.
pub(crate) fn measure(view: &View<'_>, arm: &str) -> ArmRow {
    let old = view.old(Split::Train);
    let saved = mitigation(view, arm);
    let over = |positions: &[usize]| saved.clone().and_then(|column| view.mean(&column, positions));
    ArmRow {
        arm: arm.to_owned(),
        n_buffered: n_buffered(view, arm),
        top_decile: view.top_decile(&old).and_then(|top| over(&top)),
        all: over(&old),
        buffered: over_members(view, arm, Membership::Buffered),
        unbuffered: over_members(view, arm, Membership::Unbuffered),
        held_out: over(&view.old(Split::HeldOut)),
        newest: newest(view, arm),
    }
}

/// Arms that are no replay at equal budget: bounds, not competitors.
const BOUNDS: [&str; 3] = [NONE, CONTROL, "joint"];

/// The arms that replay at equal budget.
pub(crate) fn replaying<'a>(view: &View<'a>) -> impl Iterator<Item = &'a String> {
    view.study.manifest().arms.iter().filter(|arm| !BOUNDS.contains(&arm.as_str()))
}

/// The mean of M_a over all old training examples.
pub(crate) fn saved(view: &View<'_>, arm: &str) -> Outcome<Interval> {
    view.mean(&mitigation(view, arm)?, &view.old(Split::Train))
}

/// M_a of every example.
pub(crate) fn mitigation(view: &View<'_>, arm: &str) -> Outcome<Vec<f64>> {
    if arm == NONE {
        return Err("mitigation is measured against this arm".into());
    }
    let gauge = view.headline();
    let without = view.after(NONE, view.last(), gauge)?;
    Ok(subtract(&without, &view.after(arm, view.last(), gauge)?))
}

/// Mean of M_a - M_b over the same examples.
pub(crate) fn paired_gap(
    view: &View<'_>,
    a: &str,
    b: &str,
    positions: &[usize],
) -> Outcome<Interval> {
    let gap = subtract(&mitigation(view, a)?, &mitigation(view, b)?);
    view.mean(&gap, positions)
}

/// Mean of M_a over a's buffer minus mean of M_b over b's buffer, each buffer resampled by itself.
pub(crate) fn buffered_gap(view: &View<'_>, a: &str, b: &str) -> Outcome<Interval> {
    let mut groups = members(view, a, Membership::Buffered)?;
    let n_first = groups.len();
    groups.extend(members(view, b, Membership::Buffered)?);
    let mean = |means: &[f64]| lethe_ledger::statistics::mean(means);
    let difference = |means: &[f64]| {
        let (first, second) = means.split_at_checked(n_first)?;
        Some(vec![mean(first)? - mean(second)?])
    };
    first(view.bootstrap.group_means("gap between buffers", &groups, difference))
}

/// Which side of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    Buffered,
    Unbuffered,
}

fn over_members(view: &View<'_>, arm: &str, side: Membership) -> Outcome<Interval> {
    let groups = members(view, arm, side)?;
    let mean = |means: &[f64]| Some(vec![lethe_ledger::statistics::mean(means)?]);
    first(view.bootstrap.group_means("mean over the buffer", &groups, mean))
}

fn first(intervals: lethe_ledger::Result<Vec<Interval>>) -> Outcome<Interval> {
    let intervals = intervals.map_err(sentence)?;
    intervals.first().copied().ok_or_else(|| "no number".to_owned())
}

/// M_a of the old training examples on one side of the buffer, by run: buffers differ from run to run.
fn members(view: &View<'_>, arm: &str, side: Membership) -> Outcome<Vec<Vec<f64>>> {
    let old = view.old(Split::Train);
    let runs = view.study.runs(view.scope).into_iter();
    runs.map(|run| {
        let of_run = View { scope: Scope::Run(run), ..*view };
        let saved = mitigation(&of_run, arm)?;
        let is_in = replayed(view, run, arm)?;
        let (_, columns) = complete(&old, &[&saved, &is_in]);
        let wanted = if side == Membership::Buffered { 1.0 } else { 0.0 };
        let pairs = columns[0].iter().zip(&columns[1]);
        let values: Vec<f64> =
            pairs.filter(|(_, is_in)| **is_in == wanted).map(|(saved, _)| *saved).collect();
        if values.is_empty() { Err(no_members(side).into()) } else { Ok(values) }
    })
    .collect()
}

fn no_members(side: Membership) -> &'static str {
    match side {
        Membership::Buffered => "no probed old example is in the buffer",
        Membership::Unbuffered => "every probed old example is in the buffer",
    }
}

fn n_buffered(view: &View<'_>, arm: &str) -> Outcome<f64> {
    let old = view.old(Split::Train);
    let runs = view.study.runs(view.scope).into_iter();
    let counts: Outcome<Vec<f64>> = runs
        .map(|run| {
            let (_, columns) = complete(&old, &[&replayed(view, run, arm)?]);
            Ok(columns[0].iter().sum())
        })
        .collect();
    lethe_ledger::statistics::mean(&counts?).ok_or_else(|| "there is no run".into())
}

fn replayed(view: &View<'_>, run: usize, arm: &str) -> Outcome<Vec<f64>> {
    let column = view.study.replayed(run, arm);
    column.ok_or_else(|| format!("which examples arm {arm} replayed was not recorded"))
}

fn newest(view: &View<'_>, arm: &str) -> Outcome<Interval> {
    let last = view.last();
    let positions = view.study.positions(Split::Train, |task| task == last);
    view.mean(&view.after(arm, last, view.headline())?, &positions)
}
