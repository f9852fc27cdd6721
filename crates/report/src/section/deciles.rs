//! The decile figure.

use super::{Context, figure, level, missing, paragraph, section};
use crate::analysis::deciles::{self, Profile};
use crate::figure::{Axis, Caption, Cloud, Figure, Ink, LineChart, Scatter, Series, Size};
use crate::gauge::EnergyForm;
use crate::markup::Markup;
use crate::number;
use crate::table::{Cell, Column, Table};
use lethe_ledger::Split;
use lethe_ledger::statistics::Interval;

/// Writes the section; the table holds every decile of every level and form.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) -> Table {
    let view = &context.view;
    let mut table = Table::new(&COLUMNS);
    section(page, "deciles", "Energy and forgetting", |body| {
        paragraph(
            body,
            "Training examples of task 1 in ten equal groups by Hopfield energy, 1 the lowest. If high energy means more forgetting, the increment rises from left to right and leaves the grey band, which is where shuffled energies would put it.",
        );
        for form in EnergyForm::ALL {
            match deciles::measure(view, form, view.headline()) {
                Ok(profile) => write_headline(context, &profile, body),
                Err(why) => missing(body, &why),
            }
        }
        let mut panels = Vec::new();
        for form in EnergyForm::ALL {
            for gauge in deciles::gauges(view) {
                let Ok(profile) = deciles::measure(view, form, gauge) else { continue };
                add_rows(&profile, &mut table);
                if form == EnergyForm::Distance && gauge != view.headline() {
                    panels.push(increment_panel(&profile));
                }
            }
        }
        if !panels.is_empty() {
            let caption = format!(
                "{}; {} training examples of task 1: the increment over deciles of the energy in distance form at the other noise levels. {}",
                context.runs(),
                view.first_task(Split::Train).len(),
                context.intervals()
            );
            figure(
                body,
                &panels,
                &INCREMENT_LEGEND.map(|(ink, name)| (ink, name.to_owned())),
                &caption,
            );
        }
    });
    table
}

const INCREMENT_LEGEND: [(Ink, &str); 3] = [
    (Ink::RED, "increment ΔR, arm none"),
    (Ink::GREEN, "increment ΔR, control"),
    (Ink::RANGE, "range of ΔR under shuffled energy"),
];

fn write_headline(context: &Context<'_>, profile: &Profile, body: &mut Markup) {
    let panels = [levels_panel(profile), increment_panel(profile), scatter(profile)];
    let legend = [
        (Ink::BLUE, "R after task 1".to_owned()),
        (Ink::REFERENCE, "R after the last task, arm none".to_owned()),
    ]
    .into_iter()
    .chain(INCREMENT_LEGEND.map(|(ink, name)| (ink, name.to_owned())))
    .collect::<Vec<_>>();
    let caption = format!(
        "{}; energy in {} form, {} training examples of task 1, R at {}. Increment over deciles: Spearman {}, trend test {}. {} The shuffled range covers as many shuffles.",
        context.runs(),
        profile.form.name(),
        profile.n,
        profile.gauge.level.map_or_else(String::new, level),
        profile.spearman.as_ref().map_or_else(|why| why.clone(), number::interval),
        profile
            .trend
            .as_ref()
            .map_or_else(|why| why.clone(), |trend| format!("p {}", bound(trend.p)),),
        context.intervals()
    );
    figure(body, &panels, &legend, &caption);
}

/// `= 0.0432` or `< 0.0001`.
fn bound(p: f64) -> String {
    let text = number::probability(p);
    if text.starts_with('<') { text } else { format!("= {text}") }
}

fn over_deciles(ink: Ink, means: &[Interval]) -> Series {
    let points = means.iter().enumerate().map(|(d, mean)| ((d + 1) as f64, mean.estimate));
    Series {
        band: means.iter().map(|mean| (mean.low, mean.high)).collect(),
        has_markers: true,
        ..Series::plain(ink, points.collect())
    }
}

