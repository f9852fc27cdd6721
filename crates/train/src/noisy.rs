//! One batch as the network sees it: noise, timesteps and mirrors drawn.

use crate::TrainError;
use crate::pixels::{mirrored, sample_keys};
use crate::trainer::Job;
use candle_core::Tensor;
use lethe_continual::Batch;
use lethe_diffusion::denoiser::Told;
use lethe_diffusion::parameterization::perturb;
use lethe_diffusion::schedule::Timestep;

#[derive(Debug)]
pub(crate) struct Noisy {
    pub ids: Vec<u64>,
    /// What each place's randomness is drawn by.
    pub keys: Vec<u64>,
    pub told: Told,
    pub timesteps: Vec<Timestep>,
    /// [n, …]
    pub x: Tensor,
    /// [n, …]
    pub target: Tensor,
    step: u32,
}

impl Noisy {
    /// `batch` at `step`: a function of both and of the job alone.
    ///
    /// # Errors
    /// When an example is not in the data, or the device refuses.
    pub fn draw<N>(job: &Job<'_, N>, batch: &Batch, step: u32) -> Result<Self, TrainError> {
        let ids: Vec<u64> = batch.ids().map(|id| id.0).collect();
        let keys = sample_keys(&ids);
        let stream = |name| job.seed.task_stream(name, job.task);
        let mirrored = match job.spec.flip {
            true => mirrored(stream("flip"), step, &keys),
            false => Vec::new(),
        };
        let total = job.process.schedule.timesteps() as u32;
        let draw = |&key: &u64| Timestep(stream("timestep").at(step, key).below(total) as usize);
        let timesteps: Vec<Timestep> = keys.iter().map(draw).collect();
        let mut clean = job.inputs.clean(&ids, &mirrored)?;
        let draw = |name| stream(name).normal(step, &keys, &clean.dims()[1..], clean.device());
        let noise = draw("noise")?;
        if let Some(deviation) = job.inputs.deviation(&ids)? {
            clean = (&clean + (deviation * draw("posterior")?)?)?;
        }
        let told = job.inputs.told(&ids)?;
        let schedule = &job.process.schedule;
        let x = perturb(schedule, &clean, &noise, &timesteps)?;
        let target = job.process.parameterization.target(schedule, &clean, &noise, &timesteps)?;
        Ok(Self { ids, keys, told, timesteps, x, target, step })
    }

    /// Whether it is what `batch` is at `step`.
    pub fn is_of(&self, batch: &Batch, step: u32) -> bool {
        self.step == step && self.ids.iter().copied().eq(batch.ids().map(|id| id.0))
    }
}
