//! The examples that were forgotten most and least.

use super::{NONE, Outcome, View};
use crate::study::complete;
use lethe_ledger::Split;

/// An example at one end of the order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extreme {
    /// Position in the table of examples.
    pub(crate) position: usize,
    pub(crate) increment: f64,
    /// Leading energy, NaN if it was not measured.
    pub(crate) energy: f64,
}

/// The `n` most and the `n` least forgotten training examples of the first task, the extreme first.
pub(crate) fn measure(view: &View<'_>, n: usize) -> Outcome<(Vec<Extreme>, Vec<Extreme>)> {
    let increments = view.increment(NONE, view.headline())?;
    let (positions, values) = complete(&view.first_task(Split::Train), &[&increments]);
    let energies = view.leading_energy().ok().map(|(_, energies)| energies);
    let mut all: Vec<Extreme> = positions
        .into_iter()
        .zip(&values[0])
        .map(|(position, &increment)| Extreme {
            position,
            increment,
            energy: energies.as_ref().map_or(f64::NAN, |energies| energies[position]),
        })
        .collect();
    all.sort_by(|a, b| b.increment.total_cmp(&a.increment));
    // With few examples the two ends must not overlap.
    let n = n.min(all.len() / 2);
    let least = all.iter().rev().take(n).copied().collect();
    all.truncate(n);
    Ok((all, least))
}
