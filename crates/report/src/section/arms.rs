//! The arms at equal budget.

use super::{Context, figure, missing, paragraph, section, trainings as one_by_one};
use crate::analysis::arms::{self, ArmRow};
use crate::analysis::trainings::Training;
use crate::analysis::{NONE, Outcome};
use crate::figure::{Bar, BarChart, Caption, Figure, Ink};
use crate::markup::Markup;
use crate::number;
use crate::table::{Cell, Column, Table};
use lethe_ledger::statistics::Interval;

/// Writes the section and returns its table.
pub(crate) fn write(context: &Context<'_>, trainings: &[Training], page: &mut Markup) -> Table {
    let arms = &context.view.study.manifest().arms;
    let rows: Vec<ArmRow> = arms.iter().map(|arm| arms::measure(&context.view, arm)).collect();
    let table = table(&rows);
    section(page, "arms", "What replay saves", |body| {
        paragraph(body, &explanation(context));
        if rows.is_empty() {
            missing(body, "run.json names no arm");
            return;
        }
        write_figure(context, &rows, body);
        table.write_html(body);
        let unfinished = rows.iter().filter(|row| row.arm != NONE);
        for why in unfinished.filter_map(|row| row.all.as_ref().err()) {
            missing(body, why);
        }
        one_by_one::write(&context.view, trainings, body);
    });
    table
}

fn explanation(context: &Context<'_>) -> String {
    format!(
        "{}; buffer of {} in every replay arm, equally many steps, the same batches of the new task. Mitigation of an example is its R without replay minus its R in the arm, both after the last task at {}; more is better. Old examples are those of every task before the last. The last column is the error on the newest task's training examples: what the arm paid, less is better. joint (all old examples) and control (no new task) are bounds, not replay at this budget. {}",
        context.runs(),
        number::counted(context.view.study.manifest().budget as usize, "example"),
        context.level(),
        context.intervals()
    )
}

fn write_figure(context: &Context<'_>, rows: &[ArmRow], body: &mut Markup) {
    type Pick = fn(&ArmRow) -> &Outcome<Interval>;
    let charts: [(&str, &str, Pick); 4] = [
        ("top", "mitigation, top energy decile", |row| &row.top_decile),
        ("all", "mitigation, all old examples", |row| &row.all),
        ("buffered", "mitigation, buffered examples", |row| &row.buffered),
        ("newest", "R on the newest task", |row| &row.newest),
    ];
    let panels: Vec<Figure> = charts
        .iter()
        .filter_map(|(name, label, pick)| {
            let bars: Vec<Bar> = rows
                .iter()
                .filter_map(|row| {
                    let interval = *pick(row).as_ref().ok()?;
                    Some(Bar::new(row.arm.clone(), Ink::of_arm(&row.arm), interval))
                })
                .collect();
            let words: Vec<String> = bars
                .iter()
                .map(|bar| format!("{} {}", bar.name, number::interval(&bar.interval)))
                .collect();
            let caption = Caption {
                name: format!("arms-{name}"),
                title: (*label).to_owned(),
                description: format!("{}.", words.join("; ")),
            };
            let chart = BarChart::new(caption, format!("{label} (pixel²)"), bars);
            (!chart.bars.is_empty()).then(|| chart.draw())
        })
        .collect();
    if !panels.is_empty() {
        let caption = format!(
            "{}; {}. Points: means, with {}",
            context.runs(),
            sizes(rows),
            context.intervals()
        );
        figure(body, &panels, &[], &caption);
    }
}

/// How many examples each panel is about.
fn sizes(rows: &[ArmRow]) -> String {
    type Pick = fn(&ArmRow) -> &Outcome<Interval>;
    let picks: [(&str, Pick); 3] = [
        ("old training examples", |row| &row.all),
        ("of them in the top energy decile", |row| &row.top_decile),
        ("training examples of the newest task", |row| &row.newest),
    ];
    let size = |(words, pick): &(&str, Pick)| {
        let interval = rows.iter().find_map(|row| pick(row).as_ref().ok())?;
        Some(format!("{} {words}", interval.n))
    };
    picks.iter().filter_map(size).collect::<Vec<String>>().join(", ")
}

fn table(rows: &[ArmRow]) -> Table {
    let mut table = Table::new(&[
        Column::words("arm", "Arm"),
        Column::intervals("top_decile", "Top energy decile"),
        Column::intervals("all", "All old"),
        Column::intervals("buffered", "Buffered"),
        Column::intervals("unbuffered", "Not buffered"),
        Column::intervals("held_out", "Held-out"),
        Column::numbers("n_buffered", "Probed in buffer"),
        Column::intervals("newest_task", "R, newest task"),
    ]);
    for row in rows {
        table.row(vec![
            row.arm.as_str().into(),
            row.top_decile.clone().into(),
            row.all.clone().into(),
            row.buffered.clone().into(),
            row.unbuffered.clone().into(),
            row.held_out.clone().into(),
            row.n_buffered.clone().map_or_else(Cell::Missing, Cell::Number),
            row.newest.clone().into(),
        ]);
    }
    table
}
