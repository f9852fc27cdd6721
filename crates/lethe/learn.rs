//! One task of one arm: trained to its last step, from its last checkpoint where there is one.

use crate::exit::{Fault, otherwise};
use crate::interrupt::Interrupt;
use crate::meter::note;
use crate::progress::{Contents, Offsets, Progress, elsewhere, is_run};
use crate::session::Session;
use crate::study::Study;
use crate::system::AnyNetwork;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::DType;
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_candlex::weights;
use lethe_continual::{Arm, Batch, DrawKey, ReplayBuffer, Sources};
use lethe_ledger::digest;
use lethe_train::checkpoint::{self, Checkpoint, Content, Files};
use lethe_train::{Inputs, Job, Optimizer, Position, StepReport, TrainError, Trainer};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which task of which arm of which repetition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The repetition, such as `seed-1`.
    pub run: String,
    /// Its seed.
    pub seed: u64,
    /// The arm; `task-1` for the first task, which all arms share.
    pub arm: String,
    /// Number of the task, from 1.
    pub task: u32,
}

impl Place {
    /// The first task of a repetition.
    pub fn first(seed: u64) -> Self {
        Self { run: format!("seed-{seed}"), seed, arm: "task-1".into(), task: 1 }
    }

    /// Task `task` of `arm` in the same repetition.
    pub fn later(&self, arm: Arm, task: u32) -> Self {
        Self { arm: arm.name().into(), task, ..self.clone() }
    }

    /// Where its checkpoints lie in a run folder.
    pub fn folder(&self, run_folder: &Path) -> PathBuf {
        let run = run_folder.join(&self.run);
        if self.task == 1 {
            run.join("task-1")
        } else {
            run.join(&self.arm).join(format!("task-{}", self.task))
        }
    }

    /// The same place, as `progress.json` names it.
    pub fn key(&self) -> String {
        self.folder(Path::new("")).display().to_string()
    }

    /// In words.
    pub fn label(&self) -> String {
        let arm = if self.task == 1 { String::new() } else { format!("{} · ", self.arm) };
        format!("{} · {arm}task {}", self.run, self.task)
    }
}

/// What a checkpoint remembers besides tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskState {
    /// Digest of the resolved protocol.
    pub protocol: String,
    /// Digest of the data.
    pub data: String,
    /// Which task this is.
    pub place: Place,
    /// Where it stands.
    pub position: Position,
    /// How long the journals were then.
    pub journals: Offsets,
    /// What they held.
    pub contents: Contents,
    /// What is replayed, where this arm keeps a buffer.
    pub buffer: Option<ReplayBuffer>,
}

impl TaskState {
    /// # Errors
    /// When it was written for another place, for other data, or at another step than its folder's name says.
    pub fn expect(&self, place: &Place, data: &str, found: &Checkpoint) -> Result<()> {
        self.expect_data(data, found)?;
        expect_same("place", &self.place.label(), &place.label(), found)?;
        self.expect_step(found)
    }

    fn expect_data(&self, data: &str, found: &Checkpoint) -> Result<()> {
        let (path, kept) = (found.path().display(), &self.data);
        ensure!(
            kept == data,
            "{path}: it was learned from other data, of digest {kept:.12}…, than these, of {data:.12}…; give those data, or name \
             {path} itself to take its weights alone"
        );
        Ok(())
    }

    /// # Errors
    /// When it was written at another step than its folder's name says.
    pub fn expect_step(&self, found: &Checkpoint) -> Result<()> {
        let name = found.path().file_name().unwrap_or_default().to_string_lossy();
        expect_same("step", &checkpoint::name(self.position.step), &name, found)
    }
}

fn expect_same(field: &str, kept: &str, expected: &str, found: &Checkpoint) -> Result<()> {
    let path = found.path().display();
    ensure!(
        kept == expected,
        "{path}: {field}: expected {expected}, got {kept}: the folder was put here from elsewhere"
    );
    Ok(())
}

const RAW: &str = "training/weights.safetensors";
const OPTIMIZER: &str = "training/optimizer.safetensors";

