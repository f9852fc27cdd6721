//! `lethe run`: a whole protocol.

use super::{Protocol, say};
use anyhow::Result;
use clap::Args;
use lethe::interrupt::Interrupt;
use lethe::meter::note;
use lethe::study::Place;
use std::path::{Path, PathBuf};

/// Run a whole protocol: train task 1, measure every example, fine-tune on the later tasks in every arm from the same
/// checkpoint, measure again, and write checkpoints, a ledger and one self-contained report.html.
///
/// The same command goes on where a run was stopped, at whatever moment, and ends in the same bytes as an unbroken run.
/// The resolved protocol is kept with the run; a folder that was begun with another protocol is refused.
///
/// The built-in protocol `fashion` trains a small pixel-space DDPM on an embedded subset of Fashion-MNIST:
/// task 1 is classes 0 to 4, task 2 classes 5 to 9. It takes about seven minutes on two cores.
/// `latent` does the same in the latents of a small Stable Diffusion model, which it first makes of the same images.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  lethe run fashion\n  lethe run fashion --set training.steps=300 --out runs/short\n  lethe run my-protocol.toml --device cuda"
)]
pub struct Arguments {
    #[command(flatten)]
    protocol: Protocol,
    /// The run's folder; runs/NAME by default
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with a run whose protocol was edited in this field since; the report will say so. May be given several times
    #[arg(long, value_name = "FIELD")]
    allow_change: Vec<String>,
}

/// Runs it and names the report on the last line.
pub fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::of_process();
    let spec = arguments.protocol.spec()?;
    let folder = arguments.out.clone().unwrap_or_else(|| Path::new("runs").join(&spec.name));
    lethe::session::expect_place(&folder)?;
    let model = folder.join("model");
    let making = Place { folder: &model, interrupt: &interrupt };
    let study = arguments.protocol.study_making(spec, making)?;
    let report = lethe::run::run(&study, &folder, &arguments.allow_change, &interrupt)?;
    note(&format!("peak memory: {}", lethe::device::peak(&study.device)?));
    say(&report.display().to_string());
    Ok(())
}
