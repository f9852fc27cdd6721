//! What can go wrong while a report is made.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of the report room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the ledger room is missing, damaged or inconsistent in itself.
    #[error(transparent)]
    Ledger(#[from] lethe_ledger::Error),
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
    /// An image sheet is not what `run.json` says.
    #[error("{}: {problem}; restore the image, or delete it to have a report without it", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The ledger speaks of something that the rest of the run folder does not know.
    #[error("{}: {field}: expected {expected}, got {got}; the files are not of the same run", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it may hold.
        expected: String,
        /// What it holds.
        got: String,
    },
    /// A folder for a page holds what no page of ours left there.
    #[error(
        "{}: expected an empty folder or one with a page of lethe's own, {page}; got files of others; move them away or choose another folder",
        folder.display()
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// The page that would stand there.
        page: String,
    },
    /// An article was put together in a way that is no page.
    #[error(
        "article {article:?}, {thing}: expected {expected}, got {got}; mend what makes the article"
    )]
    Article {
        /// Its title.
        article: String,
        /// What is wrong in it.
        thing: String,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
}

impl Error {
    /// Wraps an I/O error with the file and the attempted action.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }
}
