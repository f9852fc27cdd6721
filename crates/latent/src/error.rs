//! What can be wrong with a Stable Diffusion model on disk, or with what it is given.

use lethe_candlex::weights::WeightsError;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum LatentError {
    /// A file that the folder should have.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file whose content is not what its name says.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A configuration that these networks do not know.
    #[error("{field}: expected {expected}, got {got}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// Weights that do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Tensors that do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl LatentError {
    /// [`LatentError::Config`] unless `holds`.
    pub(crate) fn require(
        field: &'static str,
        holds: bool,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Result<(), Self> {
        if holds {
            return Ok(());
        }
        Err(Self::Config { field, expected: expected.into(), got: got.to_string() })
    }
}
