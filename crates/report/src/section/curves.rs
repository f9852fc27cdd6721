//! Forgetting curves.

use super::{Context, figure, level, missing, paragraph, section};
use crate::analysis::curves::{self, Curve};
use crate::analysis::{NONE, Outcome, sentence};
use crate::figure::{Axis, Caption, Ink, LineChart, Series, Size};
use crate::gauge::Gauge;
use crate::markup::Markup;
use crate::study::complete;
use lethe_ledger::Split;
use lethe_ledger::statistics::Deciles;

/// Writes the section.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) {
    section(page, "curves", "Forgetting curves", |body| {
        paragraph(
            body,
            "The mean reconstruction error R of task-1 examples while the later tasks are learned. All arms start from the same network, the end of task 1, at step 0.",
        );
        write_arms(context, body);
        write_panels(context, body);
    });
}

fn write_arms(context: &Context<'_>, body: &mut Markup) {
    let view = &context.view;
    let positions = view.first_task(Split::Train);
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for arm in curves::arms(view) {
        match curves::measure(view, arm, view.headline(), &positions) {
            Ok(curve) => found.push((Ink::of_arm(arm), curve)),
            Err(why) => absent.push(why),
        }
    }
    if !found.is_empty() {
        let title = format!("Forgetting curves of {} arms", found.len());
        let chart = chart(context, "curves-all", &title, Size::WIDE, "R (pixel²)", &found);
        let legend: Vec<(Ink, String)> =
            found.iter().map(|(ink, curve)| (*ink, curve.arm.clone())).collect();
        let n = found[0].1.points.first().map_or(0, |(_, interval)| interval.n);
        let caption = format!(
            "{}; {n} training examples of task 1, R at {}. Dotted verticals, where there are any: the next task begins. Bands: {}",
            context.runs(),
            context.level(),
            context.intervals()
        );
        figure(body, &[chart.draw()], &legend, &caption);
    }
    absent.iter().for_each(|why| missing(body, why));
}

/// Held-out examples, energy deciles, and the other levels, arm none and control only.
fn write_panels(context: &Context<'_>, body: &mut Markup) {
    let view = &context.view;
    let mut panels = Vec::new();
    let held_out = view.first_task(Split::HeldOut);
    let pair: Vec<(Ink, Curve)> = [NONE, "control"]
        .into_iter()
        .filter_map(|arm| {
            let curve = curves::measure(view, arm, view.headline(), &held_out).ok()?;
            Some((Ink::of_arm(arm), curve))
        })
        .collect();
    if !pair.is_empty() {
        let title = "Held-out examples of task 1, arms none and control";
        panels.push(
            chart(context, "curves-held-out", title, Size::PANEL, "R, held-out examples", &pair)
                .draw(),
        );
    }
    if let Ok(split) = by_energy(context) {
        let title = "Arm none by energy decile";
        panels.push(
            chart(context, "curves-energy", title, Size::PANEL, "R, arm none by energy", &split)
                .draw(),
        );
    }
    for &other in &view.study.manifest().levels {
        if other == view.study.manifest().headline_level {
            continue;
        }
        let gauge = Gauge::reconstruction(other);
        let positions = view.first_task(Split::Train);
        if let Ok(curve) = curves::measure(view, NONE, gauge, &positions) {
            let (name, label) =
                (format!("curves-level-{other}"), format!("R, arm none, {}", level(other)));
            let series = [(Ink::of_arm(NONE), curve)];
            panels.push(chart(context, &name, &label, Size::PANEL, &label, &series).draw());
        }
    }
    if !panels.is_empty() {
        let legend = [
            (Ink::REFERENCE, "none, all examples".to_owned()),
            (Ink::CONTROL, "control, all examples".to_owned()),
            (Ink::RED, "none, highest energy decile".to_owned()),
            (Ink::BLUE, "none, lowest energy decile".to_owned()),
        ];
        let caption = format!(
            "{}; task 1: the same curves on {} held-out examples, on those of the {} training examples of the highest and lowest energy decile that are on the curve, and on all of them at the other noise levels. Bands: {}",
            context.runs(),
            held_out.len(),
            view.first_task(Split::Train).len(),
            context.intervals()
        );
        figure(body, &panels, &legend, &caption);
    }
}

fn by_energy(context: &Context<'_>) -> Outcome<Vec<(Ink, Curve)>> {
    let view = &context.view;
    let (_, energy) = view.leading_energy()?;
    let (kept, columns) = complete(&view.first_task(Split::Train), &[&energy]);
    let deciles = Deciles::by(&columns[0]).map_err(sentence)?;
    let ends = [(Ink::RED, deciles.members().last()), (Ink::BLUE, deciles.members().first())];
    ends.into_iter()
        .filter_map(|(ink, members)| Some((ink, members?)))
        .map(|(ink, members)| {
            let positions: Vec<usize> = members.iter().map(|&index| kept[index]).collect();
            Ok((ink, curves::measure(view, NONE, view.headline(), &positions)?))
        })
        .collect()
}

fn chart(
    context: &Context<'_>,
    name: &str,
    title: &str,
    size: Size,
    label: &str,
    drawn: &[(Ink, Curve)],
) -> LineChart {
    let series = drawn
        .iter()
        .map(|(ink, curve)| Series {
            band: curve.points.iter().map(|(_, mean)| (mean.low, mean.high)).collect(),
            has_markers: curve.points.len() <= 3,
            ..Series::plain(
                *ink,
                curve.points.iter().map(|(step, mean)| (*step, mean.estimate)).collect(),
            )
        })
        .collect();
    let ends = curves::boundaries(&context.view);
    LineChart {
        caption: Caption {
            name: name.to_owned(),
            title: title.to_owned(),
            description: describe(drawn),
        },
        size,
        x: Axis::new("optimizer steps after task 1"),
        y: Axis::new(label),
        series,
        marks: ends
            .iter()
            // Where the last task ends no task begins; the axis ends there anyway.
            .filter(|&&(_, task)| task < context.view.last())
            .map(|&(step, task)| (step, format!("task {} →", task + 1)))
            .collect(),
        includes_zero: false,
    }
}

/// The ends of the curves in words.
fn describe(curves: &[(Ink, Curve)]) -> String {
    let words = |curve: &Curve| {
        let (first, last) = (curve.points.first()?, curve.points.last()?);
        let [first, last] = [first.1.estimate, last.1.estimate].map(crate::number::short);
        Some(format!("{}: from {first} to {last}", curve.arm))
    };
    let all: Vec<String> = curves.iter().filter_map(|(_, curve)| words(curve)).collect();
    format!("Mean reconstruction error over steps. {}.", all.join("; "))
}
