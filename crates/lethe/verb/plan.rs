//! `lethe plan`: what a run would take.

use super::{Protocol, say};
use anyhow::{Result, anyhow};
use clap::Args;
use lethe::exit::Fault;
use lethe::interrupt::Interrupt;
use std::path::{Path, PathBuf};

/// Say how long a run would take, how much memory and how much disk, and whether it fits, before it begins.
///
/// The work is counted from the protocol and its data; the pace is measured on a few real training steps and network
/// evaluations of this model on this device; memory is what the protocol says exactly, and the peak of those steps; disk
/// is what each file will hold. It takes seconds where a step does, minutes for the whole of Stable Diffusion, and keeps
/// nothing: a model that [latent.make] asks for is made in a temporary folder, of one step.
///
/// Not counted: energies and the report, which take seconds where the data are small, and the time of writing
/// checkpoints.
///
/// Exits with 0 if the run fits, 73 if not.
#[derive(Args)]
#[command(
    after_help = "Example:\n  lethe plan fashion\n  lethe plan my-protocol.toml --device cuda --json"
)]
pub struct Arguments {
    #[command(flatten)]
    protocol: Protocol,
    /// The run's folder, or any on the same disk; runs/NAME by default
    #[arg(long, value_name = "FOLDER")]
    disk: Option<PathBuf>,
    /// The same as JSON: seconds and bytes
    #[arg(long)]
    json: bool,
}

/// Plans and tells.
pub fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::of_process();
    let spec = arguments.protocol.spec()?;
    let folder = arguments.disk.clone().unwrap_or_else(|| Path::new("runs").join(&spec.name));
    let plan = lethe::plan::plan(spec, arguments.protocol.device()?, &folder, &interrupt)?;
    let text = if arguments.json { serde_json::to_string_pretty(&plan)? } else { plan.to_string() };
    say(&text);
    if plan.obstacles.is_empty() {
        return Ok(());
    }
    Err(Fault::Held.because(anyhow!("this run does not fit, see above")))
}
