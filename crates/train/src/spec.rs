//! `[training]` of a protocol.

use crate::TrainError;
use crate::learning_rate::Decay;
use lethe_diffusion::objective::Weighting;
use serde::{Deserialize, Serialize};

/// Numbers of the forward and backward pass of training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// 32-bit floats whose products, in the steps of training, read eleven bits of each factor on a CUDA device (TF32); on a
    /// processor they are true ones.
    Tf32,
    /// bfloat16, with sums, norms, softmax and loss in 32 bits; the weights that move stay in 32 bits.
    Bf16,
}

/// Where the moving average of the weights is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeping {
    /// Beside the weights.
    #[default]
    Device,
    /// In host memory: a GPU has room for one copy of the weights more, and each step sends them over.
    Host,
}

/// How a task is learned; exactly what the protocol file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSpec {
    /// Optimizer steps of the first task.
    pub steps: u64,
    /// Optimizer steps of every later task, in every arm.
    pub later_steps: u64,
    /// New examples in every batch; replayed ones come beside them (`replay.per_batch`).
    pub batch: u64,
    /// Into how many parts a batch is cut, whose gradients are taken one after another: less memory for activations,
    /// the same step but for rounding.
    pub parts: u64,
    /// Whether each block of the network keeps its input alone for the backward pass and computes the rest of it a second
    /// time: less memory, about a third more time, the same numbers.
    pub recompute: bool,
    /// Numbers of the forward and backward pass: "f32" (default), "tf32" or "bf16" on a GPU. What is measured always is in f32.
    pub precision: Precision,
    /// AdamW's η at its height. Default 2e-4, Ho et al. 2020.
    pub learning_rate: f64,
    /// η for the later tasks, as a multiple of `learning_rate`.
    pub later_rate: f64,
    /// Steps over which η rises from 0 at the start of each task.
    pub warm_up: u64,
    /// How η falls over a task: "constant", "linear" or "cosine".
    pub decay: Decay,
    /// AdamW's β₁.
    pub first_decay: f64,
    /// AdamW's β₂.
    pub second_decay: f64,
    /// AdamW's ε.
    pub epsilon: f64,
    /// AdamW's λ. Default 0, Ho et al. 2020.
    pub weight_decay: f64,
    /// Gradients longer than this are scaled back to it. Default 1, Ho et al. 2020.
    pub clip: f64,
    /// Half-life of the moving average of the weights, in images; 0 keeps no average.
    /// The average is what a task leaves: it is measured, sampled from, and the next task's start.
    pub ema_half_life: f64,
    /// Share of the images seen so far that the half-life may not exceed: the average's warm-up. Default 0.05, EDM.
    pub ema_ramp_up: f64,
    /// Where the average is kept: "device" (default), beside the weights, or "host": one copy of the weights less on a
    /// GPU, for their way to the host in each step.
    pub ema_on: Keeping,
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// w(t): "uniform" or { min-snr = 5.0 }.
    pub weighting: Weighting,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// Steps from one line of the training log to the next.
    pub log_every: u64,
    /// Steps from one validation loss to the next; 0 takes none.
    pub validate_every: u64,
    /// Held-out examples of the validation loss, at most.
    pub validation_examples: usize,
}

impl Default for TrainingSpec {
    fn default() -> Self {
        Self {
            steps: 20_000,
            later_steps: 20_000,
            batch: 128,
            parts: 1,
            recompute: false,
            precision: Precision::F32,
            learning_rate: 2e-4,
            later_rate: 1.,
            warm_up: 500,
            decay: Decay::Constant,
            first_decay: 0.9,
            second_decay: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.,
            clip: 1.,
            ema_half_life: 100_000.,
            ema_ramp_up: 0.05,
            ema_on: Keeping::Device,
            flip: false,
            weighting: Weighting::Uniform,
            checkpoint_every: 1_000,
            log_every: 50,
            validate_every: 500,
            validation_examples: 256,
        }
    }
}

