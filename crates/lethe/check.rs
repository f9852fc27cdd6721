//! Whether a run is complete, and every file of it as it was written: what one asks before believing its numbers.

use crate::alone::MEASURED;
use crate::exit::{Fault, fault_of, in_words, otherwise};
use crate::given;
use crate::hold;
use crate::learn::{Place, TaskState};
use crate::leftover::Leftover;
use crate::progress::Progress;
use crate::protocol;
use crate::whole::temporary;
use anyhow::{Context, Result, anyhow, ensure};
use lethe_ledger::{
    ExampleTable, Ledger, Measurement, RunManifest, TrainingLog, TrainingRecord, durable,
    write_parquet,
};
use lethe_report::Stages;
use lethe_train::checkpoint;
use std::fs;
use std::path::{Path, PathBuf};

/// What a run's own folder holds beside its lessons.
const OWN: &str = "report.html tables ledger.parquet ledger.jsonl training.jsonl examples.json run.json progress.json \
                   protocol.toml images lock model";

/// The last stage of a run and of a measurement: what is made of the ledger.
pub const WRITTEN: &str = "written";

/// What a page's tables are called.
const TABLES: &str =
    "arms.csv claims.csv correlations.csv deciles.csv task_matrix.csv trainings.csv";

/// What is looked at, together.
struct Looking<'a> {
    folder: &'a Path,
    manifest: RunManifest,
    progress: Progress,
    /// Whether every stage is finished.
    is_complete: bool,
}

/// A lesson of the run, and what its stages are called.
struct Expected {
    place: Place,
    stages: [String; 2],
}

/// Looks at the run in `folder` and tells each finding in a line; changes nothing.
///
/// # Errors
/// 66 where there is no run, 73 where another process holds it, 75 where it is not finished, and 77 where something is not
/// as it was written; the lines say what.
pub fn check(folder: &Path, tell: impl Fn(&str)) -> Result<()> {
    let manifest = RunManifest::load(folder.join("run.json")).map_err(|error| match error {
        lethe_ledger::Error::Io { .. } => Fault::Missing
            .because(anyhow!("{error}; expected the folder of a run, such as runs/fashion")),
        other => other.into(),
    })?;
    hold::expect_free(folder)?;
    let progress = Progress::read(folder).inspect_err(|error| {
        tell(&format!(
            "BAD  progress.json: {}; without it nothing else can be judged",
            in_words(error)
        ));
    })?;
    let missing = missing(&manifest, &progress);
    let looking = Looking { folder, manifest, progress, is_complete: missing.is_empty() };
    looking.expect_no_edit()?;
    let (mut damages, mut unseen) = (0, 0);
    let mut told = |what: &str, outcome: Result<String>| match outcome {
        Ok(words) => tell(&format!("ok   {what}: {words}")),
        // Nothing is said of what could not be looked at.
        Err(error) if fault_of(&error) == Fault::Disk => {
            unseen += 1;
            tell(&format!("?    {what}: {}", in_words(&error)));
        }
        Err(error) => {
            damages += 1;
            tell(&format!("BAD  {what}: {}", in_words(&error)));
        }
    };
    told("protocol and data", looking.digests());
    told("examples.json", looking.examples());
    told("journals", looking.journals());
    told("ledger.jsonl", looking.ledger());
    told("training.jsonl", looking.training());
    told("images", looking.images());
    if !looking.progress.work.is_probe() {
        told("checkpoints", looking.checkpoints());
    }
    if looking.has_made_model() {
        told("model", looking.model());
    }
    if looking.is_complete {
        told("ledger.parquet", looking.parquet());
    }
    if looking.is_complete && !looking.progress.work.is_probe() {
        told("report.html and tables", looking.report());
    }
    for stray in looking.strays()? {
        tell(&format!("note {}: no file of this run", stray.escape_debug()));
    }
    if damages > 0 {
        return Err(Fault::Untrustworthy.because(anyhow!(
            "{}: {damages} of the above are not as they were written",
            folder.display()
        )));
    }
    if unseen > 0 {
        return Err(Fault::Disk.because(anyhow!(
            "{}: {unseen} of the above could not be looked at",
            folder.display()
        )));
    }
    if let Some(next) = missing.first() {
        return Err(Fault::Interrupted.because(anyhow!(
            "{}: not finished: {} stages are left, the next is {next}; run the same command again",
            folder.display(),
            missing.len()
        )));
    }
    tell("the run is complete, and every file of it is as it was written");
    Ok(())
}

