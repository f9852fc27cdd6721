//! The task matrices and the numbers of continual learning.

use super::{Context, figure, missing, paragraph, section};
use crate::analysis::matrix;
use crate::figure::{Caption, Figure, HeatMap, Spacing};
use crate::markup::Markup;
use crate::table::{Cell, Column, Table};
use lethe_ledger::Split;
use lethe_ledger::forgetting::{BackwardTransfer, Forgetting, RetentionMatrix};

/// Writes the section; the table holds every cell of every arm.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) -> Table {
    let arms = &context.view.study.manifest().arms;
    let matrices: Vec<(&String, RetentionMatrix)> =
        arms.iter().map(|arm| (arm, matrix::measure(&context.view, arm))).collect();
    section(page, "matrix", "Task matrix", |body| {
        paragraph(
            body,
            "R[i, j] is the mean reconstruction error on the training examples of task j after learning task i. For the control, task i is as many steps on task 1.",
        );
        write_maps(context, &matrices, body);
        if matrices.is_empty() {
            missing(body, "run.json names no arm");
        } else {
            paragraph(
                body,
                "AFQ: mean of R[N, j] over tasks. AIQ: mean over i of the mean of R[i, j] over the tasks seen by then. FR: mean rise of R[N, j] since task j was learned. Since best: the same from the lowest R[i, j]. BWT is −FR. For all but BWT, less is better.",
            );
            summary(&matrices).write_html(body);
        }
    });
    cells(&matrices)
}

fn write_maps(context: &Context<'_>, matrices: &[(&String, RetentionMatrix)], body: &mut Markup) {
    let numbers: Vec<f64> = matrices.iter().flat_map(|(_, matrix)| values(matrix)).collect();
    let range = numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &number| {
        (low.min(number), high.max(number))
    });
    let maps: Vec<Figure> = matrices
        .iter()
        .filter(|(_, matrix)| !values(matrix).is_empty())
        .map(|(arm, matrix)| map(arm, matrix, range))
        .collect();
    if !maps.is_empty() {
        let caption = format!(
            "{}; mean R at {} over {} training examples of task 1, 2, ...; darker is higher, one scale for all arms.",
            context.runs(),
            context.level(),
            sizes(context)
        );
        figure(body, &maps, &[], &caption);
    }
}

/// Training examples of each task.
fn sizes(context: &Context<'_>) -> String {
    let view = &context.view;
    let size = |task| view.study.positions(Split::Train, |of| of == task).len().to_string();
    (1..=view.last()).map(size).collect::<Vec<String>>().join(", ")
}

fn map(arm: &str, matrix: &RetentionMatrix, range: (f64, f64)) -> Figure {
    let tasks: Vec<String> = (1..=matrix.n_tasks()).map(|task| task.to_string()).collect();
    let row = |i: usize| (1..=matrix.n_tasks()).map(|j| matrix.get(i, j)).collect();
    let map = HeatMap {
        caption: Caption {
            name: format!("matrix-{arm}"),
            title: format!("Task matrix of arm {arm}"),
            description: "Mean reconstruction error by task learned (rows) and task of the examples (columns).".into(),
        },
        heading: arm.to_owned(),
        row_label: "after task".to_owned(),
        rows: tasks.clone(),
        column_label: "examples of task".to_owned(),
        columns: tasks,
        cells: (1..=matrix.n_tasks()).map(row).collect(),
        range,
        spacing: Spacing::Linear,
        middle: None,
        has_scale: false,
    };
    map.draw()
}

fn values(matrix: &RetentionMatrix) -> Vec<f64> {
    let tasks = 1..=matrix.n_tasks();
    tasks.clone().flat_map(|i| tasks.clone().filter_map(move |j| matrix.get(i, j))).collect()
}

fn summary(matrices: &[(&String, RetentionMatrix)]) -> Table {
    let mut table = Table::new(&[
        Column::words("arm", "Arm"),
        Column::numbers("afq", "AFQ"),
        Column::numbers("aiq", "AIQ"),
        Column::numbers("fr", "FR"),
        Column::numbers("since_best", "Since best"),
        Column::numbers("bwt", "BWT"),
    ]);
    for (arm, matrix) in matrices {
        let cell = |value: Option<f64>| {
            value.map_or_else(
                || Cell::Missing("a cell of the matrix was not measured".into()),
                Cell::Number,
            )
        };
        table.row(vec![
            arm.as_str().into(),
            cell(matrix.average_final()),
            cell(matrix.average_incremental()),
            cell(matrix.forgetting_rate()),
            cell(Forgetting::SinceBest.average(matrix)),
            cell(BackwardTransfer::of(matrix).map(|transfer| transfer.0)),
        ]);
    }
    table
}

fn cells(matrices: &[(&String, RetentionMatrix)]) -> Table {
    let mut table = Table::new(&[
        Column::words("arm", "Arm"),
        Column::numbers("learned_through", "After task"),
        Column::numbers("task", "Examples of task"),
        Column::numbers("mean_reconstruction_error", "R"),
    ]);
    for (arm, matrix) in matrices {
        for i in 1..=matrix.n_tasks() {
            for j in 1..=matrix.n_tasks() {
                if let Some(value) = matrix.get(i, j) {
                    let place = [Cell::Count(i as u64), Cell::Count(j as u64)];
                    let [learned, task] = place;
                    table.row(vec![arm.as_str().into(), learned, task, Cell::Number(value)]);
                }
            }
        }
    }
    table
}
