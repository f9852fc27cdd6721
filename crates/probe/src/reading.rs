//! One quantity of a run of examples, before it is known when and in which arm it was taken.

use lethe_ledger::{Measurement, Quantity};

/// `values[i]` is `quantity` of `examples[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What was measured.
    pub quantity: Quantity,
    /// Inverse temperature or t/T, as the quantity says.
    pub level: Option<f64>,
    /// Ids of the examples.
    pub examples: Vec<u64>,
    /// The numbers, in the quantity's unit.
    pub values: Vec<f64>,
}

/// When and where readings were taken.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The repetition, such as `seed-1`.
    pub run: &'a str,
    /// The arm.
    pub arm: &'a str,
    /// Number of the task being learned; 0 before any.
    pub learned_through: u32,
    /// Optimizer steps within it.
    pub step: u64,
}

impl Reading {
    /// The reading as the ledger keeps it.
    pub fn at(self, moment: &Moment) -> Measurement {
        Measurement {
            run: moment.run.to_string(),
            arm: moment.arm.to_string(),
            learned_through: moment.learned_through,
            step: moment.step,
            quantity: self.quantity,
            level: self.level,
            examples: self.examples,
            values: self.values,
        }
    }
}