/// A task to be learned.
pub struct Lesson<'a> {
    /// The protocol and its data.
    pub study: &'a Study,
    /// Which task.
    pub place: Place,
    /// Where its batches come from.
    pub sources: Sources,
    /// What is replayed.
    pub buffer: Option<ReplayBuffer>,
    /// Where its checkpoints go.
    pub folder: PathBuf,
}

/// What happens around the steps of a lesson.
pub trait Witness {
    /// After step `step` of a lesson, before the checkpoint that may be due.
    ///
    /// # Errors
    /// Ends the lesson.
    fn after_step(
        &mut self,
        session: &mut Session,
        place: &Place,
        trainer: &Trainer<AnyNetwork>,
        report: &StepReport,
    ) -> Result<()>;
}

impl Lesson<'_> {
    /// Learns the task to its end; `start` gives the weights that it starts from, where no checkpoint is there yet.
    ///
    /// Where there is one, the journals go on where they were then; where not, the caller has begun the stage.
    ///
    /// # Errors
    /// A divergence, an interruption, a damaged checkpoint, a full disk; what was committed stays.
    pub fn learn(
        &self,
        session: &mut Session,
        start: impl FnOnce() -> Result<ParamStore>,
        witness: &mut impl Witness,
        interrupt: &Interrupt,
    ) -> Result<Checkpoint> {
        self.study.with_inputs(|inputs| self.learn_from(inputs, session, start, witness, interrupt))
    }

    fn learn_from(
        &self,
        inputs: &dyn Inputs,
        session: &mut Session,
        start: impl FnOnce() -> Result<ParamStore>,
        witness: &mut impl Witness,
        interrupt: &Interrupt,
    ) -> Result<Checkpoint> {
        let job = self.job(inputs);
        let (mut trainer, mut kept) = match begun(&self.folder)? {
            Some(found) if self.is_last(&found)? => return self.ended(found, session),
            Some(found) => (self.resume(job, &found, session)?, found),
            None => {
                let trainer = Trainer::start(job, start()?)?;
                let kept = self.save(&trainer, session)?;
                (trainer, kept)
            }
        };
        let held_out =
            self.study.held_out_ids(if self.is_control() { 1 } else { self.place.task })?;
        let mut ahead = None;
        while trainer.position().step < trainer.steps() {
            let step = trainer.position().step;
            let batch = ahead.take().map_or_else(|| self.batch(step), Ok)?;
            ahead = (step + 1 < trainer.steps()).then(|| self.batch(step + 1)).transpose()?;
            let report = trainer.step_before(&batch, ahead.as_ref())?;
            self.log(&mut trainer, session, &held_out, &report)?;
            witness.after_step(session, &self.place, &trainer, &report)?;
            let step = trainer.position().step;
            let is_due =
                step.is_multiple_of(self.study.spec.training.checkpoint_every) || is_over(&trainer);
            if is_due || interrupt.is_raised() {
                // What cannot be gone on with does not take the place of what can.
                trainer.expect_sound(&held_out)?;
                kept = self.save(&trainer, session)?;
            }
            interrupt.check()?;
        }
        Ok(kept)
    }

    fn is_control(&self) -> bool {
        self.place.arm == Arm::Control.name()
    }

    fn job<'a>(&'a self, inputs: &'a dyn Inputs) -> Job<'a, AnyNetwork> {
        let study = self.study;
        Job {
            network: &study.system.network,
            process: &study.process,
            inputs,
            spec: &study.spec.training,
            seed: Seed(self.place.seed),
            task: self.place.task,
        }
    }

    fn batch(&self, step: u64) -> Result<Batch> {
        Ok(self.study.mixture.batch(&self.sources, step, words(Seed(self.place.seed)))?)
    }

    /// What is due after a step: a validation loss, a line of the training log.
    fn log(
        &self,
        trainer: &mut Trainer<AnyNetwork>,
        session: &mut Session,
        held_out: &[u64],
        report: &StepReport,
    ) -> Result<()> {
        let validation_loss = match trainer.is_validation_due() {
            true => trainer.validate(held_out)?,
            false => None,
        };
        if let Some(mut record) = trainer.due_record(&self.place.run, &self.place.arm, report) {
            record.validation_loss = validation_loss;
            session.trained(&record)?;
        }
        Ok(())
    }

    /// Commits where the task stands, and then lets go of the checkpoint before.
    fn save(&self, trainer: &Trainer<AnyNetwork>, session: &mut Session) -> Result<Checkpoint> {
        let (journals, contents) = session.commit()?;
        let state = TaskState {
            protocol: digest(&self.study.text),
            data: self.study.images.digest(),
            place: self.place.clone(),
            position: trainer.position().clone(),
            journals,
            contents,
            buffer: self.buffer.clone(),
        };
        let path = self.folder.join(checkpoint::name(state.position.step));
        let kept = checkpoint::save(&path, &self.files(trainer)?, &state)?;
        checkpoint::retire_others(&self.folder, &kept)?;
        Ok(kept)
    }

    /// On the way what training goes on from; at the end what the task leaves, as others read it.
    fn files(&self, trainer: &Trainer<AnyNetwork>) -> Result<Files> {
        let is_over = is_over(trainer);
        let mut files = crate::pipeline::files(self.study, trainer.result(), is_over)?;
        if !is_over {
            let moments = trainer.optimizer().named(trainer.weights())?;
            files.push((RAW.into(), Content::store(trainer.weights())));
            files.push((OPTIMIZER.into(), Content::Tensors(moments)));
        }
        files.push(("protocol.toml".into(), self.study.text.clone().into_bytes().into()));
        Ok(files)
    }

    fn is_last(&self, found: &Checkpoint) -> Result<bool> {
        let position = found.state::<TaskState>()?.position;
        Ok(position.step >= self.study.spec.training.steps_of(self.place.task))
    }

    /// Broken between its last checkpoint and the end of the stage: there is nothing left to learn.
    fn ended(&self, found: Checkpoint, session: &mut Session) -> Result<Checkpoint> {
        let state: TaskState = found.state()?;
        self.expect(&state, &found, session)?;
        session.resume_stage(state.journals, &state.contents)?;
        // A kill may have come between this checkpoint and the removal of the one before it.
        checkpoint::retire_others(&self.folder, &found)?;
        Ok(found)
    }

    fn resume<'a>(
        &self,
        job: Job<'a, AnyNetwork>,
        found: &Checkpoint,
        session: &mut Session,
    ) -> Result<Trainer<'a, AnyNetwork>> {
        let state: TaskState = found.state()?;
        self.expect(&state, found, session)?;
        session.resume_stage(state.journals, &state.contents)?;
        let system = &self.study.system;
        let read = |name: &str| system.load(&found.path().join(name), &self.study.device);
        let (store, average) = (read(RAW)?, read(system.result_file())?);
        let declared = Optimizer::declarations(&self.study.system.declarations);
        let path = found.path().join(OPTIMIZER);
        let moments =
            weights::load(&declared, &[path], str::to_string, DType::F32, &self.study.device)?;
        let optimizer = Optimizer::restored(&moments.store, state.position.step)?;
        Ok(Trainer::resumed(job, store, average, optimizer, state.position)?)
    }

    fn expect(&self, state: &TaskState, found: &Checkpoint, session: &Session) -> Result<()> {
        // A checkpoint that was made before an edit of the protocol belongs to the run all the same.
        let now = digest(&self.study.text);
        let protocol = if session.knows_protocol(&state.protocol) { &state.protocol } else { &now };
        let untrustworthy = |error| Fault::Untrustworthy.because(error);
        expect_same("protocol", &state.protocol, protocol, found).map_err(untrustworthy)?;
        state.expect(&self.place, &self.study.images.digest(), found).map_err(untrustworthy)
    }
}

