//! The table of correlations.

use super::{Context, missing, paragraph, section};
use crate::analysis::correlations::{self, Target};
use crate::gauge::EnergyForm;
use crate::markup::Markup;
use crate::table::{Cell, Column, Table};
use lethe_ledger::Split;
use std::collections::BTreeSet;

/// Writes the section and returns its table.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) -> Table {
    let mut table = Table::new(&COLUMNS);
    let mut absent = BTreeSet::new();
    for form in EnergyForm::ALL {
        for split in [Split::Train, Split::HeldOut] {
            for target in Target::ALL {
                match correlations::measure(&context.view, form, split, target) {
                    Ok(found) => table.row(vec![
                        form.name().into(),
                        split.name().into(),
                        Cell::Term { symbol: target.symbol(), name: target.name() },
                        Cell::Count(found.n as u64),
                        found.spearman.into(),
                        found.shuffled.into(),
                        found.deciles.into(),
                        found.trend.map_or_else(Cell::Missing, |trend| Cell::Probability(trend.p)),
                        found.partial.into(),
                        found.within.into(),
                    ]),
                    Err(why) => drop(absent.insert(why)),
                }
            }
        }
    }
    section(page, "correlations", "Correlations with energy", |body| {
        paragraph(body, &explanation(context));
        if table.rows.is_empty() {
            missing(body, "no correlation could be computed");
        } else {
            table.write_html(body);
        }
        absent.iter().for_each(|why| missing(body, why));
    });
    table
}

fn explanation(context: &Context<'_>) -> String {
    let loss = correlations::loss_gauge(&context.view)
        .ok()
        .and_then(|gauge| gauge.level)
        .map_or_else(String::new, |level| format!(" The denoising loss is that at t/T = {level}."));
    format!(
        "{}; arm none, examples of task 1, R at {}. ρ is Spearman's correlation with the energy, over examples and over ten energy deciles; “shuffled” is the range of ρ when energies are shuffled over examples. The trend is the one-sided Jonckheere–Terpstra test over deciles. In the partial ρ, R before (but for its own row), total variation, contrast and norm are taken out; within classes, the classes as well.{loss} {}",
        context.runs(),
        context.level(),
        context.intervals()
    )
}

const COLUMNS: [Column; 10] = [
    Column::words("energy_form", "Energy"),
    Column::words("split", "Examples"),
    Column::words("target", "Against"),
    Column::numbers("n", "n"),
    Column::intervals("spearman", "ρ"),
    Column::intervals("shuffled", "ρ, shuffled"),
    Column::intervals("decile_spearman", "ρ over deciles"),
    Column::numbers("trend_p", "Trend p"),
    Column::intervals("partial_spearman", "Partial ρ"),
    Column::intervals("within_classes", "… within classes"),
];
