//! What this room refuses, with what was expected and what to do.

use thiserror::Error;

/// Why a network, a geometry or a question was refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum HopfieldError {
    /// A quantity lies outside its domain.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// The quantity, in the words of the documentation.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        got: String,
    },
}

/// What the room's functions return.
pub type Result<T> = std::result::Result<T, HopfieldError>;

/// A refusal.
pub(crate) fn refuse<T>(
    field: &'static str,
    expected: impl Into<String>,
    got: impl ToString,
) -> Result<T> {
    Err(HopfieldError::Field { field, expected: expected.into(), got: got.to_string() })
}