fn caption(profile: &Profile, what: &str, description: String) -> Caption {
    let level = profile.gauge.level.unwrap_or_default();
    Caption {
        name: format!("deciles-{}-{what}-{level}", profile.form.name()),
        title: format!("{what} over energy deciles, {} form, t/T = {level}", profile.form.name()),
        description,
    }
}

fn levels_panel(profile: &Profile) -> Figure {
    let chart = LineChart {
        caption: caption(profile, "error", ends("R after", &profile.after)),
        size: Size::PANEL,
        x: Axis::deciles(format!("decile of energy ({} form)", profile.form.name())),
        y: Axis::new("R before and after (pixel²)"),
        series: vec![
            over_deciles(Ink::BLUE, &profile.before),
            over_deciles(Ink::REFERENCE, &profile.after),
        ],
        marks: Vec::new(),
        includes_zero: false,
    };
    chart.draw()
}

fn increment_panel(profile: &Profile) -> Figure {
    let shuffled = Series { is_range: true, ..over_deciles(Ink::RANGE, &profile.shuffled) };
    let mut series = vec![shuffled];
    if let Ok(control) = &profile.control {
        series.push(over_deciles(Ink::GREEN, control));
    }
    series.push(over_deciles(Ink::RED, &profile.increment));
    let level = profile.gauge.level.map_or_else(String::new, level);
    let chart = LineChart {
        caption: caption(profile, "increment", ends("increment", &profile.increment)),
        size: Size::PANEL,
        x: Axis::deciles(format!("decile of energy ({} form)", profile.form.name())),
        y: Axis::new(format!("increment ΔR at {level}")),
        series,
        marks: Vec::new(),
        includes_zero: true,
    };
    chart.draw()
}

fn scatter(profile: &Profile) -> Figure {
    let unit = if profile.form == EnergyForm::Distance { " (pixel²)" } else { "" };
    let description = format!("One point for each of {} examples.", profile.n);
    let scatter = Scatter::new(
        caption(profile, "scatter", description),
        Axis::new(format!("energy, {} form{unit}", profile.form.name())),
        Axis::new("increment ΔR of each example"),
        vec![Cloud::new(Ink::RED, profile.points.clone())],
    );
    scatter.draw()
}

fn ends(what: &str, means: &[Interval]) -> String {
    match (means.first(), means.last()) {
        (Some(first), Some(last)) => format!(
            "Mean {what}: {} in the lowest decile, {} in the highest.",
            number::interval(first),
            number::interval(last)
        ),
        _ => String::new(),
    }
}

const COLUMNS: [Column; 10] = [
    Column::words("energy_form", "Energy"),
    Column::numbers("level", "t/T"),
    Column::numbers("decile", "Decile"),
    Column::numbers("n", "n"),
    Column::intervals("energy", "E"),
    Column::intervals("r_before", "R before"),
    Column::intervals("r_after", "R after"),
    Column::intervals("increment", "ΔR"),
    Column::intervals("shuffled", "ΔR, shuffled"),
    Column::intervals("control_increment", "ΔR, control"),
];

fn add_rows(profile: &Profile, table: &mut Table) {
    for decile in 0..profile.increment.len() {
        let cell = |means: &[Interval]| {
            means.get(decile).copied().map_or(Cell::Missing(String::new()), Cell::Interval)
        };
        let control = profile.control.as_ref().map_or(&[][..], Vec::as_slice);
        table.row(vec![
            profile.form.name().into(),
            profile.gauge.level.map_or(Cell::Missing(String::new()), Cell::Number),
            Cell::Count(decile as u64 + 1),
            Cell::Count(profile.increment[decile].n as u64),
            cell(&profile.energy),
            cell(&profile.before),
            cell(&profile.after),
            cell(&profile.increment),
            cell(&profile.shuffled),
            cell(control),
        ]);
    }
}
