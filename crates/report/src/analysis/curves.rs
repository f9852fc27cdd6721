//! Forgetting curves: the mean error on the first task's examples while later tasks are learned.

use super::{Outcome, View, sentence};
use crate::gauge::{FIRST, Gauge};
use crate::study::complete;
use lethe_ledger::statistics::Interval;

/// The mean of a gauge over the optimizer steps since the first task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pub(crate) arm: String,
    /// Steps since the end of task 1, and the mean there.
    pub(crate) points: Vec<(f64, Interval)>,
}

/// The curve of an arm on the examples at these positions, from the end of task 1 on.
pub(crate) fn measure(
    view: &View<'_>,
    arm: &str,
    gauge: Gauge,
    positions: &[usize],
) -> Outcome<Curve> {
    let mut steps = vec![0.0];
    let mut columns = vec![view.before(gauge)?];
    let mut offset = 0;
    for task in 2..=view.last() {
        for step in view.study.steps(view.scope, arm, task, gauge) {
            // Step 0 of task 2 is the end of task 1, which stands there already.
            let column = view.study.at(view.scope, arm, task, gauge, step).filter(|_| step > 0);
            if let Some(column) = column {
                steps.push((offset + step) as f64);
                columns.push(column);
            }
        }
        offset += view.study.boundary(view.scope, task).unwrap_or(0);
    }
    if columns.len() == 1 {
        return Err(format!("arm {arm} was not measured after task 1"));
    }
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let (_, values) = complete(positions, &columns);
    let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
    let means = view.bootstrap.means(&values).map_err(sentence)?;
    Ok(Curve { arm: arm.to_owned(), points: steps.into_iter().zip(means).collect() })
}

/// Where the tasks after the first end, in steps since the end of task 1.
pub(crate) fn boundaries(view: &View<'_>) -> Vec<(f64, u32)> {
    let mut offset = 0;
    let mut ends = Vec::new();
    for task in 2..=view.last() {
        if let Some(step) = view.study.boundary(view.scope, task) {
            offset += step;
            ends.push((offset as f64, task));
        }
    }
    ends
}

/// The arms that have a curve, the shared first task aside.
pub(crate) fn arms<'a>(view: &View<'a>) -> impl Iterator<Item = &'a String> {
    view.study.manifest().arms.iter().filter(|arm| *arm != FIRST)
}
