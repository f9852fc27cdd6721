//! How much memory and disk a run takes: exactly where the protocol says it, from a trial where the code does.

use super::work::{Work, longest_place};
use crate::sheet::Sheet;
use crate::study::Study;
use anyhow::Result;
use lethe_candlex::params::Declarations;
use lethe_ledger::{Measurement, Quantity, TrainingRecord};
use lethe_train::Keeping;
use serde::Serialize;
use std::path::Path;

/// Bytes of something.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// What it is.
    pub what: String,
    /// How many bytes.
    pub bytes: u64,
}

pub(super) fn part(what: impl Into<String>, bytes: u64) -> Part {
    Part { what: what.into(), bytes }
}

/// The sum of all.
pub fn sum(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.bytes).sum()
}

/// What lies in memory all through training, exactly.
pub fn lasting(study: &Study, work: &Work) -> Vec<Part> {
    let moving = 4 * study.system.declarations.n_elements() as u64;
    let is_elsewhere = study.spec.training.ema_on == Keeping::Host && !study.device.is_cpu();
    let base = study.system.base.as_ref().map_or(0, |base| 4 * base.flat().elem_count() as u64);
    let mut parts = vec![
        part("weights that are trained", moving),
        part(AVERAGE, moving),
        part("moments of AdamW", 2 * moving),
        part("gradients", moving),
        part("images", study.images.pixels().len() as u64),
    ];
    if let Some(latent) = study.system.latent() {
        let frozen = base + 4 * latent.vae_weights().flat().elem_count() as u64;
        parts.push(part("weights that are not trained", frozen));
        parts.push(part("latents", latents(study)));
        parts.push(part("texts", work.texts as u64 * latent.bytes_of_text()));
    }
    // What is added up is the memory of the device that trains.
    parts.retain(|part| !(is_elsewhere && part.what == AVERAGE));
    parts
}

const AVERAGE: &str = "their moving average";

/// Means and deviations of all latents.
fn latents(study: &Study) -> u64 {
    let numbers = study.shape().iter().product::<usize>() as u64;
    2 * 4 * numbers * study.images.len() as u64
}

/// What the inputs of the whole data take beyond those of the sketch, which were there while peaks were measured.
pub fn unseen(study: &Study, work: &Work) -> u64 {
    let Some(latent) = study.system.latent() else { return 0 };
    latents(study) + work.texts as u64 * latent.bytes_of_text()
}

/// Images of all measured examples at a boundary: reconstructions in parts and as a whole, originals, their difference.
pub fn pictures(study: &Study) -> u64 {
    const COPIES: u64 = 4;
    4 * COPIES * study.images.shape().bytes() as u64 * study.probed.rows().len() as u64
}

/// The files of a checkpoint on the way: what is trained, as it stands and as the task's result, and two moments.
fn on_the_way(study: &Study) -> u64 {
    4 * tensors(&study.system.declarations)
}

/// The files of the checkpoint that a task leaves: its result alone, as a whole pipeline.
fn left(study: &Study) -> Result<u64> {
    let moving = tensors(&study.system.declarations);
    let Some(latent) = study.system.latent() else { return Ok(moving) };
    let mut bytes = moving + merged(study);
    for (_, path) in lethe_latent::folder::other_files(latent.root())? {
        bytes += path.metadata()?.len();
    }
    Ok(bytes)
}

/// The whole U-Net with adapters added into it, which lies in memory while it is written.
pub fn merged(study: &Study) -> u64 {
    let latent = study.system.latent().filter(|_| study.system.base.is_some());
    latent.map_or(0, |latent| tensors(latent.unet_declarations()))
}

/// A safetensors file of 32-bit floats: numbers, and some 80 bytes beside each name.
fn tensors(declarations: &Declarations) -> u64 {
    const BESIDE: usize = 80;
    let header = |declaration: &lethe_candlex::params::Declaration| declaration.name.len() + BESIDE;
    let names: usize = declarations.as_slice().iter().map(header).sum();
    4 * declarations.n_elements() as u64 + names as u64
}

/// What a run leaves in its folder, `model` being the one that it makes.
///
/// # Errors
/// When a file of the model that it starts from cannot be looked at.
pub fn disk(study: &Study, work: &Work, model: u64) -> Result<Vec<Part>> {
    let (left, way, lessons) = (left(study)?, on_the_way(study), work.lessons as u64);
    let rows = rows(study, work);
    let journal = rows * bytes_of_row(study)?;
    let grids = grids(study)?;
    let mut parts = vec![
        part(
            format!("checkpoints that stay: {lessons} of {} each", super::bytes(left)),
            lessons * left,
        ),
        // A new one is there before the one before it is let go.
        part("checkpoints on the way", way.max((2 * way).saturating_sub(left))),
        part(
            format!("ledger: {rows} numbers, as lines and as Parquet"),
            journal + rows * PARQUET_ROW,
        ),
        part("training log", training_log(study, work)?),
        part("images", grids),
        part("report and tables", PAGE + rows * PAGE_ROW),
    ];
    if model > 0 {
        parts.push(part("the model that is made", model));
    }
    Ok(parts)
}

