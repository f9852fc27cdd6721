//! What can be wrong with a diffusion process.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DiffusionError {
    /// A field of the schedule is impossible.
    #[error("diffusion.{field}: expected {expected}, got {got}")]
    Schedule {
        /// The field of the protocol.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
}

impl DiffusionError {
    pub(crate) fn schedule(
        field: &'static str,
        expected: &'static str,
        got: impl ToString,
    ) -> Self {
        Self::Schedule { field, expected, got: got.to_string() }
    }
}
