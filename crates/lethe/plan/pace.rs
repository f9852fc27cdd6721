//! How long this network takes here, and how much memory: real work, measured on batches that grow.
//!
//! Every kind of work is done with one image, with two, and then with as many as the run takes at once; the last only
//! where what was seen so far says that there is memory and time for it. Where there is not, its time and memory are
//! drawn out in a straight line.

use super::machine;
use crate::latent_system::Latent;
use crate::measure::denoiser;
use crate::study::Study;
use crate::text_reader::TextReader;
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_continual::{Batch, ExampleId};
use lethe_probe::Examples;
use lethe_probe::reconstruction::Reconstruction;
use lethe_train::{Inputs, Job, Trainer, TrainingSpec, to_tensor};
use std::time::Instant;

/// Seconds that one kind of work may be measured for, in about.
const PATIENCE: f64 = 8.;
/// Times that a batch is measured, where they are short.
const TIMES: usize = 3;
/// Network evaluations of a measured reconstruction.
const STAGES: usize = 2;

/// What one kind of work takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Seconds for each image.
    pub each: f64,
    /// Half the range of what was measured, as a share of its middle.
    pub spread: f64,
    /// The most bytes that the process held, where the system says it.
    pub peak: Option<u64>,
    /// Images at once in the run.
    pub batch: usize,
    /// Images at once in the largest batch that was measured.
    pub measured: usize,
}

/// The paces of all that a run does over and over.
pub struct Paces {
    /// A training step.
    pub step: Pace,
    /// A network evaluation.
    pub evaluation: Pace,
    /// Encoding an image to latents, and decoding it.
    pub coding: Option<[Pace; 2]>,
    /// Encoding a text.
    pub text: Option<Pace>,
}

/// One batch size, measured.
#[derive(Clone, Copy)]
struct Rung {
    n: usize,
    seconds: f64,
    spread: f64,
    peak: Option<u64>,
}

/// Measures what `study` will do; `available`: bytes that may be taken.
///
/// # Errors
/// Those of training and measuring themselves.
pub fn measured(study: &Study, available: Option<u64>) -> Result<Paces> {
    let coding =
        study.system.latent().map(|latent| coding(study, latent, available)).transpose()?;
    let text = study.system.latent().map(|latent| text(latent, &study.device)).transpose()?;
    let (step, evaluation) = study.with_inputs(|inputs| network(study, inputs, available))?;
    Ok(Paces { step, evaluation, coding, text })
}

/// Training steps and network evaluations, in this order, with the weights that a run starts from.
fn network(study: &Study, inputs: &dyn Inputs, available: Option<u64>) -> Result<(Pace, Pace)> {
    let seed = Seed(study.spec.seeds[0]);
    let (network, process) = (&study.system.network, &study.process);
    let largest = study.mixture.new_per_batch() + study.mixture.replay_per_batch();
    // What a step holds at once is a part of its batch; two parts show what each takes.
    let parts = (study.spec.training.parts as usize).clamp(1, largest);
    let shown = parts.min(2);
    let spec = TrainingSpec { parts: shown as u64, ..study.spec.training.clone() };
    let job = Job { network, process, inputs, spec: &spec, seed, task: 1 };
    let mut trainer = Trainer::start(job, study.initial(seed)?)?;
    let step = climb(largest.div_ceil(parts), available, |n| {
        let new = study.seen((n * shown).min(largest)).into_iter().map(ExampleId).collect();
        trainer.step(&Batch { new, replayed: Vec::new() })?;
        Ok(study.device.synchronize()?)
    })?;
    let evaluation =
        trainer.with_result(|store| evaluation(study, inputs, available, seed, store))??;
    Ok((Pace { each: step.each / shown as f64, ..step }, evaluation))
}

fn evaluation(
    study: &Study,
    inputs: &dyn Inputs,
    available: Option<u64>,
    seed: Seed,
    store: &ParamStore,
) -> Result<Pace> {
    let denoiser = denoiser(study, store);
    let probe = &study.spec.probe;
    let most = probe.batch.min(study.probed.rows().len().max(probe.samples));
    let pace = climb(most, available, |n| {
        let ids = study.seen(n);
        let examples = Examples::new(ids.clone(), inputs.clean(&ids, &[])?, inputs.told(&ids)?)?;
        let stream = "plan";
        let setting = Reconstruction { stages: STAGES, draws: 1, batch: n, seed, stream };
        setting.measure(&denoiser, &examples, probe.headline)?;
        Ok(study.device.synchronize()?)
    })?;
    Ok(Pace { each: pace.each / STAGES as f64, ..pace })
}

