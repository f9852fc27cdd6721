//! `lethe report`: the page and the tables of a run, again; and whether a run is whole.

use super::say;
use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use lethe::exit::Fault;
use std::path::PathBuf;

/// Make report.html and tables/*.csv of a run folder again, from its ledger alone: nothing is recomputed.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  lethe report runs/fashion\n  lethe report check runs/fashion",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Arguments {
    /// The run's folder, such as runs/fashion
    #[arg(required = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether a run is complete and every file of it as it was written; nothing is changed.
    ///
    /// What the run's own files say of protocol, data and weights must agree; every line of the ledger and every file of every
    /// checkpoint by its own; ledger.parquet, the tables and the page with what is made of the ledger now.
    ///
    /// Exits with 0 if all is well, 75 if the run is not finished, 77 if something is not as it was written.
    Check {
        /// The run's folder
        folder: PathBuf,
    },
}

/// Writes it and names the page.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(Command::Check { folder }) = &arguments.command {
        return lethe::check::check(folder, say);
    }
    let folder = arguments.folder.as_ref().context("a run's folder")?;
    if !folder.join("run.json").is_file() {
        let why = "there is no run.json in it; expected the folder of a run";
        return Err(Fault::Missing.because(anyhow!("{}: {why}", folder.display())));
    }
    let _hold = lethe::hold::hold(folder)?;
    let standing = lethe::check::standing(folder)?;
    say(&lethe::report::write(folder, standing.as_ref())?.display().to_string());
    Ok(())
}
