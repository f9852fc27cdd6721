//! From the ledger to tables, figures and one page.
//!
//! Two kinds of pages are made of the same parts. [`article`] is for those whose author arranges
//! [tables](table) and [figures](figure). [`write()`] reads a run folder and writes into it
//!
//! | file           | what                                                                      |
//! |----------------|---------------------------------------------------------------------------|
//! | `report.html`  | the page: one file, no script, no address to anywhere                     |
//! | `tables/*.csv` | `arms`, `claims`, `correlations`, `deciles`, `task_matrix`, full precision; `trainings` too, where there are several |
//!
//! The input is `run.json`, `examples.json`, `ledger.jsonl`, and as far as they exist
//! `training.jsonl` and
//!
//! | image                                       | what                                                  |
//! |---------------------------------------------|-------------------------------------------------------|
//! | `images/examples.png`                       | all probed examples, in the order of `examples.json`  |
//! | `images/<run>/<arm>-task<k>-reconstruction.png` | the same, reconstructed at the headline's level   |
//! | `images/<run>/<arm>-task<k>-samples.png`    | a grid of samples drawn after task k                  |
//!
//! What was not measured is said in its section; what is damaged is an error that names the file.
//! The same folder gives the same bytes. This room opens no checkpoint and knows no tensor.

mod analysis;
pub mod article;
mod claims;
mod document;
mod error;
pub mod figure;
mod folder;
mod gauge;
mod markup;
pub mod number;
mod page;
mod section;
mod sprite;
mod stages;
mod study;
pub mod table;

#[cfg(test)]
mod synthetic;

pub use error::{Error, Result};
pub use stages::Stages;

use folder::RunFolder;
use lethe_ledger::durable;
use lethe_ledger::statistics::Bootstrap;
use std::path::{Path, PathBuf};

/// Makes the report of a run folder and returns the path of its page.
///
/// A run that is not finished says so by its `stages`. Its page is of the repetitions that have come
/// furthest, names those that it leaves out, and takes no stage in progress for a measured one.
///
/// # Errors
/// [`Error::Ledger`], [`Error::Image`] or [`Error::Inconsistent`] for damaged input, with file and
/// line or field; [`Error::Io`]. Nothing is written unless everything could be rendered.
pub fn write(folder: impl AsRef<Path>, stages: Option<&Stages>) -> Result<PathBuf> {
    write_with(folder.as_ref(), stages, Bootstrap::default())
}

/// The files of a report that are missing, or not what [`write()`] would make of the run folder now.
///
/// # Errors
/// As [`write()`]; nothing is written.
pub fn stale(folder: impl AsRef<Path>, stages: Option<&Stages>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let page = page::render(&RunFolder::open(folder, stages)?, Bootstrap::default())?;
    let left = left_over(folder, &page).filter(|path| path.exists());
    let tables = page
        .tables
        .iter()
        .map(|(name, table)| (folder.join("tables").join(name), table.to_csv().into_bytes()));
    let expected = tables.chain([(folder.join("report.html"), page.html.into_bytes())]);
    let is_stale =
        |(path, bytes): &(PathBuf, Vec<u8>)| durable::read(path).ok().as_ref() != Some(bytes);
    Ok(expected.filter(is_stale).map(|(path, _)| path).chain(left).collect())
}

fn write_with(folder: &Path, stages: Option<&Stages>, bootstrap: Bootstrap) -> Result<PathBuf> {
    let page = page::render(&RunFolder::open(folder, stages)?, bootstrap)?;
    let tables = folder.join("tables");
    durable::make_folders(&tables).map_err(Error::io(&tables, "create"))?;
    for (name, table) in &page.tables {
        durable::write_file(tables.join(name), table.to_csv().as_bytes())?;
    }
    if let Some(path) = left_over(folder, &page).filter(|path| path.exists()) {
        std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
    }
    let path = folder.join("report.html");
    durable::write_file(&path, page.html.as_bytes())?;
    Ok(path)
}

/// The one table that not every page has, where this page has it not: what may lie there is of an earlier page.
fn left_over(folder: &Path, page: &page::Page) -> Option<PathBuf> {
    let is_there = page.tables.iter().any(|(name, _)| *name == TRAININGS);
    (!is_there).then(|| folder.join("tables").join(TRAININGS))
}

const TRAININGS: &str = "trainings.csv";

#[cfg(test)]
mod tests;