impl TrainingSpec {
    /// # Errors
    /// [`TrainError::Spec`] names the first impossible field.
    pub fn validate(&self) -> Result<(), TrainError> {
        // What is smaller is nothing in the 32 bits of training.
        let positive = |field, value: f64| {
            let is_one = (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&value);
            require(field, is_one, "a positive number in 32 bits", value)
        };
        let at_least_zero = |field, value: f64| {
            require(field, value >= 0. && value.is_finite(), "a number, 0 or more", value)
        };
        let share = |field, value: f64| {
            require(field, (0. ..1.).contains(&value), "a number from 0 to below 1", value)
        };
        require("steps", self.steps > 0, "at least 1", self.steps)?;
        require("later_steps", self.later_steps > 0, "at least 1", self.later_steps)?;
        let batch = (1..=1 << 20).contains(&self.batch);
        require("batch", batch, "1 to 1048576", self.batch)?;
        let parts = (1..=self.batch).contains(&self.parts);
        require("parts", parts, "1 to training.batch", self.parts)?;
        require("learning_rate", self.learning_rate <= 1e3, "at most 1000", self.learning_rate)?;
        positive("learning_rate", self.learning_rate)?;
        positive("later_rate", self.later_rate)?;
        let later = self.learning_rate * self.later_rate;
        let is_rate = (f64::from(f32::MIN_POSITIVE)..=1e3).contains(&later);
        require(
            "later_rate",
            is_rate,
            "learning_rate times it a number up to 1000",
            self.later_rate,
        )?;
        for (field, value) in
            [("ema_half_life", self.ema_half_life), ("ema_ramp_up", self.ema_ramp_up)]
        {
            require(field, value <= 1e12, "at most 1e12", value)?;
        }
        let decay = self.learning_rate.max(later) * self.weight_decay;
        require(
            "weight_decay",
            decay <= 1.,
            "at most 1 over the learning rate",
            self.weight_decay,
        )?;
        // Beyond this, squares of gradients would not be numbers.
        require("clip", self.clip <= 1e18, "at most 1e18", self.clip)?;
        require(
            "checkpoint_every",
            self.checkpoint_every > 0,
            "at least 1",
            self.checkpoint_every,
        )?;
        require("log_every", self.log_every > 0, "at least 1", self.log_every)?;
        let longest = self.steps.max(self.later_steps);
        require("steps", longest <= u64::from(u32::MAX), "at most 4294967295", longest)?;
        positive("epsilon", self.epsilon)?;
        positive("clip", self.clip)?;
        at_least_zero("weight_decay", self.weight_decay)?;
        at_least_zero("ema_half_life", self.ema_half_life)?;
        positive("ema_ramp_up", self.ema_ramp_up)?;
        share("first_decay", self.first_decay)?;
        share("second_decay", self.second_decay)?;
        match self.weighting {
            Weighting::MinSnr(gamma) => positive("weighting.min-snr", gamma),
            Weighting::Uniform => Ok(()),
        }
    }

    /// Optimizer steps of task `number`, from 1.
    pub fn steps_of(&self, number: u32) -> u64 {
        if number <= 1 { self.steps } else { self.later_steps }
    }
}

fn require(
    field: &'static str,
    holds: bool,
    expected: &'static str,
    got: impl ToString,
) -> Result<(), TrainError> {
    if holds { Ok(()) } else { Err(TrainError::Spec { field, expected, got: got.to_string() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_fields_are_named() {
        let fault = |change: fn(&mut TrainingSpec)| {
            let mut spec = TrainingSpec::default();
            change(&mut spec);
            spec.validate().unwrap_err().to_string()
        };
        TrainingSpec::default().validate().unwrap();
        assert!(fault(|spec| spec.learning_rate = -1.).contains("training.learning_rate"));
        assert!(fault(|spec| spec.learning_rate = f64::NAN).contains("got NaN"));
        assert!(fault(|spec| spec.steps = 0).contains("training.steps: expected at least 1"));
        assert!(fault(|spec| spec.second_decay = 1.).contains("training.second_decay"));
        assert!(
            fault(|spec| spec.weighting = Weighting::MinSnr(0.))
                .contains("training.weighting.min-snr")
        );
    }
}
