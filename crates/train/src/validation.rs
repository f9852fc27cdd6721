//! The validation loss: the same question each time.

use crate::TrainError;
use crate::trainer::{Job, Process};
use lethe_candlex::params::ParamStore;
use lethe_candlex::tape::{Tape, Value};
use lethe_diffusion::denoiser::{Network, Pass};
use lethe_diffusion::objective::denoising_loss;
use lethe_diffusion::parameterization::perturb;
use lethe_diffusion::schedule::Timestep;

/// Examples that are evaluated at once.
const BATCH: usize = 64;

/// The mean loss on `ids`, if there are any, with noise and timesteps that never change: timesteps spread evenly, noise by
/// example. `step` is the one that left the weights.
///
/// # Errors
/// [`TrainError::Diverged`] names the examples whose loss is no number; when an example is not in the data, or shapes do not
/// fit.
pub(crate) fn validation_loss<N: Network>(
    job: &Job<'_, N>,
    store: &ParamStore,
    ids: &[u64],
    step: u64,
) -> Result<Option<f64>, TrainError> {
    let mut sum = 0.;
    for (first, ids) in ids.chunks(BATCH).enumerate().map(|(k, chunk)| (k * BATCH, chunk)) {
        sum += of_batch(job, store, ids, first, step)? * ids.len() as f64;
    }
    Ok((!ids.is_empty()).then(|| sum / ids.len() as f64))
}

/// The mean loss of the examples `ids`, which begin at place `first`.
fn of_batch<N: Network>(
    job: &Job<'_, N>,
    store: &ParamStore,
    ids: &[u64],
    first: usize,
    step: u64,
) -> Result<f64, TrainError> {
    let Process { schedule, parameterization, weighting } = job.process;
    let total = schedule.timesteps();
    // The golden section visits every part of the schedule evenly, whatever the number of examples.
    let spread = |i: usize| ((first + i) as f64 * 0.618_033_988_749_894_8).fract();
    let timesteps: Vec<Timestep> =
        (0..ids.len()).map(|i| Timestep((spread(i) * total as f64) as usize)).collect();
    let clean = job.inputs.clean(ids, &[])?;
    let stream = job.seed.stream("validation");
    let noise = stream.normal(0, ids, &clean.dims()[1..], clean.device())?;
    let x = Value::constant(perturb(schedule, &clean, &noise, &timesteps)?);
    let target = parameterization.target(schedule, &clean, &noise, &timesteps)?;
    let told = job.inputs.told(ids)?;
    let levels: Vec<f64> = timesteps.iter().map(|t| t.0 as f64).collect();
    let (tape, pass) = (Tape::inference(store), Pass::plain(told.condition()));
    let output = job.network.forward(&tape, &x, &levels, &pass)?;
    let weights: Vec<f64> =
        timesteps.iter().map(|&t| weighting.weight(schedule, *parameterization, t)).collect();
    let loss = denoising_loss(output.tensor(), &target, &weights)?;
    if loss.mean.is_finite() {
        return Ok(loss.mean);
    }
    let all = ids.iter().zip(&timesteps).zip(&loss.per_example);
    let culprits = all.filter(|(_, loss)| !loss.is_finite()).map(|((&id, t), _)| (id, t.0));
    Err(TrainError::Diverged {
        task: job.task,
        step,
        what: "the validation loss",
        examples: culprits.collect(),
    })
}
