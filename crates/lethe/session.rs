//! A run folder: one process at a time, journals that are cut back to what was committed, and the list of finished stages.
//!
//! Opening a folder cuts nothing: what was committed last is known only to the stage that goes on,
//! which may own a checkpoint that lies behind the last finished stage.

use crate::changes::{self, Edit};
use crate::check;
use crate::destination;
use crate::exit::Fault;
use crate::hold::{Hold, hold};
use crate::learn::Place;
use crate::meter::note;
use crate::progress::{Contents, FORMAT, Offsets, Progress, Work, is_run};
use crate::study::Study;
use anyhow::{Context, Result, anyhow};
use lethe_ledger::{
    ExampleTable, Ledger, Measurement, RunManifest, TrainingLog, TrainingRecord, digest, durable,
};
use lethe_report::Stages;
use lethe_train::checkpoint::Checkpoint;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

struct Journals {
    ledger: Ledger,
    training: TrainingLog,
}

/// An open run folder.
pub struct Session {
    folder: PathBuf,
    progress: Progress,
    /// What is measured and what training said, once a stage has said where they go on.
    journals: Option<Journals>,
    hold: Hold,
}

impl Session {
    /// Opens `folder` for `work` on `study`, or begins it; fields of the protocol that are `allowed` by name may have changed.
    ///
    /// # Errors
    /// When another process holds the run, or the folder belongs to other work, another protocol, other data or another model.
    pub fn open(folder: &Path, study: &Study, allowed: &[String], work: Work) -> Result<Self> {
        changes::expect_fields(allowed)?;
        expect_place(folder)?;
        let hold = hold(folder)?;
        let progress = begin_or_continue(folder, study, allowed, work, &hold)?;
        Ok(Self { folder: folder.to_path_buf(), progress, journals: None, hold })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the protocol was edited on the way.
    pub fn edits(&self) -> &[Edit] {
        &self.progress.edits
    }

    /// Whether `digest` is that of the protocol, as it is or as it was before an edit.
    pub fn knows_protocol(&self, digest: &str) -> bool {
        self.progress.knows_protocol(digest)
    }

    /// What is measured, of a run that goes on; nothing where it is finished, or where nothing has changed since its page was
    /// made.
    ///
    /// # Errors
    /// When `run.json` cannot be read.
    pub fn standing(&self) -> Result<Option<Stages>> {
        if self.journals.is_none() {
            return Ok(None);
        }
        let manifest = RunManifest::load(self.folder.join("run.json"))?;
        Ok(check::standing_of(&manifest, &self.progress))
    }

    /// Whether the stage `name` is finished.
    pub fn is_done(&self, name: &str) -> bool {
        self.progress.done.iter().any(|done| done == name)
    }

    /// Commits the journals and the stage `name`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(&mut self, name: &str) -> Result<()> {
        self.hold.expect_still()?;
        (self.progress.journals, self.progress.contents) = self.commit()?;
        self.progress.done.push(name.to_string());
        self.progress.save(&self.folder)
    }

