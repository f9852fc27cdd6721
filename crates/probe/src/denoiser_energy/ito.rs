//! The energy along noising paths read backwards.
//!
//! Law: for y_{k+1} = y_k + √Δv·ξ, Δv = v_{k+1} − v_k, and any reverse kernels r(y_k | y_{k+1}),
//! E[log p_V(y_K) + Σ_k log r(y_k | y_{k+1}) − log N(y_{k+1}; y_k, Δv·I)] ≤ log p_{v₀}(y₀) of the model that walks back by r.
//! Here r = N(y_{k+1} + Δv·S(y_{k+1}, v_{k+1}), Δv·v_k/v_{k+1}·I), the ancestral step of Ho et al. 2020, eq. 7: its mean
//! is exact under an exact score, its variance for a point mass, of which every path tells the density exactly.
//!
//! Unlike the Itô density estimator (Skreta et al. 2024), Σ ⟨y_k − y_{k+1}, S⟩ − ½·‖S‖²·Δv, to which the same sum is equal
//! with the variance Δv, it does not lose d/4·Σ (Δ log v)² to the step: both are bounds at any step, and one integral in
//! the limit.

use super::subject::{Subject, dots, repeated};
use super::{Ascent, Energies, Ladder, Question};
use candle_core::{Result, bail};
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::Denoiser;

/// The estimator.
#[derive(Clone, Debug)]
pub struct ItoEnergy {
    /// Levels and the density at the last.
    pub ascent: Ascent,
    /// Paths for each point.
    pub paths: usize,
    /// Their seed.
    pub seed: Seed,
}

impl ItoEnergy {
    /// E of every point, too high in the mean; standard errors are over the paths.
    ///
    /// # Errors
    /// When shapes do not fit, or the denoiser gives a number that is not finite.
    pub fn measure(&self, denoiser: &dyn Denoiser, question: &Question) -> Result<Energies> {
        if self.paths == 0 {
            bail!("Ito energy: expected a path at least");
        }
        let subject = Subject::new(denoiser, question)?;
        let ladder = Ladder::new(denoiser.schedule(), question.start, self.ascent.stages)?;
        let mut y = repeated(subject.points(), self.paths)?;
        let mut log = vec![0.; y.dim(0)?];
        for (stage, (from, to)) in ladder.stages().enumerate() {
            let (before, after) = (from.variance, to.variance);
            let of_path = |path| self.seed.task_stream("energy ito", path as u32);
            let noise = subject.normal(self.paths, stage, of_path)?;
            let steps = (noise * (after - before).sqrt())?;
            y = (y + &steps)?;
            // y_k less the reverse kernel's mean: −√Δv·ξ + Δv·ε̂/√v.
            let back = (subject.noise(&y, to.timestep)? * ((after - before) / after.sqrt()))?;
            let missed = (back - &steps)?;
            let (missed, moved) = (dots(&missed, &missed)?, dots(&steps, &steps)?);
            let determinant = 0.5 * subject.dimensions() as f64 * (after / before).ln();
            for ((log, missed), moved) in log.iter_mut().zip(missed).zip(moved) {
                let exponent = moved - missed * after / before;
                *log += determinant + exponent / (2. * (after - before));
            }
        }
        let end = self.ascent.end.log(&y, ladder.last().variance)?;
        log.iter_mut().zip(end).for_each(|(log, end)| *log += end);
        let draws: Vec<Vec<f64>> = log.chunks(subject.count()).map(<[f64]>::to_vec).collect();
        let start = ladder.first().variance;
        Ok(Energies::of_log_densities(&draws, start, subject.dimensions()))
    }
}
