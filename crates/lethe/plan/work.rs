//! How often a run does what: counted from the protocol and its data, stage by stage.

use crate::learn::Place;
use crate::measure::curve_ids;
use crate::prompts::{Prompts, templates};
use crate::select::selection_work;
use crate::study::Study;
use anyhow::Result;
use lethe_continual::Arm;

/// How often, over all repetitions, arms and tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Images in training steps of the first task, and of all later ones.
    pub training: [f64; 2],
    /// Network evaluations of validation losses.
    pub validation: f64,
    /// … of choosing what to replay.
    pub selection: f64,
    /// … of the forgetting curve.
    pub curve: f64,
    /// … at the boundaries behind tasks.
    pub boundaries: f64,
    /// … of drawn images, those of guidance among them.
    pub samples: f64,
    /// Latents that are decoded.
    pub decoding: f64,
    /// Images that are encoded to latents.
    pub encoding: f64,
    /// Texts that are encoded.
    pub texts: f64,
    /// Lessons: one task of one arm of one repetition each.
    pub lessons: f64,
    /// Checkpoints that are written, most of them for a while.
    pub checkpoints: f64,
    /// Points of the forgetting curve.
    pub points: f64,
}

/// The whole run of `study`.
///
/// # Errors
/// When the stream has no such task, which it has.
pub fn count(study: &Study) -> Result<Work> {
    let mut work = Work::default();
    add_lesson(&mut work, study, Arm::None, 1)?;
    for task in 2..=study.n_tasks() {
        for &arm in study.arms() {
            add_lesson(&mut work, study, arm, task)?;
        }
    }
    let mut work = times(work, study.spec.seeds.len() as f64);
    if let Some(latent) = study.system.latent() {
        work.encoding = study.images.len() as f64;
        work.texts = Prompts::new(&templates(latent.spec(), &study.images), &study.images)
            .texts
            .len() as f64;
    }
    Ok(work)
}

fn add_lesson(work: &mut Work, study: &Study, arm: Arm, task: u32) -> Result<()> {
    let (training, probe) = (&study.spec.training, &study.spec.probe);
    let (steps, latent) = (training.steps_of(task), study.system.latent());
    let replays = task > 1 && matches!(arm, Arm::Joint | Arm::Replay(_));
    let replayed = if replays { study.mixture.replay_per_batch() } else { 0 };
    let later = usize::from(task > 1);
    work.training[later] += steps as f64 * (study.mixture.new_per_batch() + replayed) as f64;
    let of = if arm == Arm::Control { 1 } else { task };
    let held_out = study.held_out_ids(of)?.len().min(training.validation_examples);
    work.validation += (due(steps, training.validate_every) * held_out as u64) as f64;
    work.checkpoints += (1 + due(steps, training.checkpoint_every)) as f64;
    work.lessons += 1.;
    let walk = probe.draws * probe.stages;
    if task > 1 {
        work.selection += selection_work(study, arm, task - 1);
        let points = (steps - 1).checked_div(probe.curve_every).unwrap_or(0);
        work.points += points as f64;
        work.curve += (points as usize * curve_ids(study).len() * walk) as f64;
    }
    let examples = study.probed_through(task).len();
    let bound =
        if probe.bound_points > 0 { 2 * probe.bound_pairs * (probe.bound_points + 1) } else { 0 };
    work.boundaries += (examples * (probe.levels.len() * walk + bound)) as f64;
    // Guidance asks the network twice.
    let guided = latent.is_some_and(|latent| latent.spec().guidance != 1.);
    work.samples += (probe.samples * probe.sample_stages * (1 + usize::from(guided))) as f64;
    if latent.is_some() {
        work.decoding += (examples * probe.levels.len() + probe.samples) as f64;
    }
    Ok(())
}

/// Steps of `steps` that are multiples of `every`, and the last one; none where `every` is 0.
fn due(steps: u64, every: u64) -> u64 {
    if every == 0 { 0 } else { steps.div_ceil(every) }
}

fn times(work: Work, n: f64) -> Work {
    let Work { training: [first, later], .. } = work;
    Work {
        training: [n * first, n * later],
        validation: n * work.validation,
        selection: n * work.selection,
        curve: n * work.curve,
        boundaries: n * work.boundaries,
        samples: n * work.samples,
        decoding: n * work.decoding,
        lessons: n * work.lessons,
        checkpoints: n * work.checkpoints,
        points: n * work.points,
        ..work
    }
}

/// The names under which lessons stand in the ledger, as long as the longest.
pub fn longest_place(study: &Study) -> Place {
    let places = study
        .arms()
        .iter()
        .map(|&arm| Place::first(study.spec.seeds[0]).later(arm, study.n_tasks()));
    places.max_by_key(|place| place.arm.len()).unwrap_or_else(|| Place::first(study.spec.seeds[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::load;
    use candle_core::Device;

    #[test]
    fn a_small_protocol_is_counted_by_hand() {
        let set = [
            "data.per_class=20",
            "data.held_out=0.2",
            "data.resolution=8",
            "model.channels=[8]",
            "seeds=[1, 2]",
            "training.steps=10",
            "training.later_steps=6",
            "training.batch=4",
            "training.checkpoint_every=4",
            "training.validate_every=5",
            "training.validation_examples=7",
            "replay.arms=[\"none\", \"random\"]",
            "replay.per_batch=2",
            "probe.train_examples=10",
            "probe.held_out_examples=5",
            "probe.levels=[0.3]",
            "probe.stages=3",
            "probe.bound_points=0",
            "probe.curve_every=2",
            "probe.curve_examples=8",
            "probe.samples=3",
            "probe.sample_stages=2",
            "model.norm_groups=4",
        ];
        let spec = load("fashion", &set.map(String::from)).unwrap();
        let work = count(&Study::sketch(spec, Device::Cpu, None).unwrap()).unwrap();
        assert_eq!(work.training, [2. * 40., 2. * (6. * 4. + 6. * 6.)]);
        assert_eq!(work.validation, 2. * 7. * (2. + 2. * 2.));
        assert_eq!((work.lessons, work.checkpoints), (6., 2. * (4. + 2. * 3.)));
        assert_eq!((work.points, work.curve), (8., 8. * 8. * 3.));
        assert_eq!(work.boundaries, 2. * 3. * (15. + 2. * 30.));
        assert_eq!((work.samples, work.selection, work.decoding), (6. * 6., 0., 0.));
    }
}
