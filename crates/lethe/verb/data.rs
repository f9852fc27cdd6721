//! `lethe data`: what a data set holds.

use super::say;
use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use lethe::data::{ReadOptions, Source, check, detect};
use lethe::exit::Fault;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    Check(Check),
}

/// Say what a data set holds: its kind, classes, shapes, and every image that cannot be used, in one pass.
///
/// PATH may be a folder with a pair of idx files (plain or gzip), a cifar-10-batches-bin
/// folder, a Parquet file of the hub's schema or a folder of them, a folder that holds one folder of PNG, JPEG or WebP
/// files for each class, a folder of such files with a metadata.jsonl or metadata.csv (file_name, text, label), or the
/// word fashion-mnist for the embedded subset.
///
/// Exits with 0 if every image can be used, 65 if not.
#[derive(Args)]
#[command(
    after_help = "Example:\n  lethe data check data/cifar-10-batches-bin\n  lethe data check photographs/"
)]
pub struct Check {
    /// Where the data lie
    path: PathBuf,
    /// Names of the classes, comma-separated, for data that do not name them
    #[arg(long, value_delimiter = ',')]
    classes: Option<Vec<String>>,
    /// The column of the captions; text, where it is there, by default
    #[arg(long, value_name = "COLUMN")]
    caption_column: Option<String>,
}

/// Looks and tells.
pub fn run(command: &Command) -> Result<()> {
    let Command::Check(arguments) = command;
    let source = match arguments.path.to_str() {
        Some("fashion-mnist") if !arguments.path.exists() => Source::FashionMnist,
        _ => detect(&arguments.path)?,
    };
    let options = ReadOptions {
        classes: arguments.classes.clone(),
        caption_column: arguments.caption_column.clone(),
        memory: lethe::plan::machine::room_for_pixels(),
        ..ReadOptions::default()
    };
    let summary = check(&source, &options)?;
    say(summary.to_string().trim_end());
    if !summary.is_sound() {
        let error = anyhow!("{}: not every image can be used, see above", summary.source);
        return Err(Fault::Data.because(error));
    }
    Ok(())
}
