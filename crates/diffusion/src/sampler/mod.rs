//! The ways back from noise to data.
//!
//! A walk is a list of timesteps, falling, and a rule for one stage; network evaluations are its only cost.

mod ddim;
mod ddpm;

pub use ddim::Ddim;
pub use ddpm::{Ddpm, Variance};

use crate::denoiser::{Condition, Denoiser};
use crate::schedule::{NoiseSchedule, Timestep};
use candle_core::{Result, Tensor};

/// How a walk's timesteps are spread over the schedule's T.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spacing {
    /// Multiples of ⌊T/n⌋ from 0, plus an offset: diffusers' default.
    #[default]
    Leading,
    /// Evenly from 0 to T − 1.
    Linspace,
    /// Multiples of T/n down from T, minus 1.
    Trailing,
}

impl Spacing {
    /// n timesteps of T, falling; `offset` is added in [`Spacing::Leading`] only, as in diffusers.
    pub fn timesteps(self, total: usize, n: usize, offset: usize) -> Vec<Timestep> {
        let n = n.clamp(1, total);
        let at = |i: usize| match self {
            Self::Leading => (n - 1 - i) * (total / n) + offset,
            Self::Linspace => {
                round_half_even((total - 1) as f64 * (n - 1 - i) as f64 / (n - 1).max(1) as f64)
            }
            Self::Trailing => {
                round_half_even(total as f64 - i as f64 * total as f64 / n as f64) - 1
            }
        };
        (0..n).map(|i| Timestep(at(i).min(total - 1))).collect()
    }
}

/// numpy's rounding, which diffusers uses.
fn round_half_even(x: f64) -> usize {
    x.round_ties_even() as usize
}

/// `stages` timesteps from `from` down, evenly: the way back from a noise level in the middle.
pub fn descent(from: Timestep, stages: usize) -> Vec<Timestep> {
    let stages = stages.clamp(1, from.0 + 1);
    (0..stages).map(|i| Timestep(((from.0 + 1) * (stages - i)).div_ceil(stages) - 1)).collect()
}

/// One stage of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Where it stands.
    pub timestep: Timestep,
    /// Where it goes: ᾱ there; 1 is clean data.
    pub alpha_bar_next: f64,
}

/// A rule that takes x one stage back.
pub trait Sampler {
    /// x at the stage's end, from x at its beginning and ε̂ there; `noise` is fresh standard normal noise shaped as `x`.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn step(
        &self,
        schedule: &NoiseSchedule,
        stage: Stage,
        x: &Tensor,
        predicted: &Tensor,
        noise: &Tensor,
    ) -> Result<Tensor>;
}

/// Walks `x` [batch, ..] down `timesteps` to clean data.
///
/// `noise(i)`: the noise of stage i, shaped as `x`; a deterministic sampler never looks at it.
///
/// # Errors
/// When shapes do not fit.
pub fn walk(
    sampler: &impl Sampler,
    denoiser: &(impl Denoiser + ?Sized),
    timesteps: &[Timestep],
    x: &Tensor,
    condition: Condition,
    noise: impl Fn(usize) -> Result<Tensor>,
) -> Result<Tensor> {
    walk_to(1., sampler, denoiser, timesteps, x, condition, noise)
}

/// As [`walk`], the last stage going to ᾱ = `end`: Stable Diffusion's ends at the first timestep's, not at clean data
/// (diffusers' `set_alpha_to_one` = false).
///
/// # Errors
/// When shapes do not fit.
pub fn walk_to(
    end: f64,
    sampler: &impl Sampler,
    denoiser: &(impl Denoiser + ?Sized),
    timesteps: &[Timestep],
    x: &Tensor,
    condition: Condition,
    noise: impl Fn(usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let (schedule, batch) = (denoiser.schedule(), x.dim(0)?);
    let mut x = x.clone();
    for (i, &timestep) in timesteps.iter().enumerate() {
        let alpha_bar_next = timesteps.get(i + 1).map_or(end, |&next| schedule.alpha_bar(next));
        let predicted = denoiser.noise(&x, &vec![timestep; batch], condition)?;
        x = sampler.step(
            schedule,
            Stage { timestep, alpha_bar_next },
            &x,
            &predicted,
            &noise(i)?,
        )?;
    }
    Ok(x)
}

/// x̂₀ from ε̂, clipped to [−1, 1] where the process lives on pixels.
fn clean(
    schedule: &NoiseSchedule,
    t: Timestep,
    x: &Tensor,
    predicted: &Tensor,
    clip: bool,
) -> Result<Tensor> {
    let clean = ((x - (predicted * schedule.sigma(t))?)? / schedule.alpha(t))?;
    if clip { clean.clamp(-1., 1.) } else { Ok(clean) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descent_starts_where_it_should_and_never_stalls() {
        assert_eq!(descent(Timestep(300), 3), [Timestep(300), Timestep(200), Timestep(100)]);
        for (from, stages) in [(0, 5), (3, 10), (299, 25), (999, 50)] {
            let walk = descent(Timestep(from), stages);
            assert_eq!(walk[0], Timestep(from));
            assert!(walk.windows(2).all(|pair| pair[1] < pair[0]), "{from} {stages}");
        }
    }
}
