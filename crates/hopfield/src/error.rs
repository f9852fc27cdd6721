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
    /// Training left the numbers.
    #[error(
        "learner {learner} diverged at step {step}: {found}; lower the learning rate or begin nearer the data"
    )]
    Diverged {
        /// Which of the learners, from 0.
        learner: usize,
        /// The step whose loss or weights are no numbers, from 0.
        step: u32,
        /// What was found.
        found: String,
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

/// `value` where it is a number, for a quantity that overflows on inputs too large.
pub(crate) fn finite(field: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() {
        Ok(value)
    } else {
        refuse(field, "inputs for which it is finite", value)
    }
}
