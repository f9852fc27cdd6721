//! What the protocol knows of an example: its id, its class and its side of the split.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of one example, stable over runs (the data set numbers its examples).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExampleId(pub u64);

/// The label of an example: an index into the data set's list of class names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassId(pub u32);

/// Which side of the split an example is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// Seen by the optimizer, and a candidate for replay.
    Train,
    /// Only ever measured.
    HeldOut,
}

/// One line of the list from which a [`TaskStream`](crate::TaskStream) is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelledExample {
    /// The example.
    pub id: ExampleId,
    /// Its class.
    pub class: ClassId,
    /// Its side of the split.
    pub split: Split,
}

impl fmt::Display for ExampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
