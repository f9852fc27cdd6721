//! What a protocol's author should know before a run begins: nothing is wrong, and yet it may not be what was meant.

use crate::protocol::{LatentSpec, ProtocolSpec};
use candle_core::Device;
use lethe_train::{Precision, TrainingSpec};

/// Each in a line.
pub fn remarks(spec: &ProtocolSpec, classes: &[String], device: &Device) -> Vec<String> {
    let mut all: Vec<String> = warm_up(&spec.training).into_iter().collect();
    let says_class = |latent: &LatentSpec| {
        latent.templates.iter().flatten().any(|template| template.contains("{class}"))
    };
    let are_numbers = classes.iter().all(|name| name.parse::<u64>().is_ok());
    if are_numbers && spec.latent.as_ref().is_some_and(says_class) {
        all.push(
            "latent.templates: the classes of these data have numbers for names; data.classes gives them words".into(),
        );
    }
    if device.is_cpu() && spec.training.precision != Precision::F32 {
        all.push(
            "training.precision: shorter numbers save time and memory on a GPU; on a processor they do not".into(),
        );
    }
    all
}

/// Steps within the warm-up never reach the learning rate.
fn warm_up(training: &TrainingSpec) -> Option<String> {
    let TrainingSpec { warm_up, learning_rate, .. } = *training;
    let steps = training.steps.min(training.later_steps);
    if steps > warm_up {
        return None;
    }
    let share = steps as f64 / (warm_up + 1) as f64;
    Some(format!(
        "training.warm_up = {warm_up}: the learning rate rises over so many steps, and a task of {steps} reaches {:.1e} of {learning_rate:.1e}",
        share * learning_rate
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_that_never_ends_is_told() {
        let training = TrainingSpec { steps: 1000, later_steps: 499, ..TrainingSpec::default() };
        assert!(warm_up(&training).unwrap().contains("warm_up = 500"));
        assert_eq!(warm_up(&TrainingSpec { later_steps: 501, ..training }), None);
    }
}