/// A row of the ledger as Parquet, compressed, and what it adds to the page and its tables; measured on `fashion`.
const PARQUET_ROW: u64 = 10;
const PAGE_ROW: u64 = 1;
/// A page without what grows with the numbers.
const PAGE: u64 = 150_000;

/// Numbers in the ledger.
fn rows(study: &Study, work: &Work) -> u64 {
    let probe = &study.spec.probe;
    let (all, tasks) = (study.probed.rows().len() as u64, u64::from(study.n_tasks()));
    // Facts and the nearest neighbour of every example, and four energies against every task.
    let data = all * (FACTS + 1 + 4 * tasks);
    let of_level = 2 + u64::from(study.system.latent().is_some());
    let each = probe.levels.len() as u64 * of_level + u64::from(probe.bound_points > 0);
    let lesson = |task: u32| {
        let examples = study.probed_through(task).len() as u64;
        // Behind later tasks come four energies, and whether it is replayed.
        examples * (each + if task > 1 { 5 } else { 0 })
    };
    let arms = study.arms().len() as u64;
    let later: u64 = (2..=study.n_tasks()).map(|task| arms * lesson(task)).sum();
    let curve = work.points as u64 * 2 * crate::measure::curve_ids(study).len() as u64;
    study.spec.seeds.len() as u64 * (data + lesson(1) + later) + curve
}

/// Facts of an example: see `lethe_probe::facts`.
const FACTS: u64 = 3;

/// Bytes of a number in the journal, by writing some.
fn bytes_of_row(study: &Study) -> Result<u64> {
    let place = longest_place(study);
    let ids: Vec<u64> = study.probed.rows().iter().map(|row| row.id).take(100).collect();
    let values = (0..ids.len()).map(|i| (1. + i as f64).sqrt() / 100.).collect();
    let n = ids.len() as u64;
    let sample = Measurement {
        run: place.run,
        arm: place.arm,
        learned_through: place.task,
        step: study.spec.training.later_steps,
        quantity: Quantity::ReconstructionError,
        level: Some(study.spec.probe.headline),
        examples: ids,
        values,
    };
    Ok((serde_json::to_string(&sample)?.len() as u64).div_ceil(n.max(1)))
}

fn training_log(study: &Study, work: &Work) -> Result<u64> {
    let place = longest_place(study);
    let loss = 0.1_f64.sqrt();
    let sample = TrainingRecord {
        run: place.run,
        arm: place.arm,
        task: place.task,
        step: study.spec.training.later_steps,
        loss,
        loss_quartiles: [Some(loss); 4],
        gradient_norm: loss,
        learning_rate: study.spec.training.learning_rate,
        validation_loss: Some(loss),
        images_seen: 100_000,
    };
    let line = serde_json::to_string(&sample)?.len() as u64 + 1;
    let spec = &study.spec.training;
    let steps = spec.steps + (work.lessons as u64).saturating_sub(1) * spec.later_steps;
    Ok(line * (steps / spec.log_every.max(1) + work.lessons as u64))
}

/// Sheets of examples: as large for each tile as those of the first ones are.
fn grids(study: &Study) -> Result<u64> {
    const TILES: usize = 64;
    let ids: Vec<u64> = study.probed.rows().iter().map(|row| row.id).take(TILES).collect();
    let shape = study.images.shape();
    let mut sheet = Sheet::blank((shape.height, shape.width), shape.channels, 8, ids.len());
    let positions: Vec<usize> = (0..ids.len()).collect();
    sheet.place(study.pictures(&ids)?.pixels(), &positions)?;
    let tile = sheet.png()?.len() as f64 / ids.len().max(1) as f64;
    let all = study.probed.rows().len() as f64;
    let lesson = |task: u32| (study.probed_through(task).len() + study.spec.probe.samples) as f64;
    let later: f64 = (2..=study.n_tasks()).map(lesson).sum::<f64>() * study.arms().len() as f64;
    let seeds = study.spec.seeds.len() as f64;
    Ok((tile * (all + seeds * (lesson(1) + later))) as u64)
}

/// Bytes of all files below a folder.
pub fn below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(kind) if kind.is_dir() => below(&entry.path()),
        Ok(kind) => kind.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