    /// Writes `examples.json`, the table of what is measured; what it holds is committed with the stage that follows.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn measures(&mut self, examples: &ExampleTable) -> Result<()> {
        let path = self.folder.join("examples.json");
        examples.save(&path)?;
        self.progress.examples = Some(digest(&durable::read_text(&path)?));
        Ok(())
    }

    /// The same of a stage that may be finished already.
    ///
    /// # Errors
    /// As [`Session::finish`].
    pub fn finish_once(&mut self, name: &str) -> Result<()> {
        if self.is_done(name) { Ok(()) } else { self.finish(name) }
    }

    /// The lesson at `place` left the checkpoint `left`; it is committed with the stage that follows.
    pub fn left(&mut self, place: &Place, left: &Checkpoint) {
        self.progress.checkpoints.insert(place.key(), left.digest().to_string());
    }

    /// Appends to the ledger.
    ///
    /// # Errors
    /// When a number is not finite, or the disk refuses.
    pub fn measured(&mut self, measurement: &Measurement) -> Result<()> {
        Ok(self.journals()?.ledger.append(measurement)?)
    }

    /// Appends to the training log.
    ///
    /// # Errors
    /// When a number is not finite, or the disk refuses.
    pub fn trained(&mut self, record: &TrainingRecord) -> Result<()> {
        Ok(self.journals()?.training.append(record)?)
    }

    /// Writes the image `name`, a path within the folder; it is committed with the stage that draws it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn drew(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.hold.expect_still()?;
        let path = self.folder.join(name);
        if let Some(folder) = path.parent() {
            durable::make_folders(folder)
                .map_err(|error| Fault::Disk.because(anyhow!("{}: {error}", folder.display())))?;
        }
        durable::write_file(&path, bytes)?;
        self.progress.images.insert(name.to_string(), blake3::hash(bytes).to_hex().to_string());
        Ok(())
    }

    /// Waits until the journals are on the disk, and says how long they are and what they hold.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn commit(&mut self) -> Result<(Offsets, Contents)> {
        self.hold.expect_still()?;
        let Journals { ledger, training } = self.journals()?;
        ledger.sync()?;
        training.sync()?;
        let offsets = Offsets { ledger: ledger.offset(), training: training.offset() };
        Ok((offsets, Contents { ledger: ledger.digest(), training: training.digest() }))
    }

    fn journals(&mut self) -> Result<&mut Journals> {
        self.journals.as_mut().context("a stage writes before it has said where the journals go on")
    }

    /// Goes on at a checkpoint within a stage: cuts the journals back to what they held then.
    ///
    /// # Errors
    /// When they are shorter than that, or held something else: the files do not belong together.
    pub fn resume_stage(&mut self, at: Offsets, contents: &Contents) -> Result<()> {
        // Journals that this process writes itself are cut at every stage that it begins anew.
        if self.journals.is_none() {
            contents.expect(&self.folder, at)?;
            self.tell_of_uncommitted(at);
        }
        self.journals = Some(Journals {
            ledger: Ledger::resume(self.folder.join("ledger.jsonl"), at.ledger)?,
            training: TrainingLog::resume(self.folder.join("training.jsonl"), at.training)?,
        });
        Ok(())
    }

    fn tell_of_uncommitted(&self, at: Offsets) {
        for (name, at) in [("ledger.jsonl", at.ledger), ("training.jsonl", at.training)] {
            let path = self.folder.join(name);
            let more = fs::metadata(&path).map_or(0, |found| found.len().saturating_sub(at));
            if more > 0 {
                note(&format!(
                    "{}: {more} bytes were not committed when the run ended; they are cut and come again",
                    path.display()
                ));
            }
        }
    }

    /// Begins a stage: cuts the journals back to what they held after the last finished one.
    ///
    /// # Errors
    /// When a journal is damaged or shorter than that.
    pub fn begin_stage(&mut self) -> Result<()> {
        self.resume_stage(self.progress.journals, &self.progress.contents.clone())
    }
}

fn begin_or_continue(
    folder: &Path,
    study: &Study,
    allowed: &[String],
    work: Work,
    hold: &Hold,
) -> Result<Progress> {
    let path = folder.join("protocol.toml");
    // What is there and no text, or no file, was damaged: it is compared, and differs.
    let kept = match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        _ => Some(durable::read_text(&path).map_err(|error| Fault::Untrustworthy.because(error))?),
    };
    let fresh = Progress {
        format: FORMAT,
        work,
        protocol: digest(&study.text),
        data: study.images.digest(),
        model: study.given.clone(),
        examples: None,
        edits: Vec::new(),
        done: Vec::new(),
        journals: Offsets::default(),
        contents: Contents::of(folder, Offsets::default())?,
        checkpoints: BTreeMap::new(),
        images: BTreeMap::new(),
    };
    match kept {
        None => {
            expect_place(folder)?;
            // What is gone may have been moved away, and another run put in its place.
            hold.expect_still()?;
            durable::write_file(&path, study.text.as_bytes())?;
            fresh.save(folder)?;
            Ok(fresh)
        }
        Some(kept) if kept != study.text => {
            let progress = edited(folder, &kept, &fresh, study, allowed)?;
            durable::write_file(&path, study.text.as_bytes())?;
            Ok(progress)
        }
        Some(_) => load(folder, &fresh, &fresh.protocol),
    }
}

/// Takes an edited protocol where that may be, and records it first: a kill before the protocol itself is written finds
/// the edit made, and writes it.
fn edited(
    folder: &Path,
    kept: &str,
    fresh: &Progress,
    study: &Study,
    allowed: &[String],
) -> Result<Progress> {
    if is_bare(folder) {
        return Err(Fault::Held.because(anyhow!(
            "{}: it is there already, and not what this run would write; give another --out",
            folder.join("protocol.toml").display()
        )));
    }
    let (path, before) = (folder.join("protocol.toml"), digest(kept));
    let progress = Progress::load(folder)?;
    fresh.work.expect_same(folder, &progress.work)?;
    if progress.edits.last().is_some_and(|edit| edit.protocol == before) {
        return load(folder, fresh, &fresh.protocol);
    }
    if progress.protocol != before {
        return Err(Fault::Untrustworthy.because(anyhow!(
            "{}: it is not as it was written; restore it from a copy, or begin anew with another --out",
            path.display()
        )));
    }
    let changes = changes::between(kept, &study.text)
        .map_err(|error| Fault::Untrustworthy.because(anyhow!("{}: {error}", path.display())))?;
    if check::is_finished(folder, &progress) && !changes::grows(&changes) {
        return Err(Fault::Usage.because(anyhow!(
            "{}: the run is finished, and nothing would be computed with what changed:\n{}\nundo the change, or give another --out",
            path.display(),
            changes::in_words(&changes)
        )));
    }
    changes::expect_allowed(&path, &changes, allowed)?;
    let mut progress = load(folder, fresh, &before)?;
    // What is made of the ledger is made anew.
    progress.done.retain(|done| done != check::WRITTEN);
    progress.edits.push(Edit { behind: progress.done.len(), protocol: before, changes });
    progress.protocol = fresh.protocol.clone();
    progress.save(folder)?;
    Ok(progress)
}

