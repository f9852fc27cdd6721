//! The trainings one by one, below the arms.

use super::paragraph;
use crate::analysis::trainings::{Spread, Training};
use crate::analysis::{Outcome, View, arms};
use crate::markup::Markup;
use crate::table::{Cell, Column, Table};
use lethe_ledger::statistics::Interval;

/// Writes the part of the section; nothing without trainings.
pub(crate) fn write(view: &View<'_>, trainings: &[Training], body: &mut Markup) {
    if trainings.is_empty() {
        return;
    }
    body.leaf("h3", &[], "The trainings one by one");
    paragraph(
        body,
        "The increment ΔR of task 1 without replay and in the control, and each replay arm's mitigation M over all old training examples. Intervals are over the examples of one training; how much the seed matters is seen from row to row. Standard deviations are over trainings, n − 1 in the denominator.",
    );
    table(view, trainings).write_html(body);
}

/// A row for each training, then their mean and standard deviation.
pub(crate) fn table(view: &View<'_>, trainings: &[Training]) -> Table {
    let arms: Vec<&String> = arms::replaying(view).collect();
    let mut table = Table::new(&columns(&arms));
    let mut row = |name: &str, cells: Vec<Cell>| {
        table.row(std::iter::once(name.into()).chain(cells).collect());
    };
    let numbers: Vec<Vec<Outcome<Interval>>> = trainings.iter().map(numbers).collect();
    for (training, numbers) in trainings.iter().zip(&numbers) {
        row(&training.run, numbers.iter().cloned().map(Cell::from).collect());
    }
    let spread = |column: usize| Spread::of(numbers.iter().map(|row| row[column].as_ref().ok()));
    let spreads: Vec<Option<Spread>> = (0..arms.len() + 2).map(spread).collect();
    let cells =
        |pick: fn(&Spread) -> f64| spreads.iter().map(|spread| cell(spread, pick)).collect();
    row("mean", cells(|spread| spread.mean));
    row("standard deviation", cells(|spread| spread.deviation));
    table
}

fn columns(arms: &[&String]) -> Vec<Column> {
    let mut columns = vec![
        Column::words("run", "Run"),
        Column::intervals("increment", "ΔR, none"),
        Column::intervals("control_increment", "ΔR, control"),
    ];
    let mitigation = |arm: &&String| {
        let (name, title) = (format!("mitigation_{arm}"), format!("M, {arm}"));
        Column::intervals("", "").named(name, title)
    };
    columns.extend(arms.iter().map(mitigation));
    // A deviation may be much smaller than what it is of.
    columns.into_iter().map(Column::of_any_size).collect()
}

/// What stands in the columns behind the name.
fn numbers(training: &Training) -> Vec<Outcome<Interval>> {
    let headline = training.headline.clone();
    let increment = headline.clone().map(|headline| headline.increment);
    let control = headline.and_then(|headline| headline.control);
    [increment, control].into_iter().chain(training.saved.clone()).collect()
}

fn cell(spread: &Option<Spread>, pick: fn(&Spread) -> f64) -> Cell {
    let missing = || Cell::Missing("it was not measured in every training".into());
    spread.as_ref().map_or_else(missing, |spread| pick(spread).into())
}
