//! What can go wrong in training.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A field of the protocol is impossible.
    #[error("training.{field}: expected {expected}, got {got}")]
    Spec {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A number that is not finite was born; nothing was updated with it.
    #[error(
        "training diverged in task {task} at step {step}: {what} is not finite; what was committed before is kept.{} Try a lower training.learning_rate or a longer training.warm_up; at step 0 it is the weights that it started from, or the images",
        culprits(examples)
    )]
    Diverged {
        /// Task being learned.
        task: u32,
        /// Optimizer step within it, from 0.
        step: u64,
        /// What was not finite.
        what: &'static str,
        /// Ids and timesteps of the examples whose loss was not finite, or of the whole batch.
        examples: Vec<(u64, usize)>,
    },
    /// A trainable parameter receives no gradient: training would silently leave it as it is.
    #[error("no gradient reaches {} of {expected} trainable parameters: {}", names.len(), shown(names))]
    NoGradient {
        /// Trainable parameters.
        expected: usize,
        /// Those without a gradient.
        names: Vec<String>,
    },
    /// An example that the data do not hold.
    #[error("example {id} is not in the data set")]
    NoExample {
        /// Its id.
        id: u64,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// A file inside a checkpoint that was not written with it.
    #[error("{}: it does not belong to the checkpoint that it lies in; move it out of there, then run the same command again", path.display())]
    Stray {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint is not what was written.
    #[error("{}: {reason}; restore it from a copy", path.display())]
    Damaged {
        /// The checkpoint or the file in it.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Those of tensors.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Those of weights.
    #[error(transparent)]
    Weights(#[from] lethe_candlex::weights::WeightsError),
    /// Those of batches.
    #[error(transparent)]
    Continual(#[from] lethe_continual::ContinualError),
    /// Those of journals and durable files.
    #[error(transparent)]
    Ledger(#[from] lethe_ledger::Error),
}

const SHOWN: usize = 8;

fn culprits(examples: &[(u64, usize)]) -> String {
    if examples.is_empty() {
        return String::new();
    }
    let shown: Vec<String> =
        examples.iter().take(SHOWN).map(|(id, t)| format!("{id} at {t}")).collect();
    let more = if examples.len() > SHOWN {
        format!(" and {} more", examples.len() - SHOWN)
    } else {
        String::new()
    };
    format!(" Examples (id at timestep): {}{more}.", shown.join(", "))
}

fn shown(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ") + more
}
