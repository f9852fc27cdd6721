//! What can go wrong in this room, each variant with the thing, the expected, the found and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of the ledger room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Something else lies where a file should be.
    #[error(
        "{}: expected a file as it was written, found {found}; restore it from a copy, or begin anew elsewhere", path.display()
    )]
    NotAFile {
        /// Where it lies.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// A file that is written in place, and is not the folder's own.
    #[error(
        "{}: it is {what}: writing here would change another place, too; put a copy in its place", path.display()
    )]
    NotOwn {
        /// Where it lies.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// A complete line is not what was written.
    #[error(
        "{}, line {line}: {problem}; the file was changed or damaged after it was written: restore it from a copy, or run again", path.display()
    )]
    DamagedLine {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The last line has no end: the writer was stopped in the middle of it.
    #[error(
        "{}, line {line}: the last line stops after {bytes} bytes without an end; the writer was interrupted: resume the run, which repairs the file", path.display()
    )]
    TornLine {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// Bytes after the last complete line.
        bytes: u64,
    },
    /// An offset at which no line ends.
    #[error(
        "{}: offset {offset} is not the end of a line (the file holds {length} bytes): it is not the file that the run has committed; restore it from a copy, or begin anew elsewhere", path.display()
    )]
    NotALineEnd {
        /// The file.
        path: PathBuf,
        /// The offset asked for.
        offset: u64,
        /// The length of the file.
        length: u64,
    },
    /// A name that is no quantity.
    #[error("unknown quantity `{found}`; expected one of: {known}")]
    UnknownQuantity {
        /// The name given.
        found: String,
        /// The names that exist.
        known: String,
    },
    /// A measured number is NaN or infinite.
    #[error(
        "{quantity} of example {example} (run {run}, arm {arm}, after task {learned_through}, step {step}) is {value}; expected a finite number: nothing was written"
    )]
    NotFinite {
        /// Name of the quantity.
        quantity: &'static str,
        /// The example.
        example: u64,
        /// The run.
        run: String,
        /// The arm.
        arm: String,
        /// The task that was learned last.
        learned_through: u32,
        /// The step within it.
        step: u64,
        /// The number found.
        value: f64,
    },
    /// A field holds what it must not hold.
    #[error("{what}: field `{field}`: expected {expected}, got {got}")]
    InvalidField {
        /// The record or file.
        what: String,
        /// The field.
        field: &'static str,
        /// What it may hold.
        expected: String,
        /// What it holds.
        got: String,
    },
    /// A file is not JSON of the expected form.
    #[error("{}: {source}; expected a {what} of format {format}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The format number that this version reads.
        format: u32,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// A measurement speaks of an example that the table of examples does not hold.
    #[error(
        "{quantity} was measured on example {example}, which the table of examples does not hold ({held} examples); write the table of the same run"
    )]
    UnknownExample {
        /// Name of the quantity.
        quantity: &'static str,
        /// The example.
        example: u64,
        /// How many examples the table holds.
        held: usize,
    },
    /// The Parquet writer failed.
    #[error("{}: cannot write Parquet: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: parquet::errors::ParquetError,
    },
    /// A statistic has no value on these numbers.
    #[error("{statistic} is undefined: {reason}")]
    Undefined {
        /// Name of the statistic.
        statistic: &'static str,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// Wraps an I/O error with the file and the attempted action.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    /// A statistic without a value.
    pub(crate) fn undefined(statistic: &'static str, reason: impl Into<String>) -> Self {
        Self::Undefined { statistic, reason: reason.into() }
    }
}
