//! What can be wrong with a network on vectors or its training.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// A field is impossible.
    #[error("{field}: expected {expected}, got {got}")]
    Spec {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A number that is not finite was born; the weights have not moved with it.
    #[error(
        "training diverged in task {task} at step {step}: {what} is not finite; try a lower learning_rate or a longer warm_up"
    )]
    Diverged {
        /// Task being learned.
        task: u32,
        /// Optimizer step within it, from 0.
        step: u64,
        /// What was not finite.
        what: &'static str,
    },
    /// Those of tensors.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl VectorError {
    pub(crate) fn spec(
        field: &'static str,
        expected: &'static str,
        got: impl std::fmt::Debug,
    ) -> Self {
        Self::Spec { field, expected, got: format!("{got:?}") }
    }
}
