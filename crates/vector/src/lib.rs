//! A small score network on vectors, and how it is trained: for data whose energies are known exactly.
//!
//! [`Perceptron`] is the network, [`Source`] what its data are drawn from, [`fit`] one task's optimization.
//! What it has learned is read with the probe's energies and compared with the closed form.
//! Knows no image and no protocol.

mod error;
mod perceptron;
mod source;
mod training;

pub use error::VectorError;
pub use perceptron::{Perceptron, PerceptronSpec};
pub use source::{Circle, Patterns, Source};
pub use training::{Fitted, Task, TrainingSpec, fit};