fn is_over(trainer: &Trainer<AnyNetwork>) -> bool {
    trainer.position().step >= trainer.steps()
}

/// The words of a draw, as the continual room wants them.
pub fn words(seed: Seed) -> impl Fn(DrawKey) -> Box<dyn FnMut() -> u64> {
    move |key| {
        let mut draws = seed.task_stream(key.stream.name(), key.task).at(0, key.index);
        Box::new(move || draws.bits64())
    }
}

/// Whose checkpoint is asked for.
#[derive(Clone, Copy)]
pub enum Of<'a> {
    /// That of a place in the folder of a run: it must belong to both.
    Run(&'a Path, &'a Place),
    /// Whatever was learned in a folder.
    Folder(&'a Path),
}

/// What helps where a checkpoint is damaged.
fn or_else(remedy: &str) -> impl Fn(TrainError) -> anyhow::Error {
    move |error| match error {
        TrainError::Damaged { .. } => Fault::Untrustworthy.because(anyhow!("{error}, or {remedy}")),
        other => other.into(),
    }
}

/// The last checkpoint of a task that is not finished, in the folder that this process holds: what it has learned can be
/// learned again.
///
/// # Errors
/// When it is damaged.
pub fn begun(folder: &Path) -> Result<Option<Checkpoint>> {
    let remedy = format!("delete {} to learn this task again", folder.display());
    checkpoint::latest(folder).map_err(or_else(&remedy))
}

