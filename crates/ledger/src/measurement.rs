//! One quantity measured on a batch of examples at one moment of one arm: one line of the ledger.

use crate::error::{Error, Result};
use crate::journal::Record;
use crate::quantity::{LevelMeaning, Quantity};
use serde::{Deserialize, Serialize};

/// Optimizer steps that a task may take: what a protocol can ask for.
pub(crate) const MOST_STEPS: u64 = u32::MAX as u64;

/// A column batch: `values[i]` is `quantity` of `examples[i]`.
///
/// The moment is (`run`, `arm`, `learned_through`, `step`). The last step of a task in an arm is
/// that task's boundary. Arm `data` holds what depends on no network: facts of an example
/// (`learned_through` 0) and energies against the stored set of task `learned_through`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The run, for example `seed-1`.
    pub run: String,
    /// The arm: `data`, `task-1`, `none`, `random`, ...
    pub arm: String,
    /// Number of the task that is learned (from 1); 0 before any.
    pub learned_through: u32,
    /// Optimizer steps within that task, at most 2³² − 1.
    pub step: u64,
    /// What was measured.
    pub quantity: Quantity,
    /// Inverse temperature or t/T, as [`Quantity::level`] says; none where it has no level.
    pub level: Option<f64>,
    /// Ids of the examples, each at most once.
    pub examples: Vec<u64>,
    /// The numbers, in the quantity's unit, all finite.
    pub values: Vec<f64>,
}

impl Record for Measurement {
    fn validate(&self) -> Result<()> {
        self.validate_names()?;
        self.validate_step()?;
        self.validate_level()?;
        self.validate_examples()?;
        self.validate_values()
    }
}

impl Measurement {
    fn validate_names(&self) -> Result<()> {
        for (field, name) in [("run", &self.run), ("arm", &self.arm)] {
            if name.is_empty() {
                return Err(self.invalid(field, "a name", "an empty text"));
            }
        }
        Ok(())
    }

    fn validate_step(&self) -> Result<()> {
        if self.step > MOST_STEPS {
            let expected = format!("at most {MOST_STEPS}");
            return Err(self.invalid("step", expected, self.step.to_string()));
        }
        Ok(())
    }

    fn validate_level(&self) -> Result<()> {
        let (is_valid, expected) = match (self.quantity.level(), self.level) {
            (LevelMeaning::None, level) => (level.is_none(), "no level"),
            (LevelMeaning::InverseTemperature, level) => (
                level.is_some_and(|level| level.is_finite() && level > 0.0),
                "an inverse temperature > 0",
            ),
            (LevelMeaning::Time, level) => {
                (level.is_some_and(|level| (0.0..=1.0).contains(&level)), "t/T in [0, 1]")
            }
        };
        if is_valid {
            Ok(())
        } else {
            Err(self.invalid("level", expected, format!("{:?}", self.level)))
        }
    }

    fn validate_examples(&self) -> Result<()> {
        if self.examples.is_sorted_by(|a, b| a < b) {
            return Ok(());
        }
        let mut sorted = self.examples.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                Err(self.invalid("examples", "each id once", format!("{} twice", pair[0])))
            }
            None => Ok(()),
        }
    }

    fn validate_values(&self) -> Result<()> {
        if self.values.len() != self.examples.len() {
            let expected = format!("{} numbers, one for each example", self.examples.len());
            return Err(self.invalid("values", expected, self.values.len().to_string()));
        }
        let position = self.values.iter().position(|value| !value.is_finite());
        position.map_or(Ok(()), |index| {
            Err(Error::NotFinite {
                quantity: self.quantity.name(),
                example: self.examples[index],
                run: self.run.clone(),
                arm: self.arm.clone(),
                learned_through: self.learned_through,
                step: self.step,
                value: self.values[index],
            })
        })
    }

    fn invalid(
        &self,
        field: &'static str,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Error {
        let what = format!(
            "measurement of {} (run {}, arm {}, after task {}, step {})",
            self.quantity, self.run, self.arm, self.learned_through, self.step
        );
        Error::InvalidField { what, field, expected: expected.into(), got: got.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field and what makes it wrong.
    type Change = (&'static str, fn(&mut Measurement));

    fn measurement() -> Measurement {
        Measurement {
            run: "seed-1".into(),
            arm: "none".into(),
            learned_through: 2,
            step: 300,
            quantity: Quantity::ReconstructionError,
            level: Some(0.3),
            examples: vec![3, 1, 2],
            values: vec![0.25, 0.5, 1.0],
        }
    }

    #[test]
    fn a_sound_measurement_passes() {
        measurement().validate().unwrap();
        Measurement { step: MOST_STEPS, ..measurement() }.validate().unwrap();
    }

    #[test]
    fn a_nan_is_refused_with_quantity_and_example() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut damaged = measurement();
            damaged.values[1] = value;
            let message = damaged.validate().unwrap_err().to_string();
            assert!(message.contains("reconstruction_error of example 1"), "{message}");
        }
    }

    #[test]
    fn wrong_shapes_and_levels_are_refused() {
        let changes: [Change; 8] = [
            ("step", |m| m.step = MOST_STEPS + 1),
            ("values", |m| m.values.truncate(2)),
            ("examples", |m| m.examples[2] = 3),
            ("level", |m| m.level = None),
            ("level", |m| m.level = Some(1.5)),
            ("level", |m| m.level = Some(f64::NAN)),
            ("level", |m| m.quantity = Quantity::VariationalBound),
            ("arm", |m| m.arm.clear()),
        ];
        for (field, change) in changes {
            let mut changed = measurement();
            change(&mut changed);
            let message = changed.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("field `{field}`")), "{message}");
        }
    }
}
