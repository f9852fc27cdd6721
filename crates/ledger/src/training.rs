//! One line of the training log: how an optimizer step went.

use crate::error::{Error, Result};
use crate::journal::Record;
use crate::measurement::MOST_STEPS;
use serde::{Deserialize, Serialize};

/// The state of a training after `step` optimizer steps of `task`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRecord {
    /// The run, for example `seed-1`.
    pub run: String,
    /// The arm: `task-1`, `none`, `random`, ...
    pub arm: String,
    /// Number of the task that is learned, from 1.
    pub task: u32,
    /// Optimizer steps within that task, at most 2³² − 1.
    pub step: u64,
    /// Training loss of the batch, per dimension.
    pub loss: f64,
    /// The loss over each quarter of the timesteps, lowest noise first; none where the batch drew none.
    pub loss_quartiles: [Option<f64>; 4],
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Loss on the fixed validation set with frozen noise and timesteps, where it was evaluated.
    pub validation_loss: Option<f64>,
    /// Images seen since the beginning of the task.
    pub images_seen: u64,
}

impl Record for TrainingRecord {
    fn validate(&self) -> Result<()> {
        if self.step > MOST_STEPS {
            return Err(self.invalid("step", format!("at most {MOST_STEPS}"), self.step));
        }
        let [first, second, third, fourth] = self.loss_quartiles;
        let numbers = [
            ("loss", Some(self.loss)),
            ("loss_quartiles[0]", first),
            ("loss_quartiles[1]", second),
            ("loss_quartiles[2]", third),
            ("loss_quartiles[3]", fourth),
            ("gradient_norm", Some(self.gradient_norm)),
            ("learning_rate", Some(self.learning_rate)),
            ("validation_loss", self.validation_loss),
        ];
        for (field, number) in numbers {
            if let Some(number) = number.filter(|number| !number.is_finite()) {
                return Err(self.invalid(field, "a finite number", number));
            }
        }
        Ok(())
    }
}

impl TrainingRecord {
    fn invalid(
        &self,
        field: &'static str,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Error {
        let what = format!(
            "training record (run {}, arm {}, task {}, step {})",
            self.run, self.arm, self.task, self.step
        );
        Error::InvalidField { what, field, expected: expected.into(), got: got.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field and what makes it wrong.
    type Change = (&'static str, fn(&mut TrainingRecord));

    #[test]
    fn every_number_must_be_finite_and_every_step_possible() {
        let sound = TrainingRecord {
            run: "seed-1".into(),
            arm: "none".into(),
            task: 2,
            step: 9,
            loss: 0.1,
            loss_quartiles: [Some(0.4), None, Some(0.1), Some(0.05)],
            gradient_norm: 1.5,
            learning_rate: 2e-4,
            validation_loss: None,
            images_seen: 576,
        };
        sound.validate().unwrap();
        TrainingRecord { step: MOST_STEPS, ..sound.clone() }.validate().unwrap();
        let changes: [Change; 6] = [
            ("step", |r| r.step = MOST_STEPS + 1),
            ("loss", |r| r.loss = f64::NAN),
            ("loss_quartiles[2]", |r| r.loss_quartiles[2] = Some(f64::INFINITY)),
            ("gradient_norm", |r| r.gradient_norm = f64::INFINITY),
            ("learning_rate", |r| r.learning_rate = f64::NAN),
            ("validation_loss", |r| r.validation_loss = Some(f64::NAN)),
        ];
        for (field, change) in changes {
            let mut changed = sound.clone();
            change(&mut changed);
            let message = changed.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("field `{field}`")), "{message}");
        }
    }
}
