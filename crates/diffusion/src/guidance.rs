//! Classifier-free guidance: away from what the network says to no text, towards what it says to the text.

use crate::denoiser::{Condition, Denoiser};
use crate::schedule::{NoiseSchedule, Timestep};
use candle_core::{Result, Tensor};

/// Law: ε̂ = ε̂(x, ∅) + w · (ε̂(x, c) − ε̂(x, ∅)).
///
/// Source: Ho & Salimans 2022, in diffusers' convention: w = 1 is no guidance, and then ∅ is never asked.
pub struct Guided<'a, D: ?Sized> {
    /// What is guided.
    pub denoiser: &'a D,
    /// The embedding of no text, [1, tokens, channels].
    pub nothing: &'a Tensor,
    /// w.
    pub weight: f64,
}

impl<D: Denoiser + ?Sized> Denoiser for Guided<'_, D> {
    fn schedule(&self) -> &NoiseSchedule {
        self.denoiser.schedule()
    }

    fn noise(&self, x: &Tensor, timesteps: &[Timestep], condition: Condition) -> Result<Tensor> {
        let told = self.denoiser.noise(x, timesteps, condition)?;
        if self.weight == 1. {
            return Ok(told);
        }
        let of = vec![0; timesteps.len()];
        let nothing = Condition::Texts { embeddings: self.nothing, of: &of };
        let untold = self.denoiser.noise(x, timesteps, nothing)?;
        &untold + ((told - &untold)? * self.weight)?
    }
}
