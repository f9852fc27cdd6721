//! One task's optimization.
//!
//! Everything random in step s is a function of (seed, task, s, example): the arm, the machine's history and the order
//! of work change nothing. A step either happens whole or, where a number is not finite, not at all.

use crate::error::TrainError;
use crate::learning_rate::rate;
use crate::noisy::Noisy;
use crate::optimizer::{Optimizer, gathered};
use crate::pixels::Inputs;
use crate::spec::{Keeping, Precision, TrainingSpec};
use crate::state::Position;
use crate::validation::validation_loss;
use candle_core::{DType, Device, Tensor};
use lethe_candlex::finite::ensure_finite;
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::{Seed, StepKey};
use lethe_candlex::tape::{Gradients, Tape, Value};
use lethe_continual::Batch;
use lethe_diffusion::denoiser::{Network, Pass};
use lethe_diffusion::objective::{DenoisingLoss, PendingLoss, Weighting};
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::schedule::NoiseSchedule;
use lethe_kernels::adamw::AdamW;
use lethe_kernels::ema::{lerp, norm};
use lethe_kernels::tf32::Tf32;
use lethe_ledger::TrainingRecord;
use std::ops::Range;
use std::sync::Arc;

/// The diffusion process that is learned.
#[derive(Clone, Debug)]
pub struct Process {
    /// Noise levels.
    pub schedule: NoiseSchedule,
    /// What the network predicts.
    pub parameterization: Parameterization,
    /// w(t).
    pub weighting: Weighting,
}

/// What a task's training is made of, besides numbers that move.
#[derive(Debug)]
pub struct Job<'a, N> {
    /// Structure of the network.
    pub network: &'a N,
    /// What is learned.
    pub process: &'a Process,
    /// The data.
    pub inputs: &'a dyn Inputs,
    /// How it is learned.
    pub spec: &'a TrainingSpec,
    /// The run's seed.
    pub seed: Seed,
    /// Number of the task, from 1.
    pub task: u32,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Weighted mean loss of the batch.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// η.
    pub learning_rate: f64,
}

/// The numbers that move.
#[derive(Debug)]
pub struct Trainer<'a, N> {
    job: Job<'a, N>,
    store: ParamStore,
    average: ParamStore,
    optimizer: Optimizer,
    position: Position,
    /// What the weights lie over, in the numbers of the forward pass, where those are others.
    rounded_base: Option<Arc<ParamStore>>,
    /// The batch of the next step, where it was made ready.
    ahead: Option<Noisy>,
}

/// Loss of a batch, or of a part of it.
struct Loss {
    /// Weighted mean.
    mean: f64,
    /// Each example's own.
    per_example: Vec<f64>,
}

/// What a batch was found to be.
struct Found {
    /// Weighted mean loss.
    loss: f64,
    /// Each example's own.
    per_example: Vec<f64>,
    /// [n_elements].
    gradient: Tensor,
    /// Of the gradient.
    norm: f64,
}

impl<'a, N: Network> Trainer<'a, N> {
    /// Starts a task from `store`, with a fresh optimizer and a fresh average.
    ///
    /// # Errors
    /// When the device refuses the tensors.
    pub fn start(job: Job<'a, N>, store: ParamStore) -> Result<Self, TrainError> {
        let average = store.duplicate_on(average_device(job.spec, &store))?;
        let optimizer = Optimizer::new(&store)?;
        Self::resumed(job, store, average, optimizer, Position::default())
    }

    /// Goes on where an earlier trainer stood.
    ///
    /// # Errors
    /// When the device refuses the tensors.
    pub fn resumed(
        job: Job<'a, N>,
        store: ParamStore,
        average: ParamStore,
        optimizer: Optimizer,
        position: Position,
    ) -> Result<Self, TrainError> {
        let home = average_device(job.spec, &store);
        let is_home = home.same_device(average.flat().device());
        let average = if is_home { average } else { average.duplicate_on(home)? };
        let rounded_base = match (job.spec.precision, store.base()) {
            (Precision::Bf16, Some(base)) => Some(Arc::new(base.rounded(DType::BF16, None)?)),
            _ => None,
        };
        Ok(Self { job, store, average, optimizer, position, rounded_base, ahead: None })
    }

    /// The weights that move.
    pub fn weights(&self) -> &ParamStore {
        &self.store
    }

    /// What the task leaves, where it is kept: the moving average of the weights, or the weights where there is none.
    pub fn result(&self) -> &ParamStore {
        if self.job.spec.ema_half_life > 0. { &self.average } else { &self.store }
    }

    /// `f` of what the task leaves, on the device that trains; a copy for the time being, where it is kept elsewhere.
    ///
    /// # Errors
    /// When the device refuses the copy.
    pub fn with_result<R>(&self, f: impl FnOnce(&ParamStore) -> R) -> Result<R, TrainError> {
        let (result, device) = (self.result(), self.store.flat().device());
        if result.flat().device().same_device(device) {
            return Ok(f(result));
        }
        Ok(f(&result.duplicate_on(device)?))
    }

