//! The reaches of the river alone: one task's training, one checkpoint's measurement.

use crate::exit::Fault;
use crate::interrupt::Interrupt;
use crate::learn::{Lesson, Place, TaskState, Witness, result};
use crate::measure::{Measuring, denoiser};
use crate::meter::Meter;
use crate::run::{begin, choose_temperatures, manifest, values};
use crate::select::{Selecting, selection_work};
use crate::session::{Session, keep_manifest};
use crate::study::Study;
use anyhow::{Result, anyhow};
use candle_core::DType;
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_continual::{Arm, ReplayBuffer};
use lethe_ledger::{Ledger, write_parquet};
use lethe_pixel::{UNet2d, folder};
use lethe_train::{StepReport, Trainer, checkpoint};
use std::path::{Path, PathBuf};

/// One task of one repetition.
pub struct Lonely<'a> {
    /// The protocol and its data.
    pub study: &'a Study,
    /// The repetition's seed.
    pub seed: u64,
    /// Number of the task.
    pub task: u32,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}

/// Tells the meter of every step.
struct Steps<'a>(&'a Meter);

impl Witness for Steps<'_> {
    fn after_step(
        &mut self,
        _: &mut Session,
        place: &Place,
        trainer: &Trainer<UNet2d>,
        report: &StepReport,
    ) -> Result<()> {
        let step = trainer.position().step;
        self.0.add(
            1.,
            &format!(
                "{} · step {step} of {} · loss {:.4}",
                place.label(),
                trainer.steps(),
                report.loss
            ),
        );
        Ok(())
    }
}

impl Lonely<'_> {
    /// Learns the task in `arm`, from the weights in `from`, and returns the checkpoint in `out`.
    ///
    /// # Errors
    /// When `from` is missing or does not fit, and whatever stops training.
    pub fn train(&self, arm: &str, from: Option<&Path>, out: &Path) -> Result<PathBuf> {
        let (study, place) = (self.study, self.place(arm)?);
        let arm: Arm = if self.task == 1 { Arm::None } else { arm.parse()? };
        let mut session = Session::open(out, study)?;
        let begun = checkpoint::latest(out)?.map(|found| found.state::<TaskState>()).transpose()?;
        let buffer = match begun {
            Some(state) => state.buffer,
            None => {
                let chosen = self.buffer(arm, from)?;
                begin(study, &mut session, &place, chosen.as_ref())?;
                chosen
            }
        };
        let sources = arm.sources(&study.stream, self.task, buffer.as_ref())?;
        let lesson = Lesson { study, place, sources, buffer, folder: out.to_path_buf() };
        let meter = Meter::new(study.spec.training.steps_of(self.task) as f64);
        let learned =
            lesson.learn(&mut session, || self.start(from), &mut Steps(&meter), self.interrupt)?;
        meter.finish();
        Ok(learned.path().to_path_buf())
    }

    fn place(&self, arm: &str) -> Result<Place> {
        self.study.stream.task(self.task)?;
        let first = Place::first(self.seed);
        if self.task == 1 { Ok(first) } else { Ok(first.later(arm.parse()?, self.task)) }
    }

    fn start(&self, from: Option<&Path>) -> Result<ParamStore> {
        match from {
            Some(from) => Ok(self.read(from)?.0),
            None if self.task == 1 => self.study.initial(Seed(self.seed)),
            None => Err(self.wants_from()),
        }
    }

    fn wants_from(&self) -> anyhow::Error {
        Fault::Usage.because(anyhow!(
            "--from: task {} starts from the checkpoint of task {}",
            self.task,
            self.task - 1
        ))
    }

    /// The weights in a task's folder or in a diffusers folder, and what the task's checkpoint remembers.
    fn read(&self, path: &Path) -> Result<(ParamStore, Option<TaskState>)> {
        if !path.exists() {
            return Err(
                Fault::Missing.because(anyhow!("{}: there is no such folder", path.display()))
            );
        }
        if checkpoint::latest(path)?.is_some() {
            let (store, state) = result(self.study, path)?;
            return Ok((store, Some(state)));
        }
        let found = folder::read(path, DType::F32, &self.study.device)?;
        if found.declarations != self.study.declarations {
            let error = anyhow!("{}: it is another network than the protocol's", path.display());
            return Err(Fault::Untrustworthy.because(error));
        }
        Ok((found.loaded.store, None))
    }

    /// What the arm keeps of the tasks before.
    fn buffer(&self, arm: Arm, from: Option<&Path>) -> Result<Option<ReplayBuffer>> {
        let Arm::Replay(policy) = arm else { return Ok(None) };
        let (store, state) = self.read(from.ok_or_else(|| self.wants_from())?)?;
        let denoiser = denoiser(self.study, &store);
        let meter = Meter::new(selection_work(self.study, arm, self.task - 1));
        let selecting = Selecting {
            study: self.study,
            policy,
            seed: Seed(self.seed),
            temperatures: values(&choose_temperatures(self.study)?),
            denoiser: &denoiser,
            meter: &meter,
            interrupt: self.interrupt,
        };
        let kept = state.and_then(|state| state.buffer);
        let chosen = selecting.through(kept, self.task - 1)?;
        meter.finish();
        Ok(Some(chosen))
    }

    /// Measures the weights in `path` and returns the ledger in `out`.
    ///
    /// # Errors
    /// When the weights do not fit, a number is not finite, or the disk refuses.
    pub fn probe(&self, path: &Path, out: &Path) -> Result<PathBuf> {
        let study = self.study;
        let (store, state) = self.read(path)?;
        let place = match &state {
            Some(state) => state.place.clone(),
            None => self.place(Arm::None.name())?,
        };
        if place.task != self.task {
            let error = anyhow!(
                "--task: the checkpoint has learned through task {}, not {}",
                place.task,
                self.task
            );
            return Err(Fault::Usage.because(error));
        }
        let mut session = Session::open(out, study)?;
        let chosen = choose_temperatures(study)?;
        let mut manifest = manifest(study, &chosen);
        manifest.arms = if place.task > 1 { vec![place.arm.clone()] } else { Vec::new() };
        study.probed.save(out.join("examples.json"))?;
        keep_manifest(out, &manifest)?;
        if !session.is_done("measure") {
            session.begin_stage()?;
            let meter = Meter::new(crate::run::boundary_work(study, self.task));
            let measuring = Measuring {
                study,
                temperatures: values(&chosen),
                seed: Seed(self.seed),
                meter: &meter,
                interrupt: self.interrupt,
            };
            measuring.data(&mut session, &place.run)?;
            let stored = self.stored(&place, state.as_ref())?;
            let step = state.map_or(0, |state| state.position.step);
            measuring.boundary(&mut session, &place, step, &store, &stored)?;
            session.finish("measure")?;
            meter.finish();
        }
        let ledger = out.join("ledger.jsonl");
        write_parquet(
            out.join("ledger.parquet"),
            &manifest,
            &study.probed,
            &Ledger::read(&ledger)?,
        )?;
        Ok(ledger)
    }

    fn stored(&self, place: &Place, state: Option<&TaskState>) -> Result<Vec<u64>> {
        let arm: Arm = if place.task == 1 { Arm::None } else { place.arm.parse()? };
        let buffer = state.and_then(|state| state.buffer.as_ref());
        crate::run::stored(self.study, arm, place.task, buffer)
    }
}
