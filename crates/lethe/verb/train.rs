//! `lethe train`: one task of one arm, alone.

use super::{Protocol, say};
use anyhow::{Context, Result};
use clap::Args;
use lethe::alone::Lonely;
use lethe::interrupt::Interrupt;
use std::path::PathBuf;

/// Learn one task of a protocol, in one arm, and leave a checkpoint that is also a diffusers pipeline.
///
/// Task 1 starts from the protocol's initial weights, a later task from --from: the checkpoint of the task before.
/// An arm that replays first chooses its buffer from the tasks before, as `lethe run` does. The same command goes on
/// where it was stopped.
#[derive(Args)]
#[command(
    after_help = "Example:\n  lethe train fashion --task 1 --out task-1\n  lethe train fashion --task 2 --arm top-energy --from task-1 --out task-2"
)]
pub struct Arguments {
    #[command(flatten)]
    protocol: Protocol,
    /// Number of the task, from 1
    #[arg(long, default_value_t = 1)]
    task: u32,
    /// The arm: none, random, class-balanced, top-energy, bottom-energy, stratified-energy,
    /// energy-weighted, top-loss, nearest-neighbour, herding, k-center, greedy, joint or control
    #[arg(long, default_value = "none")]
    arm: String,
    /// Folder of the task before, as an earlier `lethe train` or `lethe run` left it
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Which of the protocol's seeds; the first by default
    #[arg(long)]
    seed: Option<u64>,
    /// Where the checkpoint and the training log go
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Learns and names the checkpoint.
pub fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::of_process();
    let study = arguments.protocol.study()?;
    let seed =
        arguments.seed.or(study.spec.seeds.first().copied()).context("the protocol has no seed")?;
    let lonely = Lonely { study: &study, seed, task: arguments.task, interrupt: &interrupt };
    let checkpoint = lonely.train(&arguments.arm, arguments.from.as_deref(), &arguments.out)?;
    say(&checkpoint.display().to_string());
    Ok(())
}
