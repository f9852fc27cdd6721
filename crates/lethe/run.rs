//! The whole protocol: data → tasks → training → checkpoint → probe → ledger → report.
//!
//! A run is a list of stages. Each is finished or not; an unfinished one starts again from its last checkpoint,
//! with the journals cut back to what they held then. So the end does not depend on how often the run was broken.

use crate::check::WRITTEN;
use crate::exit::Fault;
use crate::interrupt::{Interrupt, heed};
use crate::learn::{Lesson, Of, Place, TaskState, Witness, finished, result};
use crate::measure::{Measuring, append, denoiser, layout, replayed, stored_of};
use crate::meter::{Meter, note};
use crate::progress::Work;
use crate::provenance;
use crate::remarks::remarks;
use crate::select::{Selecting, selection_work};
use crate::session::Session;
use crate::study::{Study, plain};
use crate::system::AnyNetwork;
use anyhow::{Result, anyhow};
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_continual::{Arm, ReplayBuffer};
use lethe_hopfield::temperature::at_perplexity;
use lethe_ledger::{
    ChosenTemperature, DataProvenance, InverseTemperatures, Ledger, Repetition, RunManifest,
    digest, write_parquet,
};
use lethe_probe::Moment;
use lethe_probe::energy::Temperatures;
use lethe_train::{StepReport, Trainer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs `study` in `folder`, from wherever it stands there, and returns the path of the report; fields of the protocol
/// that are `allowed` by name may have changed since it was begun.
///
/// # Errors
/// Whatever stops it; what was committed stays, and the same call goes on.
pub fn run(
    study: &Study,
    folder: &Path,
    allowed: &[String],
    interrupt: &Interrupt,
) -> Result<PathBuf> {
    // First, so that what is wrong with the data leaves no folder behind.
    let chosen = choose_temperatures(study)?;
    remarks(&study.spec, study.images.classes(), &study.device)
        .iter()
        .for_each(|remark| note(remark));
    let _heeding = heed();
    let mut session = Session::open(folder, study, allowed, Work::run())?;
    session.measures(&study.probed)?;
    let chosen = provenance::keep(&session, manifest(study, &chosen))?.inverse_temperatures;
    let meter = Meter::new(total_work(study));
    for &seed in &study.spec.seeds {
        Repeating {
            study,
            temperatures: values(&chosen),
            place: Place::first(seed),
            meter: &meter,
            interrupt,
        }
        .run(&mut session)?;
    }
    meter.finish();
    // Nothing may be missing of what was committed, nor stand behind it.
    session.begin_stage()?;
    let page = finish(study, &session)?;
    session.finish_once(WRITTEN)?;
    Ok(page)
}

/// The tables and the page of a finished run.
fn finish(study: &Study, session: &Session) -> Result<PathBuf> {
    let folder = session.folder();
    let manifest = RunManifest::load(folder.join("run.json"))?;
    let measurements = Ledger::read(folder.join("ledger.jsonl"))?;
    write_parquet(folder.join("ledger.parquet"), &manifest, &study.probed, &measurements)?;
    Ok(lethe_report::write(folder, None)?)
}

/// Both inverse temperatures, from the stored set of task 1.
///
/// # Errors
/// When no inverse temperature gives the perplexity.
pub fn choose_temperatures(study: &Study) -> Result<InverseTemperatures> {
    study.expect_perplexity()?;
    let perplexity = study.spec.probe.perplexity;
    let stored = stored_of(study, 1)?;
    let usage =
        |error: candle_core::Error| Fault::Usage.because(anyhow!("probe.perplexity: {error}"));
    let distance = at_perplexity(stored.distance(), perplexity).map_err(usage)?;
    let unit = at_perplexity(stored.unit(), perplexity).map_err(usage)?;
    let schedule = &study.process.schedule;
    // The distance form is the noised data's energy at SNR(t) = β.
    let t = schedule.timestep_at_snr(distance);
    let time = t.0 as f64 / schedule.timesteps() as f64;
    Ok(InverseTemperatures {
        distance: Some(ChosenTemperature {
            value: distance,
            perplexity,
            timestep: Some(t.0 as u32),
            time: Some(time),
        }),
        unit: Some(ChosenTemperature { value: unit, perplexity, timestep: None, time: None }),
    })
}

/// The two numbers.
pub fn values(chosen: &InverseTemperatures) -> Temperatures {
    let value =
        |chosen: &Option<ChosenTemperature>| chosen.as_ref().map_or(1., |chosen| chosen.value);
    Temperatures { distance: value(&chosen.distance), unit: value(&chosen.unit) }
}

/// `run.json` of a run of `study`.
pub fn manifest(study: &Study, chosen: &InverseTemperatures) -> RunManifest {
    let shape = study.images.shape();
    RunManifest {
        format: lethe_ledger::FORMAT,
        name: study.spec.name.clone(),
        protocol: study.text.clone(),
        protocol_digest: digest(&study.text),
        data: DataProvenance {
            source: study.source.clone(),
            digest: study.images.digest(),
            examples: study.images.len() as u64,
            resolution: shape.height as u32,
            channels: shape.channels as u32,
            classes: study.images.classes().to_vec(),
        },
        tasks: study
            .stream
            .tasks()
            .iter()
            .map(|task| task.classes().iter().map(|class| class.0).collect())
            .collect(),
        arms: study.arms().iter().map(|arm| arm.name().to_string()).collect(),
        runs: study
            .spec
            .seeds
            .iter()
            .map(|&seed| Repetition { run: format!("seed-{seed}"), seed })
            .collect(),
        device: crate::device::in_words(&study.device),
        versions: crate::device::versions(),
        git_revision: option_env!("LETHE_REVISION")
            .filter(|revision| !revision.is_empty())
            .map(String::from),
        inverse_temperatures: chosen.clone(),
        headline_level: study.spec.probe.headline,
        levels: study.spec.probe.levels.clone(),
        budget: study.capacity as u64,
        images: layout(study),
        model: study.given.clone(),
        changes: Vec::new(),
    }
}

/// One repetition of the protocol.
struct Repeating<'a> {
    study: &'a Study,
    temperatures: Temperatures,
    place: Place,
    meter: &'a Meter,
    interrupt: &'a Interrupt,
}

