//! The learning rate over a task: a linear rise, then a fall.

use crate::TrainingSpec;
use serde::{Deserialize, Serialize};

/// How the learning rate falls after its rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Not at all.
    #[default]
    Constant,
    /// Linearly to 0 at the last step.
    Linear,
    /// Along half a cosine to 0 at the last step.
    Cosine,
}

/// η of optimizer step `step` (from 0) of task `task` (from 1), which has `steps` steps.
pub(crate) fn rate(spec: &TrainingSpec, task: u32, step: u64, steps: u64) -> f64 {
    let height = spec.learning_rate * if task > 1 { spec.later_rate } else { 1. };
    let rise = ((step + 1) as f64 / (spec.warm_up + 1) as f64).min(1.);
    let after =
        step.saturating_sub(spec.warm_up) as f64 / steps.saturating_sub(spec.warm_up).max(1) as f64;
    let fall = match spec.decay {
        Decay::Constant => 1.,
        Decay::Linear => 1. - after,
        // libm, so that every machine computes the same bits.
        Decay::Cosine => 0.5 * (1. + libm::cos(std::f64::consts::PI * after)),
    };
    height * rise * fall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let spec = TrainingSpec {
            learning_rate: 1.,
            warm_up: 9,
            decay: Decay::Cosine,
            later_rate: 0.5,
            ..Default::default()
        };
        let at = |step| rate(&spec, 1, step, 109);
        assert!((at(0) - 0.1).abs() <= 1e-15 && (at(9) - 1.).abs() <= 1e-15);
        assert!((at(59) - 0.5).abs() <= 1e-12 && at(108) <= 1e-3 && at(108) > 0.);
        assert!((rate(&spec, 2, 9, 109) - 0.5).abs() <= 1e-15);
        let linear = TrainingSpec { decay: Decay::Linear, ..spec.clone() };
        assert!((rate(&linear, 1, 59, 109) - 0.5).abs() <= 1e-12);
        let constant = TrainingSpec { decay: Decay::Constant, warm_up: 0, ..spec };
        assert!((0..109).all(|step| rate(&constant, 1, step, 109) == 1.));
    }
}