/// What is measured of the run in `folder`, of which a page may be made; nothing where it is finished.
///
/// # Errors
/// 77 when `progress.json` is gone, or a file that a page is made of is not the one that the run wrote.
pub fn standing(folder: &Path) -> Result<Option<Stages>> {
    let progress = Progress::load(folder)?;
    let manifest = RunManifest::load(folder.join("run.json"))?;
    if progress.done.is_empty() {
        return Err(Fault::Interrupted.because(anyhow!(
            "{}: nothing is measured yet; run the same command again",
            folder.display()
        )));
    }
    progress.expect_contents(folder)?;
    progress.expect_examples(folder)?;
    let standing = standing_of(&manifest, &progress);
    let looking = Looking { folder, manifest, progress, is_complete: standing.is_none() };
    looking.expect_no_edit()?;
    looking.digests().map_err(otherwise(Fault::Untrustworthy))?;
    if looking.is_complete {
        looking.expect_own_images().map_err(otherwise(Fault::Untrustworthy))?;
        looking.expect_lengths().map_err(otherwise(Fault::Untrustworthy))?;
    }
    Ok(standing)
}

/// The lessons that are measured; nothing where the work is finished.
pub fn standing_of(manifest: &RunManifest, progress: &Progress) -> Option<Stages> {
    if unmeasured(manifest, progress).is_empty() {
        return None;
    }
    let is_measured = |lesson: &Expected| progress.done.contains(&lesson.stages[1]);
    let stage = |Expected { place: Place { run, arm, task, .. }, .. }| (run, arm, task);
    let all = lessons(manifest);
    let planned = all.len();
    let measured = all.into_iter().filter(is_measured).map(stage).collect();
    let committed = Some([progress.journals.ledger, progress.journals.training]);
    let images = Some(progress.images.keys().cloned().collect());
    Some(Stages { planned, measured, committed, images })
}

/// Every lesson of a run, in the order of learning.
fn lessons(manifest: &RunManifest) -> Vec<Expected> {
    let lesson = |place: Place| {
        let name = format!("{}/{}/task-{}", place.run, place.arm, place.task);
        let stages = [format!("{name}/train"), format!("{name}/measure")];
        Expected { place, stages }
    };
    let mut all = Vec::new();
    for run in &manifest.runs {
        let first = Place::first(run.seed);
        let later = |arm: &String, task: u32| Place { arm: arm.clone(), task, ..first.clone() };
        all.push(lesson(first.clone()));
        for arm in &manifest.arms {
            all.extend((2..=manifest.tasks.len() as u32).map(|task| lesson(later(arm, task))));
        }
    }
    all
}

/// Whether every stage of the run in `folder` is finished, as far as its `run.json` says.
pub fn is_finished(folder: &Path, progress: &Progress) -> bool {
    let manifest = RunManifest::load(folder.join("run.json"));
    manifest.is_ok_and(|manifest| {
        manifest.protocol_digest == progress.protocol && missing(&manifest, progress).is_empty()
    })
}

/// Stages that are not finished, the writing of what is made of the ledger among them.
fn missing(manifest: &RunManifest, progress: &Progress) -> Vec<String> {
    let mut missing = unmeasured(manifest, progress);
    missing
        .extend((!progress.done.iter().any(|done| done == WRITTEN)).then(|| WRITTEN.to_string()));
    missing
}

/// Stages of learning and measuring that are not finished.
fn unmeasured(manifest: &RunManifest, progress: &Progress) -> Vec<String> {
    if progress.work.is_probe() {
        let only = MEASURED.to_string();
        return if progress.done.contains(&only) { Vec::new() } else { vec![only] };
    }
    let data = manifest.runs.iter().map(|run| format!("{}/data", run.run));
    let lessons = lessons(manifest).into_iter().flat_map(|lesson| lesson.stages);
    data.chain(lessons).filter(|stage| !progress.done.contains(stage)).collect()
}

fn entry_is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

