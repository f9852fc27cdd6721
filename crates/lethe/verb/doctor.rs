//! `lethe doctor`: whether this machine and this build can do the work.

use super::say;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Say whether this machine and this build can do the work: processor, a real kernel on the device, memory, disk, cache,
/// and what is wrong with a driver, toolkit or library.
///
/// Exits with 0 if all is well, 66 if there is no such device, 74 if the disk refuses.
#[derive(Args)]
#[command(after_help = "Example:\n  lethe doctor --device cuda")]
pub struct Arguments {
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Where runs will be written
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    out: PathBuf,
}

/// Examines and tells.
pub fn run(arguments: &Arguments) -> Result<()> {
    lethe::doctor::examine(&arguments.device, &arguments.out, say)
}
