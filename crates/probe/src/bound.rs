//! The variational bound of each example under a denoiser, in bits per dimension.
//!
//! Law: see [`lethe_diffusion::variational`]; each stretch of the schedule is asked at one timestep with antithetic
//! noise, the same for every example's every visit, so that differences between checkpoints are not noise.

use crate::{Examples, Reading};
use candle_core::{DType, Result, Tensor};
use lethe_candlex::finite::ensure_finite;
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::Denoiser;
use lethe_diffusion::objective::mean_squares;
use lethe_diffusion::parameterization::perturb;
use lethe_diffusion::schedule::Timestep;
use lethe_diffusion::variational::{BoundGrid, decoder_term, prior_term};
use lethe_ledger::Quantity;

/// How bounds are taken.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Stretches into which the schedule is cut.
    pub points: usize,
    /// Pairs of noise and its opposite at each.
    pub pairs: usize,
    /// Examples denoised at once.
    pub batch: usize,
    /// The seed of the noise: the same for every checkpoint.
    pub seed: Seed,
}

impl Bound {
    /// Measures every example.
    ///
    /// # Errors
    /// When shapes do not fit, or the denoiser gives a number that is not finite.
    pub fn measure(&self, denoiser: &dyn Denoiser, examples: &Examples) -> Result<Reading> {
        let grid = BoundGrid::new(denoiser.schedule(), self.points);
        let mut values = Vec::with_capacity(examples.len());
        for chunk in examples.chunks(self.batch)? {
            values.extend(self.chunk(denoiser, &chunk, &grid)?);
        }
        Ok(Reading {
            quantity: Quantity::VariationalBound,
            level: None,
            examples: examples.ids().to_vec(),
            values,
        })
    }

    fn chunk(
        &self,
        denoiser: &dyn Denoiser,
        examples: &Examples,
        grid: &BoundGrid,
    ) -> Result<Vec<f64>> {
        let schedule = denoiser.schedule();
        let dimensions = examples.pixels().elem_count() / examples.len().max(1);
        let rows = examples.vectors()?.to_vec2::<f32>()?;
        let mut nats: Vec<f64> = rows.iter().map(|row| prior_term(schedule, row)).collect();
        for (&timestep, weight) in grid.timesteps.iter().zip(&grid.weights) {
            for (sum, loss) in nats.iter_mut().zip(self.noise_error(denoiser, examples, timestep)?)
            {
                *sum += 0.5 * weight * loss * dimensions as f64;
            }
        }
        for (sum, term) in nats.iter_mut().zip(self.decoder(denoiser, examples, &rows)?) {
            *sum += term;
        }
        Ok(nats
            .into_iter()
            .map(|nats| nats / (dimensions as f64 * std::f64::consts::LN_2))
            .collect())
    }

    /// mean_d (ε − ε̂)² over the pairs.
    fn noise_error(
        &self,
        denoiser: &dyn Denoiser,
        examples: &Examples,
        timestep: Timestep,
    ) -> Result<Vec<f64>> {
        let times = vec![timestep; examples.len()];
        let mut means = vec![0.; examples.len()];
        for noise in self.noises(examples, timestep)? {
            let x = perturb(denoiser.schedule(), examples.pixels(), &noise, &times)?;
            let predicted = denoiser.noise(&x, &times, examples.condition())?;
            ensure_finite("variational bound: the predicted noise", &predicted)?;
            let losses = mean_squares(&(predicted - &noise)?)?;
            means
                .iter_mut()
                .zip(losses)
                .for_each(|(mean, loss)| *mean += loss / (2 * self.pairs.max(1)) as f64);
        }
        Ok(means)
    }

    fn noises(&self, examples: &Examples, timestep: Timestep) -> Result<Vec<Tensor>> {
        let stream = self.seed.task_stream("probe bound", timestep.0 as u32);
        let pixels = examples.pixels();
        let mut noises = Vec::new();
        for pair in 0..self.pairs.max(1) {
            let noise =
                stream.normal(pair as u32, examples.ids(), &pixels.dims()[1..], pixels.device())?;
            noises.push(noise.neg()?);
            noises.push(noise);
        }
        Ok(noises)
    }

    /// −log p(x₀ | x at the first timestep), the variance being that timestep's β.
    fn decoder(
        &self,
        denoiser: &dyn Denoiser,
        examples: &Examples,
        rows: &[Vec<f32>],
    ) -> Result<Vec<f64>> {
        let first = Timestep(0);
        let times = vec![first; examples.len()];
        let variance = denoiser.schedule().beta(first);
        let mut means = vec![0.; rows.len()];
        for noise in self.noises(examples, first)? {
            let x = perturb(denoiser.schedule(), examples.pixels(), &noise, &times)?;
            let clean = denoiser.clean(&x, &times, examples.condition())?;
            let clean = clean.flatten_from(1)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
            for ((mean, row), clean) in means.iter_mut().zip(rows).zip(&clean) {
                *mean += decoder_term(row, clean, variance) / (2 * self.pairs.max(1)) as f64;
            }
        }
        Ok(means)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use lethe_diffusion::denoiser::ExactDenoiser;
    use lethe_diffusion::denoiser::Told;
    use lethe_diffusion::schedule::{NoiseSchedule, ScheduleSpec};

    /// Two images at the levels of 8-bit pixels; under the exact denoiser of both, each has probability ½.
    #[test]
    fn the_bound_of_a_known_density_is_close_and_above() {
        let levels = |salt: u8| {
            (0..64u8).map(move |i| {
                f32::from(i.wrapping_mul(37).wrapping_add(salt).wrapping_mul(11)) / 127.5 - 1.
            })
        };
        let pixels: Vec<f32> = levels(0).chain(levels(3)).collect();
        let pixels = Tensor::from_vec(pixels, (2, 8, 8, 1), &Device::Cpu).unwrap();
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        let denoiser = ExactDenoiser::new(&pixels, schedule).unwrap();
        let examples = Examples::new(vec![0, 1], pixels, Told::Nothing).unwrap();
        let bound = Bound { points: 999, pairs: 1, batch: 2, seed: Seed(1) };
        let bits = bound.measure(&denoiser, &examples).unwrap().values;
        // One bit an example, beside what the decoder's Gaussian loses even about the right mean.
        let rows = examples.vectors().unwrap().to_vec2::<f32>().unwrap();
        for (bits, row) in bits.iter().zip(&rows) {
            let lost = decoder_term(row, row, 1e-4) / (64. * std::f64::consts::LN_2);
            assert!((1. / 64. - 1e-3..=0.05).contains(&(bits - lost)), "{bits} {lost}");
        }
        let coarse = Bound { points: 64, ..bound }.measure(&denoiser, &examples).unwrap().values;
        assert!(
            coarse.iter().zip(&bits).all(|(a, b)| (a - b).abs() <= 0.05),
            "{coarse:?} {bits:?}"
        );
    }
}
