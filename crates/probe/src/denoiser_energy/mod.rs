//! Energies read from a denoiser: what a network has learned, in the units of the Hopfield network.
//!
//! In y = x/α_t and v = σ_t²/α_t² = 1/SNR(t) every variance-preserving process is Brownian motion in the "time" v,
//! y_v = y + √v·ε, with densities p_v and scores S(y, v) = ∇_y log p_v = −ε̂/√v = (x̂₀ − y)/v.
//! Law: E(y) = −v₀·(log p_{v₀}(y) + d/2·log 2πv₀) at a starting level v₀ = 1/β: under the exact denoiser of a pattern
//! set this is the distance form of the kernel `hopfield_energy` at the inverse temperature β, constants included.
//!
//! | estimator | log p_{v₀} | network evaluations |
//! |---|---|---|
//! | [`BoundEnergy`] | from below, by denoising errors; Kingma et al. 2021, eq. 18 | 2·pairs a level |
//! | [`FlowEnergy`] | along the probability flow; Song et al. 2021, appendix D.2 | 1 and one pullback for each probe a level |
//! | [`ItoEnergy`] | from below, along noising paths; Skreta et al. 2024 in discrete steps | 1 for each path a level |
//! | [`LineEnergy`] | differences, as the score's work along a line | 1 a node |
//!
//! The first three climb a [`Ladder`] of levels to the last, where the density is known ([`FinalDensity`]).
//! All noise is a function of (seed, place of the point): every checkpoint is asked the same question, and the rise of
//! an energy between two checkpoints is not noise.
//! Classes are not told: the denoiser is asked unconditionally.

mod bound;
mod flow;
mod ito;
mod ladder;
mod line;
mod subject;
#[cfg(test)]
mod tests;

pub use bound::BoundEnergy;
pub use flow::{Divergence, FlowEnergy};
pub use ito::ItoEnergy;
pub use ladder::{Ascent, FinalDensity, Ladder};
pub use line::{LineEnergy, Lines};

use candle_core::Tensor;
use lethe_diffusion::schedule::Timestep;

/// What every estimator is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// y: [n, ..data], in the data's own units; the denoiser is asked in their dtype.
    pub points: &'a Tensor,
    /// The level at which the energy is read; 1/v₀ = SNR there is the inverse temperature.
    pub start: Timestep,
    /// Rows denoised at once.
    pub batch: usize,
}

/// Energies of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Energies {
    /// E of each point, in the unit of ‖y‖².
    pub values: Vec<f64>,
    /// Standard error of each over the estimator's own draws; `None` where there is one draw or none.
    pub standard_errors: Option<Vec<f64>>,
}

/// −v₀·(log p + d/2·log 2πv₀).
pub fn energy_of(log_density: f64, variance: f64, dimensions: usize) -> f64 {
    -variance * (log_density + 0.5 * dimensions as f64 * (std::f64::consts::TAU * variance).ln())
}

impl Energies {
    /// From log p_{v₀} of each draw and point, `[draw][point]`; at least one draw.
    fn of_log_densities(draws: &[Vec<f64>], variance: f64, dimensions: usize) -> Self {
        let n = draws.len() as f64;
        let over_draws = |point: usize| draws.iter().map(move |draw| draw[point]);
        let points = 0..draws.first().map_or(0, Vec::len);
        let means: Vec<f64> =
            points.clone().map(|point| over_draws(point).sum::<f64>() / n).collect();
        let error = |point: usize| {
            let squares: f64 = over_draws(point).map(|x| (x - means[point]).powi(2)).sum();
            variance * (squares / (n * (n - 1.))).sqrt()
        };
        Self {
            values: means.iter().map(|&mean| energy_of(mean, variance, dimensions)).collect(),
            standard_errors: (draws.len() > 1).then(|| points.map(error).collect()),
        }
    }
}