/// What is written into a run's folder, beside its lessons, its lock, and a model that was made for it.
const WRITTEN: [&str; 10] = [
    "ledger.jsonl",
    "training.jsonl",
    "progress.json",
    "run.json",
    "examples.json",
    "ledger.parquet",
    "report.html",
    "tables",
    "images",
    "protocol.toml",
];

/// A folder that no run has begun must not hold what a run would write: it would be somebody's own. Nor may it lie in the
/// folder of another run.
///
/// # Errors
/// Names what is in the way.
pub fn expect_place(folder: &Path) -> Result<()> {
    if !is_run(folder) {
        destination::expect_outside_runs(folder)?;
        expect_no_run_within(folder)?;
    }
    let is_there = |name: &&str| folder.join(name).symlink_metadata().is_ok();
    // With a protocol it is begun, or killed just before, which is looked at when it is opened.
    let Some(name) = WRITTEN.iter().find(|name| is_there(name)) else { return Ok(()) };
    if is_there(&"protocol.toml") && (*name == "protocol.toml" || is_there(&"progress.json")) {
        return Ok(());
    }
    if is_there(&"progress.json") {
        return Err(Fault::Untrustworthy.because(anyhow!(
            "{}: it is gone from the folder of a run; restore it from a copy (run.json holds its text as `protocol`), or begin \
             anew with another --out",
            folder.join("protocol.toml").display()
        )));
    }
    let path = folder.join(name);
    Err(Fault::Held.because(anyhow!(
        "{}: it is there already, without the protocol.toml and the progress.json of a run, so that it is not known whose it is; \
         give another --out",
        path.display()
    )))
}

/// A run is not begun around another one.
fn expect_no_run_within(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    match entries.map(|entry| entry.path()).find(|inner| is_run(inner)) {
        None => Ok(()),
        Some(run) => Err(Fault::Held.because(anyhow!(
            "{}: it holds the folder of another run, {}; give another --out",
            folder.display(),
            run.display()
        ))),
    }
}

/// Whether the run was killed between its two first files: nothing is committed.
fn is_bare(folder: &Path) -> bool {
    let is_there = |name: &str| folder.join(name).symlink_metadata().is_ok();
    !is_there("progress.json") && !is_there("ledger.jsonl")
}

/// What is finished in `folder`, of a run of `protocol` with the data and the model that are `expected`.
fn load(folder: &Path, expected: &Progress, protocol: &str) -> Result<Progress> {
    let path = folder.join("progress.json");
    if is_bare(folder) {
        expected.save(folder)?;
        return Ok(expected.clone());
    }
    let progress = Progress::load(folder)?;
    expected.work.expect_same(folder, &progress.work)?;
    let untrustworthy =
        |reason: String| Err(Fault::Untrustworthy.because(anyhow!("{}: {reason}", path.display())));
    if progress.protocol != protocol {
        let how = match progress.edits.last() {
            None => "",
            Some(_) => {
                "; if an edit was just broken off, run that edited protocol again, with its --allow-change"
            }
        };
        return untrustworthy(format!(
            "it belongs to another protocol than the protocol.toml beside it{how}"
        ));
    }
    let word = |digest: &Option<String>| digest.clone().unwrap_or("none".into());
    let pairs = [
        ("the data have", Some(progress.data.clone()), Some(expected.data.clone())),
        ("the model that the run starts from has", progress.model.clone(), expected.model.clone()),
    ];
    for (what, then, now) in pairs {
        if then != now {
            return untrustworthy(format!(
                "{what} changed since the run was begun: digest {:.12}… then, {:.12}… now; put that back, or begin anew \
                 with another --out",
                word(&then),
                word(&now)
            ));
        }
    }
    progress.expect_contents(folder)?;
    Ok(progress)
}
