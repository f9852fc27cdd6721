//! One task's optimization and its checkpoints.
//!
//! [`Trainer`] moves a network's numbers along a stream of batches; [`checkpoint`] keeps them on disk so that a killed
//! run goes on to the same bytes.
//! Never names a concrete network, and knows nothing of what is measured.

pub mod checkpoint;
mod content;
mod error;
mod learning_rate;
mod noisy;
mod optimizer;
mod pixels;
mod spec;
mod state;
mod trainer;
mod validation;

pub use error::TrainError;
pub use learning_rate::Decay;
pub use optimizer::{Optimizer, flatten};
pub use pixels::{Inputs, Pixels, sample_keys, to_tensor};
pub use spec::{Keeping, Precision, TrainingSpec};
pub use state::{Position, Window};
pub use trainer::{Job, Process, StepReport, Trainer};
