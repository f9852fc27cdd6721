//! A task: some classes and the examples that carry them.

use crate::{ClassId, ExampleId};

/// One task of a [`TaskStream`](crate::TaskStream).
///
/// Its lists are sorted and free of duplicates, and `train` is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub(crate) number: u32,
    pub(crate) classes: Vec<ClassId>,
    pub(crate) train: Vec<ExampleId>,
    pub(crate) held_out: Vec<ExampleId>,
}

impl Task {
    /// The task's place in the stream; the first task is 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its classes, in the order in which the protocol lists them.
    pub fn classes(&self) -> &[ClassId] {
        &self.classes
    }

    /// The examples to train on, ascending.
    pub fn train(&self) -> &[ExampleId] {
        &self.train
    }

    /// The examples that are only measured, ascending; may be empty.
    pub fn held_out(&self) -> &[ExampleId] {
        &self.held_out
    }
}
