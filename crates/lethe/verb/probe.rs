//! `lethe probe`: what a checkpoint knows of a protocol's examples.

use super::{Protocol, say};
use anyhow::{Context, Result};
use clap::Args;
use lethe::alone::Lonely;
use lethe::interrupt::Interrupt;
use std::path::PathBuf;

/// Measure a checkpoint on a protocol's examples: reconstruction error and denoising loss at every level, variational
/// bound, facts of the examples and their energies. Writes ledger.jsonl, ledger.parquet, examples.json, run.json and
/// the sheets of images into --out.
///
/// The noise follows from the protocol's seed: two checkpoints are asked the same question.
#[derive(Args)]
#[command(
    after_help = "Example:\n  lethe probe fashion --checkpoint runs/fashion/seed-1/task-1 --task 1 --out probe-1"
)]
pub struct Arguments {
    #[command(flatten)]
    protocol: Protocol,
    /// Folder of a task, as `lethe train` or `lethe run` left it, or a diffusers folder
    #[arg(long, value_name = "FOLDER")]
    checkpoint: PathBuf,
    /// Number of the task that was learned last: examples of this task and those before it are measured
    #[arg(long, default_value_t = 1)]
    task: u32,
    /// Which of the protocol's seeds; the first by default
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Measures and names the ledger.
pub fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::of_process();
    let study = arguments.protocol.study()?;
    let seed =
        arguments.seed.or(study.spec.seeds.first().copied()).context("the protocol has no seed")?;
    let lonely = Lonely { study: &study, seed, task: arguments.task, interrupt: &interrupt };
    let ledger = lonely.probe(&arguments.checkpoint, &arguments.out)?;
    say(&ledger.display().to_string());
    Ok(())
}
