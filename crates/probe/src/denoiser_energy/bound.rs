//! The energy from above, by denoising errors.
//!
//! Law: for y_v = y₀ + √(v − v₀)·ε and ∇log q = −ε/√(v − v₀), by Girsanov,
//! −log p_{v₀}(y₀) ≤ −E log p_V(y_V) + ½·∫ E[‖S‖² − 2·⟨S, ∇log q⟩] dv, with equality for the score of the density itself.
//! With S = (x̂₀ − y_v)/v and E‖ε‖² = d taken exactly, in β = 1/v, it is
//! −E log p_V(y_V) − d/2·(log V/v₀ + 1 − v₀/V) + ½·∫ E[‖y₀ − x̂₀‖² + 2·v₀·⟨ε, x̂₀ − y₀⟩/√(v − v₀)] dβ, β from 1/V to 1/v₀:
//! for v₀ = 0, where only the first term is left, Kingma et al. 2021, eq. 18.
//!
//! The expectation is over pairs ±ε, in which ⟨ε, y₀⟩ and the even part of x̂₀ cancel; β is summed by trapezoids, so that
//! the estimate is above up to their error of second order and its own standard error.

use super::ladder::Level;
use super::subject::{Subject, dots, repeated};
use super::{Ascent, Energies, Ladder, Question};
use candle_core::{Result, Tensor, bail};
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::Denoiser;

/// The least (v − v₀)/v₀: at the start itself the second term is a derivative, and this the square of its step.
const NEAR: f64 = 1e-4;

/// The estimator.
#[derive(Clone, Debug)]
pub struct BoundEnergy {
    /// Levels and the density at the last.
    pub ascent: Ascent,
    /// Pairs of noise and its opposite for each point at each level.
    pub pairs: usize,
    /// Their seed.
    pub seed: Seed,
}

impl BoundEnergy {
    /// E of every point, too high in the mean; standard errors are over the pairs.
    ///
    /// # Errors
    /// When shapes do not fit, or the denoiser gives a number that is not finite.
    pub fn measure(&self, denoiser: &dyn Denoiser, question: &Question) -> Result<Energies> {
        if self.pairs == 0 {
            bail!("bound energy: expected a pair at least");
        }
        let subject = Subject::new(denoiser, question)?;
        let ladder = Ladder::new(denoiser.schedule(), question.start, self.ascent.stages)?;
        let constant = self.constant(&subject, &ladder)?;
        let integrals = self.integrals(&subject, &ladder)?;
        let draw = |integrals: &[f64]| {
            constant.iter().zip(integrals).map(|(a, b)| a - 0.5 * b).collect::<Vec<f64>>()
        };
        let draws: Vec<Vec<f64>> = integrals.chunks(subject.count()).map(draw).collect();
        let start = ladder.first().variance;
        Ok(Energies::of_log_densities(&draws, start, subject.dimensions()))
    }

    /// E log p_V(y_V) + d/2·(log V/v₀ + 1 − v₀/V) of every point.
    fn constant(&self, subject: &Subject<dyn Denoiser + '_>, ladder: &Ladder) -> Result<Vec<f64>> {
        let (first, last) = (ladder.first().variance, ladder.last().variance);
        let half = 0.5 * subject.dimensions() as f64;
        let grown = half * ((last / first).ln() + 1. - first / last);
        let ends = self.ascent.end.expected_log(subject.points(), last - first, last)?;
        Ok(ends.into_iter().map(|end| end + grown).collect())
    }

    /// ∫ [‖y₀ − x̂₀‖² + 2·v₀·⟨ε, x̂₀ − y₀⟩/√(v − v₀)] dβ, pair by pair and point by point.
    fn integrals(&self, subject: &Subject<dyn Denoiser + '_>, ladder: &Ladder) -> Result<Vec<f64>> {
        let levels = ladder.levels();
        let beta: Vec<f64> = levels.iter().map(|level| 1. / level.variance).collect();
        let mut sums = vec![0.; self.pairs * subject.count()];
        for (k, &level) in levels.iter().enumerate() {
            let (before, after) = (k.saturating_sub(1), (k + 1).min(levels.len() - 1));
            let weight = 0.5 * (beta[before] - beta[after]);
            let noise = subject
                .normal(self.pairs, k, |pair| self.seed.task_stream("energy bound", pair as u32))?;
            let found = integrand(subject, ladder.first().variance, level, &noise)?;
            sums.iter_mut().zip(found).for_each(|(sum, value)| *sum += weight * value);
        }
        Ok(sums)
    }
}

/// The mean over ±`noise` [rows, d] of ‖y₀ − x̂₀‖² + 2·v₀·⟨ε, x̂₀ − y₀⟩/√(v − v₀), row by row.
fn integrand(
    subject: &Subject<dyn Denoiser + '_>,
    start: f64,
    level: Level,
    noise: &Tensor,
) -> Result<Vec<f64>> {
    let spread = (level.variance - start).max(NEAR * start).sqrt();
    let signed = Tensor::cat(&[noise, &noise.neg()?], 0)?;
    let points = repeated(subject.points(), signed.dim(0)? / subject.count())?;
    let moved = (&signed * spread)?;
    // x̂₀ − y₀ = y − √v·ε̂ − y₀.
    let predicted = subject.noise(&(points + &moved)?, level.timestep)?;
    let missed = (moved - (predicted * level.variance.sqrt())?)?;
    let (squares, along) = (dots(&missed, &missed)?, dots(&signed, &missed)?);
    let value = |row: usize| squares[row] + 2. * start * along[row] / spread;
    let rows = squares.len() / 2;
    Ok((0..rows).map(|row| 0.5 * (value(row) + value(row + rows))).collect())
}