    /// The average, whether or not it is the result.
    pub fn average(&self) -> &ParamStore {
        &self.average
    }

    /// The optimizer's state.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Where the task stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Steps of the task in all.
    pub fn steps(&self) -> u64 {
        self.job.spec.steps_of(self.job.task)
    }

    /// One optimizer step on `batch`.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] when a loss or the gradient is not finite, [`TrainError::NoGradient`] when a trainable
    /// parameter receives none; nothing has moved then.
    pub fn step(&mut self, batch: &Batch) -> Result<StepReport, TrainError> {
        self.step_before(batch, None)
    }

    /// The same; while a device computes, the host makes ready the batch that is `next`.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_before(
        &mut self,
        batch: &Batch,
        next: Option<&Batch>,
    ) -> Result<StepReport, TrainError> {
        let step = self.position.step as u32;
        let noisy = match self.ahead.take().filter(|ahead| ahead.is_of(batch, step)) {
            Some(ahead) => ahead,
            None => Noisy::draw(&self.job, batch, step)?,
        };
        // What fails ahead of its step fails again in it, where it belongs.
        let ahead = || Noisy::draw(&self.job, next?, step + 1).ok();
        let (Found { loss, per_example, gradient, norm }, ahead) = self.found(&noisy, ahead)?;
        self.ahead = ahead;
        if !norm.is_finite() {
            return Err(self.diverged("the gradient", &noisy, |_| true));
        }
        let learning_rate = rate(self.job.spec, self.job.task, self.position.step, self.steps());
        let law = self.law(learning_rate);
        self.optimizer.step(&law, &self.store, &gradient, norm, self.job.spec.clip)?;
        drop(gradient);
        let total = self.job.process.schedule.timesteps();
        self.position.window.add(loss, norm, &per_example, &noisy.timesteps, total);
        self.position.step += 1;
        self.position.images_seen += noisy.ids.len() as u64;
        self.update_average(noisy.ids.len())?;
        Ok(StepReport { loss, gradient_norm: norm, learning_rate })
    }

    fn law(&self, learning_rate: f64) -> AdamW {
        let TrainingSpec { first_decay, second_decay, epsilon, weight_decay, .. } = *self.job.spec;
        AdamW { learning_rate, first_decay, second_decay, epsilon, weight_decay }
    }

    /// Loss and gradient of the batch, part after part where the protocol cuts it; what comes of `meanwhile`, which is
    /// asked once the first part is queued.
    fn found<T>(
        &self,
        noisy: &Noisy,
        meanwhile: impl FnOnce() -> Option<T>,
    ) -> Result<(Found, Option<T>), TrainError> {
        let n = noisy.ids.len();
        let each = n.div_ceil(self.job.spec.parts.max(1) as usize).max(1);
        let (mut loss, gradient, found) = self.part(noisy, 0..each.min(n), meanwhile)?;
        for start in (each..n).step_by(each) {
            let range = start..(start + each).min(n);
            // A mean over what has been seen so far moves by this share of the distance to what comes.
            let weight = range.len() as f64 / range.end as f64;
            let (part, own, _) = self.part(noisy, range, || None::<T>)?;
            lerp(&gradient, &own, weight, 1.)?;
            loss.mean += weight * (part.mean - loss.mean);
            loss.per_example.extend(part.per_example);
        }
        let norm = norm(&gradient)?;
        let Loss { mean, per_example } = loss;
        Ok((Found { loss: mean, per_example, gradient, norm }, found))
    }

    /// A device's work is all in its stream, and `meanwhile` done, before the host waits for the loss.
    fn part<T>(
        &self,
        noisy: &Noisy,
        range: Range<usize>,
        meanwhile: impl FnOnce() -> Option<T>,
    ) -> Result<(Loss, Tensor, Option<T>), TrainError> {
        let (pending, weights, gradients) = self.gradients(noisy, range.clone())?;
        let gradient = gathered(&self.store, gradients)?;
        let found = meanwhile();
        let DenoisingLoss { mean, per_example, .. } = pending.read(&weights)?;
        if !mean.is_finite() {
            let is_culprit =
                |i: usize| range.contains(&i) && !per_example[i - range.start].is_finite();
            return Err(self.diverged("the loss", noisy, is_culprit));
        }
        Ok((Loss { mean, per_example }, gradient, found))
    }

    fn gradients(
        &self,
        noisy: &Noisy,
        range: Range<usize>,
    ) -> Result<(PendingLoss, Vec<f64>, Gradients), TrainError> {
        let job = &self.job;
        let key = StepKey {
            seed: job.seed,
            task: job.task,
            step: self.position.step as u32,
            examples: &noisy.keys[range.clone()],
        };
        let condition = noisy.told.condition();
        let pass = Pass {
            condition: condition.of(range.clone()),
            dropout: Some(key),
            recomputes: job.spec.recompute,
        };
        let _products = Tf32::held(job.spec.precision == Precision::Tf32);
        let working = match job.spec.precision {
            Precision::F32 | Precision::Tf32 => None,
            Precision::Bf16 => Some(self.store.rounded(DType::BF16, self.rounded_base.clone())?),
        };
        let store = working.as_ref().unwrap_or(&self.store);
        let tape = Tape::recording(store);
        let timesteps = &noisy.timesteps[range.clone()];
        let levels: Vec<f64> = timesteps.iter().map(|t| t.0 as f64).collect();
        let own = |t: &Tensor| t.narrow(0, range.start, range.len());
        let x = own(&noisy.x)?.to_dtype(store.flat().dtype())?;
        let output = job.network.forward(&tape, &Value::constant(x), &levels, &pass)?;
        let found = output.tensor().to_dtype(noisy.target.dtype())?;
        let Process { schedule, parameterization, weighting } = job.process;
        let weights: Vec<f64> =
            timesteps.iter().map(|&t| weighting.weight(schedule, *parameterization, t)).collect();
        let loss = PendingLoss::new(&found, &own(&noisy.target)?, &weights)?;
        let slope = loss.gradient.to_dtype(output.tensor().dtype())?;
        let gradients = tape.backward(&output, slope)?;
        Ok((loss, weights, gradients))
    }

    fn diverged(
        &self,
        what: &'static str,
        noisy: &Noisy,
        is_culprit: impl Fn(usize) -> bool,
    ) -> TrainError {
        let culprits = (0..noisy.ids.len()).filter(|&i| is_culprit(i));
        let examples = culprits.map(|i| (noisy.ids[i], noisy.timesteps[i].0)).collect();
        TrainError::Diverged { task: self.job.task, step: self.position.step, what, examples }
    }

    /// average ← average + (1 − ½^(batch / half-life)) · (weights − average), the half-life growing with the images seen.
    ///
    /// Source: Karras et al. 2022 (EDM), training loop.
    fn update_average(&mut self, batch: usize) -> Result<(), TrainError> {
        let spec = self.job.spec;
        if spec.ema_half_life > 0. {
            let half_life = spec
                .ema_half_life
                .min(self.position.images_seen as f64 * spec.ema_ramp_up)
                .max(1e-8);
            let weight = 1. - libm::exp2(-(batch as f64) / half_life);
            let weights = self.store.flat().to_device(self.average.flat().device())?;
            lerp(self.average.flat(), &weights, weight, 1.)?;
        }
        Ok(())
    }

    /// What the last step left can be gone on with: finite numbers, and a finite loss on a few of `ids`.
    ///
    /// # Errors
    /// [`TrainError::Diverged`].
    pub fn expect_sound(&self, ids: &[u64]) -> Result<(), TrainError> {
        const ENOUGH: usize = 4;
        let ids = &ids[..ids.len().min(ENOUGH)];
        self.with_result(|store| match ensure_finite("weights", store.flat()) {
            Ok(()) => validation_loss(&self.job, store, ids, self.last_step()).map(drop),
            Err(_) => {
                let (task, step, examples) = (self.job.task, self.last_step(), Vec::new());
                Err(TrainError::Diverged { task, step, what: "a weight that it left", examples })
            }
        })?
    }

    /// The number of the step that was taken last.
    fn last_step(&self) -> u64 {
        self.position.step.saturating_sub(1)
    }

    /// The line of the training log that is due after this step, if one is.
    pub fn due_record(
        &mut self,
        run: &str,
        arm: &str,
        report: &StepReport,
    ) -> Option<TrainingRecord> {
        let step = self.position.step;
        let is_due = step.is_multiple_of(self.job.spec.log_every) || step == self.steps();
        if !is_due && !self.is_validation_due() {
            return None;
        }
        let (loss, gradient_norm, loss_quartiles) = self.position.window.take();
        Some(TrainingRecord {
            run: run.to_string(),
            arm: arm.to_string(),
            task: self.job.task,
            step,
            loss,
            loss_quartiles,
            gradient_norm,
            learning_rate: report.learning_rate,
            validation_loss: None,
            images_seen: self.position.images_seen,
        })
    }

    /// Whether a validation loss is due after this step.
    pub fn is_validation_due(&self) -> bool {
        let every = self.job.spec.validate_every;
        every > 0
            && (self.position.step.is_multiple_of(every) || self.position.step == self.steps())
    }

    /// The validation loss of the task's result on the first of `held_out`.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] where it is no number, and those of reading the data.
    pub fn validate(&self, held_out: &[u64]) -> Result<Option<f64>, TrainError> {
        let ids = &held_out[..held_out.len().min(self.job.spec.validation_examples)];
        self.with_result(|store| validation_loss(&self.job, store, ids, self.last_step()))?
    }
}

/// Where the average of what `store` holds is kept.
fn average_device<'s>(spec: &TrainingSpec, store: &'s ParamStore) -> &'s Device {
    match spec.ema_on {
        Keeping::Device => store.flat().device(),
        Keeping::Host => &Device::Cpu,
    }
}

#[cfg(test)]
mod tests;
