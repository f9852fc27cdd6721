//! How the trainings went.

use super::{Context, figure, missing, paragraph, section};
use crate::figure::{Axis, Caption, Figure, Ink, LineChart, Series, Size};
use crate::markup::Markup;
use lethe_ledger::TrainingRecord;
use std::collections::BTreeMap;

/// Points of a curve: single steps would be noise and a large page.
const N_POINTS: usize = 120;

/// Records of one arm and task, in the order of steps.
type Trainings<'a> = BTreeMap<(u32, &'a str), Vec<&'a TrainingRecord>>;

/// Writes the section. Curves are of one training: the first run's.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) {
    section(page, "training", "Training", |body| {
        let Some((run, _)) = context.view.one_by_one().next() else { return };
        let of_run = context.folder.training.iter().filter(|record| record.run == run.run);
        let mut trainings = Trainings::new();
        for record in of_run {
            trainings.entry((record.task, &record.arm)).or_default().push(record);
        }
        if trainings.is_empty() {
            missing(body, "training.jsonl holds no record of the first run");
            return;
        }
        paragraph(
            body,
            &format!(
                "Each point is the mean of neighbouring records, at most {N_POINTS} to a curve. Quartiles are quarters of the timesteps, from little noise to much. The validation loss has frozen noise and timesteps."
            ),
        );
        let who = format!("Run {} (seed {})", run.run, run.seed);
        write_losses(&who, &trainings, body);
        write_quartiles(&who, &trainings, body);
    });
}

fn write_losses(who: &str, trainings: &Trainings<'_>, body: &mut Markup) {
    type Pick = fn(&TrainingRecord) -> Option<f64>;
    let quantities: [(&str, &str, Pick); 3] = [
        ("loss", "training loss", |record| Some(record.loss)),
        ("validation", "validation loss", |record| record.validation_loss),
        ("gradient", "gradient norm before clipping", |record| Some(record.gradient_norm)),
    ];
    let tasks: Vec<u32> = {
        let mut tasks: Vec<u32> = trainings.keys().map(|(task, _)| *task).collect();
        tasks.dedup();
        tasks
    };
    let mut panels = Vec::new();
    for task in tasks {
        for (name, label, pick) in &quantities {
            let series: Vec<Series> = trainings
                .iter()
                .filter(|((of, _), _)| *of == task)
                .map(|((_, arm), records)| {
                    Series::plain(Ink::of_arm(arm), averaged(records, *pick))
                })
                .filter(|series| !series.points.is_empty())
                .collect();
            if !series.is_empty() {
                let name = format!("training-{name}-{task}");
                panels.push(panel(name, format!("{label}, task {task}"), series));
            }
        }
    }
    let mut arms: Vec<&str> = trainings.keys().map(|(_, arm)| *arm).collect();
    arms.sort_unstable();
    arms.dedup();
    let legend: Vec<(Ink, String)> =
        arms.into_iter().map(|arm| (Ink::of_arm(arm), arm.to_owned())).collect();
    figure(
        body,
        &panels,
        &legend,
        &format!("{who}; losses and gradient norms over the optimizer steps of each task."),
    );
}

fn write_quartiles(who: &str, trainings: &Trainings<'_>, body: &mut Markup) {
    let inks = [Ink::BLUE, Ink::GREEN, Ink::REFERENCE, Ink::RED];
    let panels: Vec<Figure> = trainings
        .iter()
        .filter(|((_, arm), _)| ["task-1", "none"].contains(arm))
        .filter_map(|((task, arm), records)| {
            let series: Vec<Series> = (0..4)
                .map(|quartile| {
                    let points = averaged(records, |record| record.loss_quartiles[quartile]);
                    Series::plain(inks[quartile], points)
                })
                .filter(|series| !series.points.is_empty())
                .collect();
            let name = format!("training-quartiles-{arm}-{task}");
            let label = format!("loss by timestep quartile, {arm}, task {task}");
            (!series.is_empty()).then(|| panel(name, label, series))
        })
        .collect();
    if panels.is_empty() {
        missing(body, "no loss per timestep quartile was recorded");
        return;
    }
    let names = ["first quartile (least noise)", "second", "third", "fourth (most noise)"];
    let legend: Vec<(Ink, String)> =
        inks.into_iter().zip(names).map(|(ink, name)| (ink, name.to_owned())).collect();
    figure(
        body,
        &panels,
        &legend,
        &format!("{who}; training loss over each quarter of the timesteps."),
    );
}

fn panel(name: String, label: String, series: Vec<Series>) -> Figure {
    let chart = LineChart {
        caption: Caption {
            name,
            title: label.clone(),
            description: format!(
                "{} over optimizer steps.",
                crate::number::counted(series.len(), "curve")
            ),
        },
        size: Size::PANEL,
        x: Axis::new("optimizer steps"),
        y: Axis::new(label),
        series,
        marks: Vec::new(),
        includes_zero: false,
    };
    chart.draw()
}

/// Means of neighbouring records, where the quantity was recorded.
fn averaged(
    records: &[&TrainingRecord],
    pick: impl Fn(&TrainingRecord) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> =
        records.iter().filter_map(|record| Some((record.step as f64, pick(record)?))).collect();
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        let sum = chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / n, sum.1 / n)
    };
    points.chunks(points.len().div_ceil(N_POINTS).max(1)).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averaging_keeps_the_mean_and_bounds_the_points() {
        let record = |step| TrainingRecord {
            run: "r".into(),
            arm: "none".into(),
            task: 1,
            step,
            loss: step as f64,
            loss_quartiles: [None; 4],
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            validation_loss: step.is_multiple_of(100).then_some(0.5),
            images_seen: step,
        };
        let records: Vec<TrainingRecord> = (1..=960).map(record).collect();
        let records: Vec<&TrainingRecord> = records.iter().collect();
        let points = averaged(&records, |record| Some(record.loss));
        assert_eq!(points.len(), N_POINTS);
        assert_eq!(points[0], (4.5, 4.5));
        assert_eq!(averaged(&records, |record| record.validation_loss).len(), 9);
        assert!(averaged(&[], |record| Some(record.loss)).is_empty());
    }
}
