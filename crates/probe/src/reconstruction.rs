//! Reconstruction error: noise an example to a level, walk back, and see what is left of it.
//!
//! Law: R_t(x) = E_ε ‖D(α_t x + σ_t ε) − x‖² / d, D the deterministic DDIM walk from t to 0.
//! Its first network evaluation gives the denoising loss E_ε ‖ε − ε̂‖² / d of the same level for nothing.

use crate::{Examples, Reading};
use candle_core::{Result, Tensor};
use lethe_candlex::finite::ensure_finite;
use lethe_candlex::rng::{Seed, Stream};
use lethe_diffusion::denoiser::Denoiser;
use lethe_diffusion::objective::mean_squares;
use lethe_diffusion::parameterization::perturb;
use lethe_diffusion::sampler::{Ddim, Sampler, Stage, descent, walk};
use lethe_diffusion::schedule::Timestep;
use lethe_ledger::Quantity;

/// How reconstructions are made.
#[derive(Clone, Copy, Debug)]
pub struct Reconstruction {
    /// Network evaluations of one walk.
    pub stages: usize,
    /// Noises over which errors are averaged.
    pub draws: usize,
    /// Examples denoised at once.
    pub batch: usize,
    /// The seed of the noise: the same for every checkpoint.
    pub seed: Seed,
    /// The noise's stream: what is measured must not be chosen by the same noise.
    pub stream: &'static str,
}

/// What was found at one level.
#[derive(Debug)]
pub struct Reconstructed {
    /// Reconstruction error and denoising loss.
    pub readings: Vec<Reading>,
    /// The reconstructions from the first noise, [n, height, width, channels].
    pub images: Tensor,
}

impl Reconstruction {
    /// Measures every example at the level t/T = `level`.
    ///
    /// # Errors
    /// When shapes do not fit, or the denoiser gives a number that is not finite.
    pub fn measure(
        &self,
        denoiser: &dyn Denoiser,
        examples: &Examples,
        level: f64,
    ) -> Result<Reconstructed> {
        let timestep = denoiser.schedule().timestep_at(level);
        let stream = self.seed.task_stream(self.stream, timestep.0 as u32);
        let (mut errors, mut losses, mut images) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in examples.chunks(self.batch)? {
            let found = self.chunk(denoiser, &chunk, timestep, stream)?;
            errors.extend(found.0);
            losses.extend(found.1);
            images.push(found.2);
        }
        let reading = |quantity, values| Reading {
            quantity,
            level: Some(level),
            examples: examples.ids().to_vec(),
            values,
        };
        let readings = vec![
            reading(Quantity::ReconstructionError, errors),
            reading(Quantity::DenoisingLoss, losses),
        ];
        let images =
            if images.is_empty() { examples.pixels().clone() } else { Tensor::cat(&images, 0)? };
        Ok(Reconstructed { readings, images })
    }

    /// (errors, losses, images of the first draw) of one batch.
    fn chunk(
        &self,
        denoiser: &dyn Denoiser,
        examples: &Examples,
        timestep: Timestep,
        stream: Stream,
    ) -> Result<(Vec<f64>, Vec<f64>, Tensor)> {
        let clean = examples.pixels();
        let (mut errors, mut losses) = (vec![0.; examples.len()], vec![0.; examples.len()]);
        let mut image = None;
        for draw in 0..self.draws.max(1) {
            let noise =
                stream.normal(draw as u32, examples.ids(), &clean.dims()[1..], clean.device())?;
            let (predicted, walked) = self.walk(denoiser, examples, &noise, timestep)?;
            accumulate(&mut losses, &mean_squares(&(&predicted - &noise)?)?, self.draws);
            accumulate(&mut errors, &mean_squares(&(&walked - clean)?)?, self.draws);
            image.get_or_insert(walked);
        }
        Ok((errors, losses, image.expect("at least one draw was made")))
    }