impl Repeating<'_> {
    fn run(&self, session: &mut Session) -> Result<()> {
        self.stage(session, &format!("{}/data", self.place.run), 0., |session| {
            session.begin_stage()?;
            self.measuring().data(session, &self.place.run)
        })?;
        self.lesson(session, &self.place, None)?;
        for &arm in self.study.arms() {
            let mut before = self.place.clone();
            for task in 2..=self.study.n_tasks() {
                let place = self.place.later(arm, task);
                self.lesson(session, &place, Some((arm, &before)))?;
                before = place;
            }
            self.look(session)?;
        }
        Ok(())
    }

    /// Brings the page of a run that is not finished up to date.
    fn look(&self, session: &Session) -> Result<()> {
        if let Some(stages) = session.standing()? {
            lethe_report::write(session.folder(), Some(&stages))?;
        }
        Ok(())
    }

    fn measuring(&self) -> Measuring<'_> {
        Measuring {
            study: self.study,
            temperatures: self.temperatures,
            seed: Seed(self.place.seed),
            meter: self.meter,
            interrupt: self.interrupt,
        }
    }

    /// Does `work` once, whatever happens: a finished stage is skipped.
    ///
    /// `work` begins with the journals at what was committed last: at its own checkpoint, or behind the stage before.
    fn stage(
        &self,
        session: &mut Session,
        name: &str,
        amount: f64,
        work: impl FnOnce(&mut Session) -> Result<()>,
    ) -> Result<()> {
        if session.is_done(name) {
            self.meter.skip(amount);
            return Ok(());
        }
        self.interrupt.check()?;
        work(session)?;
        session.finish(name)
    }

    /// Learns one task of one arm, then measures what it left.
    fn lesson(
        &self,
        session: &mut Session,
        place: &Place,
        origin: Option<(Arm, &Place)>,
    ) -> Result<()> {
        let study = self.study;
        let name = format!("{}/{}/task-{}", place.run, place.arm, place.task);
        let choosing = origin.map_or(0., |(arm, _)| selection_work(study, arm, place.task - 1));
        let work = choosing + lesson_work(study, place.task);
        if session.is_done(&format!("{name}/train")) {
            finished(study, Of::Run(session.folder(), place))?;
        }
        self.stage(session, &format!("{name}/train"), work, |session| {
            let lesson = self.prepare(session, place, origin)?;
            let run_folder = session.folder().to_path_buf();
            let mut witness = Curve { measuring: self.measuring() };
            let start = || self.start(&run_folder, origin);
            let left = lesson.learn(session, start, &mut witness, self.interrupt)?;
            session.left(place, &left);
            Ok(())
        })?;
        self.stage(
            session,
            &format!("{name}/measure"),
            boundary_work(study, place.task),
            |session| {
                session.begin_stage()?;
                let (store, state) = result(study, Of::Run(session.folder(), place))?;
                let arm = origin.map_or(Arm::None, |(arm, _)| arm);
                let stored = stored(study, arm, place.task, state.buffer.as_ref())?;
                self.measuring().boundary(session, place, state.position.step, &store, &stored)
            },
        )
    }

    /// The weights from which a lesson starts: what the lesson before it left.
    fn start(&self, run_folder: &Path, origin: Option<(Arm, &Place)>) -> Result<ParamStore> {
        match origin {
            None => self.study.initial(Seed(self.place.seed)),
            Some((_, before)) => Ok(result(self.study, Of::Run(run_folder, before))?.0),
        }
    }

    /// Where a lesson's batches come from; an arm with a buffer first chooses what it keeps.
    fn prepare<'s>(
        &'s self,
        session: &mut Session,
        place: &Place,
        origin: Option<(Arm, &Place)>,
    ) -> Result<Lesson<'s>> {
        let (study, folder) = (self.study, place.folder(session.folder()));
        let arm = origin.map_or(Arm::None, |(arm, _)| arm);
        let begun =
            crate::learn::begun(&folder)?.map(|found| found.state::<TaskState>()).transpose()?;
        let buffer = match begun {
            Some(state) => state.buffer,
            None => {
                let chosen = match origin {
                    Some((arm, before)) => self.buffer(session.folder(), arm, before)?,
                    None => None,
                };
                begin(study, session, place, chosen.as_ref())?;
                chosen
            }
        };
        let sources = arm.sources(&study.stream, place.task, buffer.as_ref())?;
        Ok(Lesson { study, place: place.clone(), sources, buffer, folder })
    }

    /// What the arm keeps once the lesson `before` is over.
    fn buffer(&self, run_folder: &Path, arm: Arm, before: &Place) -> Result<Option<ReplayBuffer>> {
        let Arm::Replay(policy) = arm else { return Ok(None) };
        let study = self.study;
        let (store, state) = result(study, Of::Run(run_folder, before))?;
        let denoiser = denoiser(study, &store);
        let seed = Seed(self.place.seed);
        let selecting = Selecting {
            study,
            policy,
            seed,
            temperatures: self.temperatures,
            denoiser: &denoiser,
            meter: self.meter,
            interrupt: self.interrupt,
        };
        Ok(Some(selecting.through(state.buffer, before.task)?))
    }
}

