//! The energy along the probability flow.
//!
//! Law: dy/dv = −S/2 carries p_v, and d log p/dv = ½·div S along it, so that
//! log p_{v₀}(y₀) = log p_V(y_V) + ½·∫ σ·div_x ε̂ d(log v), as div S = −α·div_x ε̂/√v and √v = σ/α.
//! Source: Song et al. 2021, appendix D.2; the divergence by Hutchinson 1990, or exactly for small d.
//!
//! Unlike there the path is followed in √v, where dy = ε̂·d√v is straight for a point mass, by Heun's rule
//! (Karras et al. 2022, algorithm 1), and the divergence is summed by trapezoids in log v: both of second order.

use super::ladder::Level;
use super::subject::{Subject, dots, repeated};
use super::{Ascent, Energies, Ladder, Question};
use candle_core::{Result, Tensor, bail};
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::{Denoiser, DifferentiableDenoiser};

/// How div_x ε̂ = tr J is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// Σ_k e_kᵀ·J·e_k over all d directions: for small d.
    Exact,
    /// Mean of zᵀ·J·z over Rademacher probes z, each the same from the first level to the last.
    Hutchinson {
        /// Probes for each point.
        probes: usize,
        /// Their seed.
        seed: Seed,
    },
}

/// The estimator.
#[derive(Clone, Debug)]
pub struct FlowEnergy {
    /// Levels and the density at the last.
    pub ascent: Ascent,
    /// How divergences are taken.
    pub divergence: Divergence,
}

impl FlowEnergy {
    /// E of every point; standard errors are over the probes.
    ///
    /// # Errors
    /// When shapes do not fit, or the denoiser gives a number that is not finite.
    pub fn measure(
        &self,
        denoiser: &dyn DifferentiableDenoiser,
        question: &Question,
    ) -> Result<Energies> {
        let subject = Subject::new(denoiser, question)?;
        let ladder = Ladder::new(denoiser.schedule(), question.start, self.ascent.stages)?;
        let probes = self.divergence.probes(&subject)?;
        let mut y = subject.points().clone();
        let (mut noise, mut here) = self.divergences(&subject, &y, ladder.first(), &probes)?;
        let mut grown = vec![vec![0.; subject.count()]; here.len()];
        for (from, to) in ladder.stages() {
            let step = to.variance.sqrt() - from.variance.sqrt();
            let ahead = subject.noise(&(&y + (&noise * step)?)?, to.timestep)?;
            y = (y + ((noise + ahead)? * (0.5 * step))?)?;
            let found = self.divergences(&subject, &y, to, &probes)?;
            let weight = 0.25 * (to.variance / from.variance).ln();
            add_trapezoids(&mut grown, &here, &found.1, weight);
            (noise, here) = found;
        }
        let end = self.ascent.end.log(&y, ladder.last().variance)?;
        for draw in &mut grown {
            draw.iter_mut().zip(&end).for_each(|(log, end)| *log += end);
        }
        let start = ladder.first().variance;
        Ok(Energies::of_log_densities(&grown, start, subject.dimensions()))
    }

    /// ε̂ at y, and σ·div_x ε̂ as `[draw][point]`.
    fn divergences(
        &self,
        subject: &Subject<dyn DifferentiableDenoiser + '_>,
        y: &Tensor,
        level: Level,
        probes: &Tensor,
    ) -> Result<(Tensor, Vec<Vec<f64>>)> {
        let n = subject.count();
        let rows = repeated(y, probes.dim(0)? / n)?;
        let (noise, pullback) = subject.noise_and_pullback(&rows, level.timestep, probes)?;
        let products: Vec<f64> =
            dots(probes, &pullback)?.iter().map(|product| level.sigma() * product).collect();
        let by_probe = products.chunks(n).map(<[f64]>::to_vec);
        let draws = match self.divergence {
            Divergence::Hutchinson { .. } => by_probe.collect(),
            Divergence::Exact => {
                let mut trace = vec![0.; n];
                by_probe.for_each(|part| trace.iter_mut().zip(part).for_each(|(t, p)| *t += p));
                vec![trace]
            }
        };
        Ok((noise.narrow(0, 0, n)?, draws))
    }
}

impl Divergence {
    /// Directions for every point, [probes·n, d]: probe by probe, point by point.
    fn probes<D: Denoiser + ?Sized>(self, subject: &Subject<D>) -> Result<Tensor> {
        let (n, d) = (subject.count(), subject.dimensions());
        let values: Vec<f64> = match self {
            Self::Exact => (0..d * n * d)
                .map(|place| if place / (n * d) == place % d { 1. } else { 0. })
                .collect(),
            Self::Hutchinson { probes: 0, .. } => bail!("flow energy: expected a probe at least"),
            Self::Hutchinson { probes, seed } => {
                let stream = seed.stream("energy flow");
                let row = |place: usize| {
                    let mut draws = stream.at((place / n) as u32, (place % n) as u64);
                    (0..d).map(move |_| if draws.bits32() & 1 == 0 { -1. } else { 1. })
                };
                (0..probes * n).flat_map(row).collect()
            }
        };
        let rows = values.len() / d;
        Tensor::from_vec(values, (rows, d), subject.points().device())
    }
}

/// sums += weight·(here + there), draw by draw and point by point.
fn add_trapezoids(sums: &mut [Vec<f64>], here: &[Vec<f64>], there: &[Vec<f64>], weight: f64) {
    for ((sums, here), there) in sums.iter_mut().zip(here).zip(there) {
        for ((sum, here), there) in sums.iter_mut().zip(here).zip(there) {
            *sum += weight * (here + there);
        }
    }
}