fn coding(study: &Study, latent: &Latent, available: Option<u64>) -> Result<[Pace; 2]> {
    let pixels = |n: usize| {
        Ok::<_, anyhow::Error>(to_tensor(&study.images, &study.seen(n), &[], &study.device)?)
    };
    let batch = crate::latent_system::BATCH;
    let encoding = climb(batch.min(study.images.len()), available, |n| {
        latent.encode(&pixels(n)?)?;
        Ok(study.device.synchronize()?)
    })?;
    let [height, width, channels] = latent.shape();
    let decoding = climb(batch.min(study.probed.rows().len()), available, |n| {
        let latents = Tensor::zeros((n, height, width, channels), DType::F32, &study.device)?;
        latent.decode(&latents)?;
        Ok(study.device.synchronize()?)
    })?;
    Ok([encoding, decoding])
}

/// Texts of a few words: every text is brought to the encoder's length.
fn text(latent: &Latent, device: &Device) -> Result<Pace> {
    let reader = TextReader::open(latent.root(), device)?;
    climb(1, None, |n| {
        reader.embed(&vec!["a photo of a thing".to_string(); n])?;
        Ok(device.synchronize()?)
    })
}

/// Does `work` with 1, 2 and `full` images, as far as memory and patience reach.
pub(super) fn climb(
    full: usize,
    available: Option<u64>,
    mut work: impl FnMut(usize) -> Result<()>,
) -> Result<Pace> {
    let full = full.max(1);
    let mut rungs = vec![rung(1, &mut work)?];
    if full >= 2 {
        rungs.push(rung(2, &mut work)?);
    }
    if full > 2 {
        let ahead = beyond(rungs[0], rungs[1], full);
        let has_room = ahead.peak.zip(available).is_none_or(|(peak, available)| peak <= available);
        let is_soon = ahead.seconds <= PATIENCE;
        rungs.push(if has_room && is_soon { rung(full, &mut work)? } else { ahead });
    }
    let (last, measured) = match rungs.as_slice() {
        [.., before, last] if last.n > 2 && last.spread.is_infinite() => {
            (Rung { spread: before.spread, ..*last }, before.n)
        }
        [.., last] => (*last, last.n),
        [] => unreachable!("the first rung is always there"),
    };
    let Rung { n, seconds, spread, peak } = last;
    Ok(Pace { each: seconds / n as f64, spread, peak, batch: full, measured })
}

/// What `n` images would take, in a straight line through one and two; its spread is not known.
fn beyond(one: Rung, two: Rung, n: usize) -> Rung {
    let more = (n - 2) as f64;
    let seconds = two.seconds + more * (two.seconds - one.seconds).max(two.seconds / 4.);
    let line = |one: u64, two: u64| two + (more * two.saturating_sub(one) as f64) as u64;
    let peak = one.peak.zip(two.peak).map(|(one, two)| line(one, two));
    Rung { n, seconds, spread: f64::INFINITY, peak }
}

/// The first time is not counted where others can follow: it takes its memory from the system.
fn rung(n: usize, work: &mut impl FnMut(usize) -> Result<()>) -> Result<Rung> {
    machine::forget_peak();
    let mut timed = || -> Result<f64> {
        let start = Instant::now();
        work(n)?;
        Ok(start.elapsed().as_secs_f64())
    };
    let first = timed()?;
    let mut times = Vec::new();
    while times.len() < TIMES && first + times.iter().sum::<f64>() + first <= PATIENCE {
        times.push(timed()?);
    }
    if times.is_empty() {
        times.push(first);
    }
    times.sort_by(f64::total_cmp);
    let middle = times[times.len() / 2];
    let spread = (times[times.len() - 1] - times[0]) / (2. * middle);
    Ok(Rung { n, seconds: middle, spread, peak: machine::peak() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_whole_batch_is_measured_where_it_is_short() {
        let mut sizes = Vec::new();
        let pace = climb(6, None, |n| {
            sizes.push(n);
            std::thread::sleep(Duration::from_millis(2 * n as u64));
            Ok(())
        });
        let pace = pace.unwrap();
        assert_eq!((sizes[0], sizes[sizes.len() - 1]), (1, 6));
        assert_eq!((pace.batch, pace.measured), (6, 6));
        assert!(pace.each >= 0.002 && pace.each < 0.01, "{}", pace.each);
    }

    #[test]
    fn what_does_not_fit_is_drawn_out_in_a_straight_line() {
        let (one, two) = (1u64 << 20, 3 << 20);
        let rung = |n, seconds, peak| Rung { n, seconds, spread: 0.1, peak: Some(peak) };
        let ahead = beyond(rung(1, 1., one), rung(2, 3., two), 10);
        assert_eq!((ahead.seconds, ahead.peak), (19., Some(19 << 20)));
        let mut largest = 0;
        let pace = climb(64, Some(0), |n| {
            largest = largest.max(n);
            Ok(())
        });
        let pace = pace.unwrap();
        if machine::peak().is_some() {
            assert_eq!((largest, pace.measured, pace.batch), (2, 2, 64));
            assert!(pace.spread.is_finite());
        }
    }
}