impl Looking<'_> {
    /// A run that was stopped while it took over an edited protocol has said so in `progress.json`, and not everywhere else.
    fn expect_no_edit(&self) -> Result<()> {
        let Self { manifest, progress, .. } = self;
        let is_old = |digest: &str| digest != progress.protocol && progress.knows_protocol(digest);
        let text = durable::read_text(self.folder.join("protocol.toml")).unwrap_or_default();
        if !is_old(&lethe_ledger::digest(&text)) && !is_old(&manifest.protocol_digest) {
            return Ok(());
        }
        Err(Fault::Interrupted.because(anyhow!(
            "{}: an edit of the protocol was broken off; run the edited protocol again, with its --allow-change",
            self.folder.display()
        )))
    }

    /// Every image is one that the run drew; one of a stage that was broken off is drawn again.
    fn expect_own_images(&self) -> Result<()> {
        let mut ahead = vec![self.folder.join("images")];
        while let Some(folder) = ahead.pop().filter(|folder| folder.is_dir()) {
            for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let path = entry?.path();
                let name = path.strip_prefix(self.folder)?.display().to_string();
                let is_hidden = entry_is_hidden(&path);
                // No other is shown on the page.
                let is_image = path.extension().is_some_and(|end| end == "png");
                ensure!(
                    is_hidden || !is_image || self.progress.images.contains_key(&name),
                    "{}: the run drew no such image; move it away",
                    path.display()
                );
                ahead.extend((path.is_dir() && !is_hidden).then_some(path));
            }
        }
        Ok(())
    }

    fn expect_lengths(&self) -> Result<()> {
        self.expect_length("ledger.jsonl", self.progress.journals.ledger)?;
        self.expect_length("training.jsonl", self.progress.journals.training)
    }

    fn digests(&self) -> Result<String> {
        let Self { manifest, progress, .. } = self;
        let path = self.folder.join("protocol.toml");
        let text = durable::read_text(&path)?;
        ensure!(text == manifest.protocol, "protocol.toml is not the protocol in run.json");
        let pairs = [
            ("protocol", Some(&progress.protocol), Some(&manifest.protocol_digest)),
            ("data", Some(&progress.data), Some(&manifest.data.digest)),
            ("model", progress.model.as_ref(), manifest.model.as_ref()),
        ];
        for (what, kept, run) in pairs {
            ensure!(
                kept == run,
                "the digest of the {what} is {} in progress.json and {} in run.json",
                kept.map_or("none", String::as_str),
                run.map_or("none", String::as_str)
            );
        }
        let changes = match manifest.changes.len() {
            0 => String::new(),
            n => format!("; edits of the protocol on the way: {n}"),
        };
        Ok(format!(
            "protocol {:.12}…, data {:.12}…{changes}",
            manifest.protocol_digest, manifest.data.digest
        ))
    }

    /// A journal of a finished run ends where it was committed last; one of an unfinished run may be longer.
    fn expect_length(&self, name: &str, committed: u64) -> Result<()> {
        let path = self.folder.join(name);
        if committed == 0 && !path.exists() {
            return Ok(());
        }
        let length = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        let fits = length == committed || (!self.is_complete && length > committed);
        ensure!(fits, "{name}: expected {committed} bytes, got {length}");
        Ok(())
    }

    fn measurements(&self) -> Result<Vec<Measurement>> {
        let path = self.folder.join("ledger.jsonl");
        let read = if self.is_complete {
            Ledger::read(path)?
        } else {
            Ledger::read_until(path, self.progress.journals.ledger)?.0
        };
        Ok(read)
    }

    /// Whether the journal `name` is still to be begun.
    fn is_unbegun(&self, name: &str, committed: u64) -> bool {
        committed == 0 && !self.is_complete && !self.folder.join(name).exists()
    }

    fn ledger(&self) -> Result<String> {
        if self.is_unbegun("ledger.jsonl", self.progress.journals.ledger) {
            return Ok("none yet".into());
        }
        self.expect_length("ledger.jsonl", self.progress.journals.ledger)?;
        let measurements = self.measurements()?;
        let numbers: usize = measurements.iter().map(|one| one.values.len()).sum();
        Ok(format!("{numbers} numbers in {} lines", measurements.len()))
    }

    fn training(&self) -> Result<String> {
        if self.is_unbegun("training.jsonl", self.progress.journals.training) {
            return Ok("none yet".into());
        }
        self.expect_length("training.jsonl", self.progress.journals.training)?;
        let records: Vec<TrainingRecord> = TrainingLog::read_until(
            self.folder.join("training.jsonl"),
            self.progress.journals.training,
        )?
        .0;
        Ok(format!("{} lines", records.len()))
    }

    fn examples(&self) -> Result<String> {
        let path = self.folder.join("examples.json");
        // Training alone measures none, and of a run that was just begun it may not be there yet.
        if self.progress.examples.is_none() && !path.exists() {
            return Ok("none yet".into());
        }
        self.progress.expect_examples(self.folder)?;
        Ok(format!("{} are measured", ExampleTable::load(path)?.rows().len()))
    }

    fn journals(&self) -> Result<String> {
        self.progress.expect_contents(self.folder)?;
        Ok("they hold what was committed".into())
    }

    fn images(&self) -> Result<String> {
        self.progress.expect_images(self.folder)?;
        if self.is_complete {
            self.expect_own_images()?;
        }
        Ok(format!("{}, as they were drawn", self.progress.images.len()))
    }

    /// Whether the run made the model that it starts from, in its own folder.
    fn has_made_model(&self) -> bool {
        let spec = protocol::of_text(&self.manifest.protocol);
        spec.is_ok_and(|spec| spec.making().is_some()) && self.progress.model.is_some()
    }

    fn model(&self) -> Result<String> {
        let folder = self.folder.join("model");
        checkpoint::Checkpoint::open(&folder)?;
        let found = given::of_pipeline(&folder)?;
        let kept = self.progress.model.as_deref().unwrap_or("none");
        ensure!(found == kept, "{}: expected the digest {kept}, got {found}", folder.display());
        Ok("what the run started from".into())
    }

    /// What an unfinished lesson goes on from is of this run, and the journals hold what it has written.
    fn expect_begun(&self, place: &Place) -> Result<()> {
        let Some(found) = checkpoint::furthest(&place.folder(self.folder))? else { return Ok(()) };
        let state: TaskState = found.state()?;
        state.expect(place, &self.progress.data, &found)?;
        let is_known = self.progress.knows_protocol(&state.protocol);
        ensure!(is_known, "{}: it is of another protocol", found.path().display());
        self.expect_length("ledger.jsonl", state.journals.ledger)?;
        self.expect_length("training.jsonl", state.journals.training)?;
        state.contents.expect(self.folder, state.journals)
    }

    /// Every finished lesson left one, whole, and of this run.
    fn checkpoints(&self) -> Result<String> {
        let mut whole = 0;
        for Expected { place, stages: [trained, _] } in lessons(&self.manifest) {
            if !self.progress.done.contains(&trained) {
                self.expect_begun(&place)?;
                continue;
            }
            let folder = place.folder(self.folder);
            let found = checkpoint::furthest(&folder)?
                .with_context(|| format!("{}: the checkpoint is gone", folder.display()))?;
            found.state::<TaskState>()?.expect(&place, &self.progress.data, &found)?;
            self.progress.expect_left(&place, &found)?;
            whole += 1;
        }
        Ok(format!("{whole}, every file of the digest that it was written with"))
    }

    /// What lies where only the run's own files are looked for, and is none of them.
    fn strays(&self) -> Result<Vec<String>> {
        let places: Vec<PathBuf> =
            lessons(&self.manifest).iter().map(|lesson| lesson.place.folder(self.folder)).collect();
        let tables = self.folder.join("tables");
        let mut parents: Vec<&Path> = places.iter().filter_map(|place| place.parent()).collect();
        parents.extend(places.iter().map(PathBuf::as_path));
        parents.extend([self.folder, &tables]);
        parents.sort();
        parents.dedup();
        let mut strays = Vec::new();
        for parent in parents.into_iter().filter(|parent| parent.is_dir()) {
            for entry in fs::read_dir(parent).with_context(|| parent.display().to_string())? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let is_of = |list: &str| list.split_whitespace().any(|own| own == name);
                let is_ours = places.iter().any(|place| place.starts_with(&path))
                    || (parent == self.folder && is_of(OWN))
                    || (parent == tables && is_of(TABLES))
                    || (places.iter().any(|place| place == parent) && name.starts_with("step-"))
                    || name.starts_with('.');
                if !is_ours {
                    strays.push(
                        path.strip_prefix(self.folder).unwrap_or(&path).display().to_string(),
                    );
                }
            }
        }
        strays.sort();
        Ok(strays)
    }

    /// Written again beside, and compared.
    fn parquet(&self) -> Result<String> {
        let examples = ExampleTable::load(self.folder.join("examples.json"))?;
        let temporary = temporary()?;
        let _leftover = Leftover::of(temporary.path());
        let again = temporary.path().join("ledger.parquet");
        write_parquet(&again, &self.manifest, &examples, &self.measurements()?)?;
        let path = self.folder.join("ledger.parquet");
        durable::expect_file(&path)?;
        let length = |path: &Path| fs::metadata(path).map(|found| found.len()).ok();
        let is_same = length(&path) == length(&again)
            && fs::read(&path).with_context(|| path.display().to_string())? == fs::read(&again)?;
        ensure!(is_same, "it is not what is made of run.json, examples.json and ledger.jsonl");
        Ok("the ledger's numbers".into())
    }

    fn report(&self) -> Result<String> {
        let stale = lethe_report::stale(self.folder, None)?;
        let names: Vec<String> = stale.iter().map(|path| path.display().to_string()).collect();
        ensure!(
            stale.is_empty(),
            "not what is made of the ledger now: {}; `lethe report` writes them again",
            names.join(", ")
        );
        Ok("what is made of the ledger".into())
    }
}
