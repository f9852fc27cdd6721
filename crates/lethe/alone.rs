//! The reaches of the river alone: one task's training, one checkpoint's measurement.

use crate::check::WRITTEN;
use crate::exit::{Fault, otherwise};
use crate::given;
use crate::interrupt::{Interrupt, heed};
use crate::learn::{Lesson, Of, Place, TaskState, Witness, result};
use crate::measure::{Measuring, denoiser};
use crate::meter::Meter;
use crate::progress::Work;
use crate::provenance;
use crate::run::{begin, choose_temperatures, manifest, values};
use crate::select::{Selecting, expect_measured, selection_work};
use crate::session::Session;
use crate::study::{Study, expect_process};
use crate::system::AnyNetwork;
use anyhow::{Result, anyhow};
use candle_core::DType;
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_continual::{Arm, ReplayBuffer};
use lethe_ledger::{Ledger, write_parquet};
use lethe_pixel::folder;
use lethe_train::{StepReport, Trainer, checkpoint};
use std::path::{Path, PathBuf};

/// The one stage of a task that is learned alone.
const LEARNED: &str = "train";
/// The one stage of a checkpoint's measurement.
pub const MEASURED: &str = "measure";

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

/// Weights, the digest of what they were read from, and what their checkpoint remembers where a task left them.
struct Origin {
    store: ParamStore,
    digest: String,
    state: Option<TaskState>,
}

/// Tells the meter of every step.
struct Steps<'a>(&'a Meter);

