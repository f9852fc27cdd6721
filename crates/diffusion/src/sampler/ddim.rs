//! DDIM: the deterministic way back, and its noisy relatives.

use super::{Sampler, Stage, clean};
use crate::schedule::NoiseSchedule;
use candle_core::{Result, Tensor};

/// Law: x' = √ᾱ'·x̂₀ + √(1 − ᾱ' − s²)·ε̂ + s·z, s = η·√((1 − ᾱ') / (1 − ᾱ) · (1 − ᾱ / ᾱ')).
///
/// Source: Song et al. 2021, eq. 12 and 16. As in diffusers, ε̂ is not recomputed when x̂₀ is clipped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ddim {
    /// η: 0 is deterministic.
    pub eta: f64,
    /// Whether x̂₀ is held within [−1, 1].
    pub clip: bool,
}

impl Sampler for Ddim {
    fn step(
        &self,
        schedule: &NoiseSchedule,
        stage: Stage,
        x: &Tensor,
        predicted: &Tensor,
        noise: &Tensor,
    ) -> Result<Tensor> {
        let (here, next) = (schedule.alpha_bar(stage.timestep), stage.alpha_bar_next);
        let deviation = self.eta * ((1. - next) / (1. - here) * (1. - here / next)).max(0.).sqrt();
        let clean = clean(schedule, stage.timestep, x, predicted, self.clip)?;
        let direction = (predicted * (1. - next - deviation * deviation).max(0.).sqrt())?;
        let x = ((clean * next.sqrt())? + direction)?;
        if deviation == 0. { Ok(x) } else { x + (noise * deviation)? }
    }
}
