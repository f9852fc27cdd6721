//! DDPM: ancestral sampling.

use super::{Sampler, Stage, clean};
use crate::schedule::NoiseSchedule;
use candle_core::{Result, Tensor};

/// The variance of the reverse step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variance {
    /// β̃ = (1 − ᾱ') / (1 − ᾱ) · β, the posterior's: diffusers' "fixed_small".
    #[default]
    Small,
    /// β: diffusers' "fixed_large".
    Large,
}

/// Law: x' = (√ᾱ'·β·x̂₀ + √α·(1 − ᾱ')·x) / (1 − ᾱ) + √variance·z, with α = ᾱ / ᾱ', β = 1 − α; no noise on the last stage.
///
/// Source: Ho et al. 2020, eq. 6, 7 and 11.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ddpm {
    /// The variance of the reverse step.
    pub variance: Variance,
    /// Whether x̂₀ is held within [−1, 1].
    pub clip: bool,
}

impl Sampler for Ddpm {
    fn step(
        &self,
        schedule: &NoiseSchedule,
        stage: Stage,
        x: &Tensor,
        predicted: &Tensor,
        noise: &Tensor,
    ) -> Result<Tensor> {
        let (here, next) = (schedule.alpha_bar(stage.timestep), stage.alpha_bar_next);
        let (alpha, beta) = (here / next, 1. - here / next);
        let clean = clean(schedule, stage.timestep, x, predicted, self.clip)?;
        let (from_clean, from_x) =
            (next.sqrt() * beta / (1. - here), alpha.sqrt() * (1. - next) / (1. - here));
        let mean = ((clean * from_clean)? + (x * from_x)?)?;
        if stage.timestep.0 == 0 {
            return Ok(mean);
        }
        let variance = match self.variance {
            Variance::Small => ((1. - next) / (1. - here) * beta).max(1e-20),
            Variance::Large => beta,
        };
        mean + (noise * variance.sqrt())?
    }
}