/// The checkpoint of a finished task, read through, and what it remembers.
///
/// # Errors
/// When there is none, or it is damaged, or it was written for another task, another step or other data.
pub fn finished(study: &Study, of: Of) -> Result<(Checkpoint, TaskState)> {
    let folder = match of {
        Of::Run(folder, place) => &place.folder(folder),
        Of::Folder(folder) => folder,
    };
    let untrustworthy = |error| Fault::Untrustworthy.because(error);
    let remedy = "begin anew with another --out";
    let found = checkpoint::furthest(folder).map_err(or_else(remedy))?.ok_or_else(|| {
        untrustworthy(anyhow!(
            "{}: the task is finished, but its checkpoint is gone; begin anew with another --out",
            folder.display()
        ))
    })?;
    let state: TaskState = found.state()?;
    let data = study.images.digest();
    match of {
        Of::Folder(folder) => {
            if !expect_left(folder, &found)? {
                return Err(Fault::Missing.because(anyhow!(
                    "{}: its task is not finished, at step {}; run the command that learns it again, to its end",
                    found.path().display(),
                    state.position.step
                )));
            }
            state.expect(&state.place, &data, &found).map_err(untrustworthy)?;
        }
        Of::Run(folder, place) => {
            state.expect(place, &data, &found).map_err(untrustworthy)?;
            Progress::read(folder)?.expect_left(place, &found)?;
        }
    }
    Ok((found, state))
}

/// The furthest checkpoint `found` in a task's `folder` is of the step that it is called after, and what the run around it, or
/// the work of that folder itself, says that the task left. Returns whether the task is finished; what has no run around it is
/// believed.
///
/// # Errors
/// 77 when it is not.
pub fn expect_left(folder: &Path, found: &Checkpoint) -> Result<bool> {
    // What is no task's has no such state.
    let Ok(state) = found.state::<TaskState>() else { return Ok(true) };
    state.expect_step(found).map_err(otherwise(Fault::Untrustworthy))?;
    let whole = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let Some(run) = whole.ancestors().find(|above| is_run(above)) else { return Ok(true) };
    let (progress, place) = (Progress::read(run)?, whole.strip_prefix(run)?.display().to_string());
    let place = if place.is_empty() { state.place.key() } else { place };
    match progress.checkpoints.get(&place) {
        Some(left) if left != found.digest() => Err(elsewhere(found)),
        left => Ok(left.is_some()),
    }
}

/// The same, with a word where the task is not finished.
///
/// # Errors
/// As [`expect_left`].
pub fn expect_left_or_note(folder: &Path, found: &Checkpoint) -> Result<()> {
    if !expect_left(folder, found)? {
        note(&format!(
            "{}: its task is not finished; these are its weights so far",
            found.path().display()
        ));
    }
    Ok(())
}

/// What a finished task left: its weights, and what its checkpoint remembers.
///
/// # Errors
/// As [`finished`], and when the weights do not fit the network.
pub fn result(study: &Study, of: Of) -> Result<(ParamStore, TaskState)> {
    let (found, state) = finished(study, of)?;
    let path = found.path().join(study.system.result_file());
    Ok((study.system.load(&path, &study.device)?, state))
}
