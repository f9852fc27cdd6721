//! Reading a run folder: four files of the ledger room, and images that may be there.

use crate::error::{Error, Result};
use crate::sprite::{Picture, Sheet};
use crate::stages::Stages;
use crate::study::Study;
use lethe_ledger::{
    ExampleTable, Ledger, RunManifest, TrainingLog, TrainingRecord, digest, durable,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A run folder, read and cross-checked.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    pub(crate) study: Study,
    /// Empty if there is no `training.jsonl`.
    pub(crate) training: Vec<TrainingRecord>,
    /// What a reader must know about the files: that the run is not finished, lines that were being written.
    pub(crate) notices: Vec<String>,
    /// Name and digest of the files that the page was made from.
    pub(crate) digests: Vec<(&'static str, String)>,
    /// Those that may be shown, where not all may.
    images: Option<BTreeSet<String>>,
}

impl RunFolder {
    /// Reads everything but the images; `stages` are those of a run that is not finished.
    pub(crate) fn open(path: &Path, stages: Option<&Stages>) -> Result<Self> {
        let manifest = RunManifest::load(path.join("run.json"))?;
        let examples = ExampleTable::load(path.join("examples.json"))?;
        let mut notices = Vec::new();
        let ledger = path.join("ledger.jsonl");
        let committed = stages.and_then(|stages| stages.committed).unwrap_or([u64::MAX; 2]);
        let (measurements, torn) = Ledger::read_until(&ledger, committed[0])?;
        notices.extend(torn_notice("ledger.jsonl", torn));
        let study = Study::new(manifest, examples, stages, &measurements, &ledger)?;
        notices.extend(stages.map(|stages| unfinished_notice(&study, stages)));
        let training = read_training(path, committed[1], &mut notices)?;
        let digests = digests(path, committed)?;
        let images = stages.and_then(|stages| stages.images.clone());
        Ok(Self { path: path.to_owned(), study, training, notices, digests, images })
    }

    /// The sheet of all examples as they are.
    pub(crate) fn originals(&self) -> Result<Option<Sheet>> {
        self.shown("images/examples.png".into()).map_or(Ok(None), |path| self.sheet(&path))
    }

    /// The sheet of all examples, reconstructed after task `task` of an arm.
    pub(crate) fn reconstructions(&self, run: &str, arm: &str, task: u32) -> Result<Option<Sheet>> {
        match self.image(run, arm, task, "reconstruction") {
            Some(path) => self.sheet(&path),
            None => Ok(None),
        }
    }

    /// What the model drew after task `task` of an arm.
    pub(crate) fn samples(&self, run: &str, arm: &str, task: u32) -> Result<Option<Picture>> {
        match self.image(run, arm, task, "samples") {
            Some(path) => Picture::load(&path),
            None => Ok(None),
        }
    }

    fn sheet(&self, path: &Path) -> Result<Option<Sheet>> {
        let n_tiles = self.study.examples().len();
        Sheet::load(path, &self.study.manifest().images, n_tiles)
    }

    /// Path of an image; none where a name would lead out of the folder.
    fn image(&self, run: &str, arm: &str, task: u32, what: &str) -> Option<PathBuf> {
        let is_plain =
            |name: &str| !name.contains(['/', '\\', '\0']) && name != ".." && name != ".";
        let file = format!("{arm}-task{task}-{what}.png");
        let is_within = is_plain(run) && is_plain(&file);
        is_within.then(|| format!("images/{run}/{file}")).and_then(|name| self.shown(name))
    }

    /// Path of the image `name`, if it may be shown.
    fn shown(&self, name: String) -> Option<PathBuf> {
        let may_be = self.images.as_ref().is_none_or(|images| images.contains(&name));
        may_be.then(|| self.path.join(name))
    }
}

fn read_training(
    folder: &Path,
    length: u64,
    notices: &mut Vec<String>,
) -> Result<Vec<TrainingRecord>> {
    let path = folder.join("training.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let (training, torn) = TrainingLog::read_until(&path, length)?;
    notices.extend(torn_notice("training.jsonl", torn));
    expect_each_step_once(&training, path)?;
    Ok(training)
}

/// A run that goes on cuts the log back first: a step that stands there twice was put there.
fn expect_each_step_once(training: &[TrainingRecord], path: PathBuf) -> Result<()> {
    let mut seen = BTreeSet::new();
    let key = |record: &TrainingRecord| {
        (record.run.clone(), record.arm.clone(), record.task, record.step)
    };
    match training.iter().find(|record| !seen.insert(key(record))) {
        None => Ok(()),
        Some(TrainingRecord { run, arm, task, step, .. }) => {
            let got = format!("step {step} of task {task} twice, run {run}, arm {arm}");
            Err(Error::Inconsistent { path, field: "step", expected: "each once".into(), got })
        }
    }
}

fn unfinished_notice(study: &Study, stages: &Stages) -> String {
    let left_out: Vec<&str> = study.left_out().iter().map(|left| left.run.as_str()).collect();
    let left_out = match left_out.as_slice() {
        [] => String::new(),
        _ => format!(" Left out of every mean and verdict: {}.", left_out.join(", ")),
    };
    format!(
        "This run is not finished: {} of {} stages are measured, a stage being one task of one arm of one run.{left_out} To go on, run the same command again.",
        stages.measured.len(),
        stages.planned
    )
}

fn torn_notice(name: &str, bytes: u64) -> Option<String> {
    (bytes > 0).then(|| {
        format!(
            "The last line of {name} has no end ({bytes} bytes): the run was stopped while writing it. The line is left out here; resuming the run measures it again."
        )
    })
}

fn digests(folder: &Path, [ledger, training]: [u64; 2]) -> Result<Vec<(&'static str, String)>> {
    let mut digests = Vec::new();
    let files = [
        ("run.json", u64::MAX),
        ("examples.json", u64::MAX),
        ("ledger.jsonl", ledger),
        ("training.jsonl", training),
    ];
    for (name, length) in files {
        let path = folder.join(name);
        if path.exists() {
            durable::expect_file(&path)?;
            let bytes = fs::read(&path).map_err(Error::io(&path, "read"))?;
            let read = &bytes[..length.min(bytes.len() as u64) as usize];
            digests.push((name, digest(&String::from_utf8_lossy(read))));
        }
    }
    Ok(digests)
}