impl Witness for Steps<'_> {
    fn after_step(
        &mut self,
        _: &mut Session,
        place: &Place,
        trainer: &Trainer<AnyNetwork>,
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
        let named: Arm = arm.parse()?;
        // All arms share their first task.
        let arm = if self.task == 1 { Arm::None } else { named };
        expect_measured("--arm", arm).map_err(otherwise(Fault::Usage))?;
        if self.task > 1 && from.is_none() {
            return Err(self.wants_from());
        }
        // Before the folder is begun, so that what is wrong with it leaves nothing behind.
        let origin = from.map(|from| self.origin(arm.name(), from)).transpose()?;
        let given = origin.as_ref().map(|origin| origin.digest.clone());
        let work = Work { what: format!("train {}", place.key()), given };
        let _heeding = heed();
        let mut session = Session::open(out, study, &[], work)?;
        let begun =
            crate::learn::begun(out)?.map(|found| found.state::<TaskState>()).transpose()?;
        let buffer = match begun {
            Some(state) => state.buffer,
            None => {
                let chosen = self.buffer(arm, origin.as_ref())?;
                begin(study, &mut session, &place, chosen.as_ref())?;
                chosen
            }
        };
        let sources = arm.sources(&study.stream, self.task, buffer.as_ref())?;
        let key = place.clone();
        let lesson = Lesson { study, place, sources, buffer, folder: out.to_path_buf() };
        let meter = Meter::new(study.spec.training.steps_of(self.task) as f64);
        let start = || match origin {
            Some(origin) => Ok(origin.store),
            None if self.task == 1 => study.initial(Seed(self.seed)),
            None => Err(self.wants_from()),
        };
        let learned = lesson.learn(&mut session, start, &mut Steps(&meter), self.interrupt)?;
        meter.finish();
        session.left(&key, &learned);
        session.finish_once(LEARNED)?;
        Ok(learned.path().to_path_buf())
    }

    fn place(&self, arm: &str) -> Result<Place> {
        self.study.stream.task(self.task)?;
        if !self.study.spec.seeds.contains(&self.seed) {
            return Err(Fault::Usage.because(anyhow!(
                "--seed: expected one of the protocol's, {:?}, got {}",
                self.study.spec.seeds,
                self.seed
            )));
        }
        let first = Place::first(self.seed);
        if self.task == 1 { Ok(first) } else { Ok(first.later(arm.parse()?, self.task)) }
    }

    fn expect_process(&self, path: &Path) -> Result<()> {
        let study = self.study;
        expect_process(&study.spec.diffusion, &study.process.schedule, path)
            .map_err(otherwise(Fault::Usage))
    }

    /// A task goes on from the task before, of the same arm and seed; behind task 1 the arms part.
    fn expect_before(&self, found: &Place, arm: &str, from: &Path) -> Result<()> {
        let is_of_arm = found.task == 1 || found.arm == arm;
        if (found.task + 1, found.seed) == (self.task, self.seed) && is_of_arm {
            return Ok(());
        }
        if self.task == 1 {
            return Err(Fault::Usage.because(anyhow!(
                "--from: task 1 starts from the protocol's model or from nothing; leave it out"
            )));
        }
        Err(Fault::Usage.because(anyhow!(
            "--from: {}: expected task {} of arm {arm}, seed {}, got {}",
            from.display(),
            self.task - 1,
            self.seed,
            found.label()
        )))
    }

    /// The weights in `from`, which must be what the task before left.
    fn origin(&self, arm: &str, from: &Path) -> Result<Origin> {
        let origin = self.read(from)?;
        if let Some(state) = &origin.state {
            self.expect_before(&state.place, arm, from)?;
        }
        Ok(origin)
    }

    fn wants_from(&self) -> anyhow::Error {
        Fault::Usage.because(anyhow!(
            "--from: task {} starts from the checkpoint of task {}",
            self.task,
            self.task - 1
        ))
    }

    /// The weights in a task's folder or in a diffusers folder, and what the task's checkpoint remembers.
    fn read(&self, path: &Path) -> Result<Origin> {
        crate::model::expect_model(path)?;
        if let Some(found) = checkpoint::furthest(path)? {
            self.expect_process(found.path())?;
            let digest = found.digest().to_string();
            let (store, state) = result(self.study, Of::Folder(path))?;
            return Ok(Origin { store, digest, state: Some(state) });
        }
        crate::model::expect_written(path)?;
        self.expect_process(path)?;
        let digest = given::of_folder(&self.study.system, path)?;
        let study = self.study;
        if let Some(latent) = study.system.latent() {
            expect_whole(study, path)?;
            let own = latent.unet_declarations();
            let found = lethe_latent::folder::read_unet_weights(
                &path.join("unet"),
                own,
                DType::F32,
                &study.device,
            )?;
            return Ok(Origin { store: found.store, digest, state: None });
        }
        let found = folder::read(path, DType::F32, &study.device)?;
        if found.declarations != study.system.declarations {
            let error = anyhow!("{}: it is another network than the protocol's", path.display());
            return Err(Fault::Untrustworthy.because(error));
        }
        Ok(Origin { store: found.loaded.store, digest, state: None })
    }

    /// What the arm keeps of the tasks before.
    fn buffer(&self, arm: Arm, origin: Option<&Origin>) -> Result<Option<ReplayBuffer>> {
        let Arm::Replay(policy) = arm else { return Ok(None) };
        let Origin { store, state, .. } = origin.ok_or_else(|| self.wants_from())?;
        let denoiser = denoiser(self.study, store);
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
        let kept = state.as_ref().and_then(|state| state.buffer.clone());
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
        let Origin { store, digest, state } = self.read(path)?;
        let place = match &state {
            Some(state) => state.place.clone(),
            None => self.place(Arm::None.name())?,
        };
        if (place.task, place.seed) != (self.task, self.seed) {
            let error = anyhow!(
                "--task, --seed: the checkpoint is of task {}, seed {}, expected just these, got {} and {}; it is measured on the \
                 examples of every task up to its own",
                place.task,
                place.seed,
                self.task,
                self.seed
            );
            return Err(Fault::Usage.because(error));
        }
        let chosen = choose_temperatures(study)?;
        let work = Work { what: format!("probe {}", place.key()), given: Some(digest) };
        let _heeding = heed();
        let mut session = Session::open(out, study, &[], work)?;
        let mut manifest = manifest(study, &chosen);
        manifest.arms = if place.task > 1 { vec![place.arm.clone()] } else { Vec::new() };
        session.measures(&study.probed)?;
        let manifest = provenance::keep(&session, manifest)?;
        let chosen = manifest.inverse_temperatures.clone();
        if !session.is_done(MEASURED) {
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
            session.finish(MEASURED)?;
            meter.finish();
        }
        session.begin_stage()?;
        let ledger = out.join("ledger.jsonl");
        write_parquet(
            out.join("ledger.parquet"),
            &manifest,
            &study.probed,
            &Ledger::read(&ledger)?,
        )?;
        session.finish_once(WRITTEN)?;
        Ok(ledger)
    }

    fn stored(&self, place: &Place, state: Option<&TaskState>) -> Result<Vec<u64>> {
        let arm: Arm = if place.task == 1 { Arm::None } else { place.arm.parse()? };
        let buffer = state.and_then(|state| state.buffer.as_ref());
        crate::run::stored(self.study, arm, place.task, buffer)
    }
}

/// Adapters are read from a task's own folder alone: in a pipeline they are added into the network for good.
fn expect_whole(study: &Study, path: &Path) -> Result<()> {
    if study.system.base.is_none() {
        return Ok(());
    }
    Err(Fault::Usage.because(anyhow!(
        "{}: expected the folder of a task that `lethe` learned, which has its adapters apart",
        path.display()
    )))
}
