//! Where training stands: what a checkpoint holds besides tensors.

use lethe_diffusion::schedule::Timestep;
use serde::{Deserialize, Serialize};

/// Position within one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Optimizer steps taken in this task.
    pub step: u64,
    /// Images seen in this task.
    pub images_seen: u64,
    /// Losses since the last line of the training log.
    pub window: Window,
}

/// Running sums of what the next line of the training log averages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    steps: u64,
    loss: f64,
    gradient_norm: f64,
    quartile_losses: [f64; 4],
    quartile_counts: [u64; 4],
}

impl Window {
    /// Adds one step: weighted loss, gradient norm, and each example's own loss at its timestep of `total`.
    pub fn add(
        &mut self,
        loss: f64,
        gradient_norm: f64,
        examples: &[f64],
        timesteps: &[Timestep],
        total: usize,
    ) {
        self.steps += 1;
        self.loss += loss;
        self.gradient_norm += gradient_norm;
        for (loss, t) in examples.iter().zip(timesteps) {
            let quartile = (4 * t.0 / total.max(1)).min(3);
            self.quartile_losses[quartile] += loss;
            self.quartile_counts[quartile] += 1;
        }
    }

    /// (mean loss, mean gradient norm, mean loss per quarter of the timesteps), and an empty window again.
    pub fn take(&mut self) -> (f64, f64, [Option<f64>; 4]) {
        let window = std::mem::take(self);
        let n = window.steps.max(1) as f64;
        let quartile = |k: usize| {
            let count = window.quartile_counts[k];
            (count > 0).then(|| window.quartile_losses[k] / count as f64)
        };
        (window.loss / n, window.gradient_norm / n, std::array::from_fn(quartile))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_are_averaged_by_their_own_counts() {
        let mut window = Window::default();
        window.add(2., 10., &[1., 3., 5.], &[Timestep(0), Timestep(249), Timestep(999)], 1000);
        window.add(4., 20., &[7.], &[Timestep(250)], 1000);
        assert_eq!(window.take(), (3., 15., [Some(2.), Some(7.), None, Some(5.)]));
        assert_eq!(window, Window::default());
    }
}
