//! `lethe report`: the page and the tables of a run, again.

use super::say;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Make report.html and tables/*.csv of a run folder again, from its ledger alone: nothing is recomputed.
#[derive(Args)]
#[command(after_help = "Example:\n  lethe report runs/fashion")]
pub struct Arguments {
    /// The run's folder, such as runs/fashion
    folder: PathBuf,
}

/// Writes it and names the page.
pub fn run(arguments: &Arguments) -> Result<()> {
    lethe::session::expect_committed(&arguments.folder)?;
    say(&lethe::report::write(&arguments.folder)?.display().to_string());
    Ok(())
}