    /// ε̂ at the start, and where the walk ends.
    fn walk(
        &self,
        denoiser: &dyn Denoiser,
        examples: &Examples,
        noise: &Tensor,
        timestep: Timestep,
    ) -> Result<(Tensor, Tensor)> {
        let (schedule, sampler) = (denoiser.schedule(), Ddim::default());
        let start = vec![timestep; examples.len()];
        let x = perturb(schedule, examples.pixels(), noise, &start)?;
        let predicted = denoiser.noise(&x, &start, examples.condition())?;
        ensure_finite("reconstruction: the predicted noise", &predicted)?;
        let timesteps = descent(timestep, self.stages);
        let alpha_bar_next = timesteps.get(1).map_or(1., |&next| schedule.alpha_bar(next));
        let x =
            sampler.step(schedule, Stage { timestep, alpha_bar_next }, &x, &predicted, noise)?;
        let walked = walk(&sampler, denoiser, &timesteps[1..], &x, examples.condition(), |_| {
            Ok(noise.clone())
        })?;
        ensure_finite("reconstruction", &walked)?;
        Ok((predicted, walked))
    }
}

fn accumulate(sums: &mut [f64], values: &[f64], draws: usize) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / draws.max(1) as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use lethe_diffusion::denoiser::ExactDenoiser;
    use lethe_diffusion::denoiser::Told;
    use lethe_diffusion::schedule::{NoiseSchedule, ScheduleSpec};

    fn examples(n: u64) -> Examples {
        let ids: Vec<u64> = (0..n).collect();
        let pixels = Seed(1).stream("pixels").normal(0, &ids, &[4, 4, 1], &Device::Cpu).unwrap();
        Examples::new(ids, pixels.clamp(-1., 1.).unwrap(), Told::Nothing).unwrap()
    }

    fn denoiser(stored: &Examples) -> ExactDenoiser {
        ExactDenoiser::new(stored.pixels(), NoiseSchedule::new(&ScheduleSpec::default()).unwrap())
            .unwrap()
    }

    const SETTING: Reconstruction = Reconstruction {
        stages: 20,
        draws: 2,
        batch: 3,
        seed: Seed(7),
        stream: "probe reconstruction",
    };

    #[test]
    fn what_is_stored_comes_back_and_what_is_not_does_not() {
        let all = examples(8);
        let [stored, strange]: [Examples; 2] = all.chunks(4).unwrap().try_into().unwrap();
        let denoiser = denoiser(&stored);
        let error = |examples: &Examples| {
            let found = SETTING.measure(&denoiser, examples, 0.1).unwrap();
            found.readings[0].values.iter().sum::<f64>() / 4.
        };
        assert!(error(&stored) <= 1e-3, "{}", error(&stored));
        assert!(error(&strange) >= 0.1, "{}", error(&strange));
    }

    #[test]
    fn readings_do_not_depend_on_the_batch() {
        let all = examples(7);
        let denoiser = denoiser(&all);
        let found =
            |batch| Reconstruction { batch, ..SETTING }.measure(&denoiser, &all, 0.3).unwrap();
        for (a, b) in found(2).readings.iter().zip(found(7).readings.iter()) {
            assert!(a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() <= 1e-6));
        }
    }

    #[test]
    fn the_denoising_loss_is_that_of_a_single_step() {
        let all = examples(5);
        let denoiser = denoiser(&all);
        let one = Reconstruction { draws: 1, ..SETTING };
        let found = one.measure(&denoiser, &all, 0.5).unwrap();
        let t = Timestep(500);
        let noise = SETTING.seed.task_stream("probe reconstruction", 500);
        let noise = noise.normal(0, all.ids(), &[4, 4, 1], &Device::Cpu).unwrap();
        let x = perturb(denoiser.schedule(), all.pixels(), &noise, &[t; 5]).unwrap();
        let predicted = denoiser.noise(&x, &[t; 5], all.condition()).unwrap();
        assert_eq!(found.readings[1].values, mean_squares(&(predicted - noise).unwrap()).unwrap());
    }
}