/// Begins the stage of a lesson: behind a first task, the ledger says which examples are replayed.
///
/// # Errors
/// When a journal is damaged, or the disk refuses.
pub fn begin(
    study: &Study,
    session: &mut Session,
    place: &Place,
    buffer: Option<&ReplayBuffer>,
) -> Result<()> {
    session.begin_stage()?;
    if place.task == 1 {
        return Ok(());
    }
    let kept = buffer.map(|buffer| plain(&buffer.ids())).unwrap_or_default();
    let moment = Moment { run: &place.run, arm: &place.arm, learned_through: place.task, step: 0 };
    append(session, vec![replayed(study, place.task, &kept)], &moment)
}

/// What a network was last trained on: the new task's examples and what was replayed, ascending.
///
/// # Errors
/// When the arm keeps a buffer and there is none.
pub fn stored(
    study: &Study,
    arm: Arm,
    task: u32,
    buffer: Option<&ReplayBuffer>,
) -> Result<Vec<u64>> {
    let sources = arm.sources(&study.stream, task, buffer)?;
    let mut ids = plain(&sources.new);
    ids.extend(plain(&sources.replayed));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Tells the meter of every step, and takes the forgetting curve.
struct Curve<'a> {
    measuring: Measuring<'a>,
}

impl Witness for Curve<'_> {
    fn after_step(
        &mut self,
        session: &mut Session,
        place: &Place,
        trainer: &Trainer<AnyNetwork>,
        report: &StepReport,
    ) -> Result<()> {
        let (step, steps, study) = (trainer.position().step, trainer.steps(), self.measuring.study);
        let label = format!("{} · step {step} of {steps} · loss {:.4}", place.label(), report.loss);
        self.measuring.meter.add(step_work(study, place.task), &label);
        let every = study.spec.probe.curve_every;
        if place.task > 1 && every > 0 && step.is_multiple_of(every) && step < steps {
            trainer.with_result(|store| self.measuring.curve(session, place, step, store))??;
        }
        Ok(())
    }
}

/// Work in network evaluations of one image; a training step costs three for each.
fn total_work(study: &Study) -> f64 {
    let tasks = 1..=study.n_tasks();
    let one = |task| {
        let each = lesson_work(study, task) + boundary_work(study, task);
        if task == 1 {
            return each;
        }
        study.arms().iter().map(|&arm| each + selection_work(study, arm, task - 1)).sum()
    };
    study.spec.seeds.len() as f64 * tasks.map(one).sum::<f64>()
}

fn step_work(study: &Study, task: u32) -> f64 {
    let replayed = if task > 1 { study.mixture.replay_per_batch() } else { 0 };
    3. * (study.mixture.new_per_batch() + replayed) as f64
}

fn lesson_work(study: &Study, task: u32) -> f64 {
    let (probe, steps) = (&study.spec.probe, study.spec.training.steps_of(task));
    let points =
        if task > 1 && probe.curve_every > 0 { (steps - 1) / probe.curve_every } else { 0 };
    let point = probe.curve_examples as f64 * probe.draws as f64 * probe.stages as f64;
    steps as f64 * step_work(study, task) + points as f64 * point
}

/// Work of one boundary.
pub fn boundary_work(study: &Study, task: u32) -> f64 {
    let probe = &study.spec.probe;
    let examples = study.probed_through(task).len() as f64;
    let bound = match probe.bound_points {
        0 => 0.,
        points => 2. * probe.bound_pairs as f64 * (points + 1) as f64,
    };
    let each = probe.levels.len() as f64 * probe.draws as f64 * probe.stages as f64 + bound;
    examples * each + probe.samples as f64 * probe.sample_stages as f64
}

/// Versions by name, for `run.json`.
pub type Versions = BTreeMap<String, String>;
