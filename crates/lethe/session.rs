//! A run folder: one process at a time, journals that are cut back to what was committed, and the list of finished stages.
//!
//! Opening a folder cuts nothing: what was committed last is known only to the stage that goes on,
//! which may own a checkpoint that lies behind the last finished stage.

use crate::changes::{self, Edit};
use crate::exit::Fault;
use crate::meter::note;
use crate::study::Study;
use anyhow::{Context, Result, anyhow};
use lethe_ledger::{Ledger, Measurement, TrainingLog, TrainingRecord, digest, durable};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Format of `progress.json`.
const FORMAT: u32 = 1;

/// What is finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    format: u32,
    /// Digest of the resolved protocol and of the data.
    protocol: String,
    data: String,
    /// Digest of the weights that task 1 starts from, where the seed does not draw them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<String>,
    /// How the protocol was edited on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    edits: Vec<Edit>,
    /// Stages, in the order in which they were finished.
    done: Vec<String>,
    /// Lengths of the journals after the last of them.
    journals: Offsets,
}

/// `progress.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    progress: Progress,
    digest: String,
}

struct Journals {
    ledger: Ledger,
    training: TrainingLog,
}

/// Lengths of both journals in bytes: what a checkpoint remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offsets {
    /// Of the ledger.
    pub ledger: u64,
    /// Of the training log.
    pub training: u64,
}

/// An open run folder.
pub struct Session {
    folder: PathBuf,
    progress: Progress,
    /// What is measured and what training said, once a stage has said where they go on.
    journals: Option<Journals>,
    /// Held until the session ends; the operating system lets go of it when the process dies.
    lock: File,
}

impl Drop for Session {
    /// Who ends in order leaves no name in the lock.
    fn drop(&mut self) {
        // A name that stays tells the next one of a holder that is gone, no more.
        let _ = self.lock.set_len(0);
    }
}

impl Session {
    /// Opens `folder` for `study`, or begins it; fields of the protocol that are `allowed` by name may have changed.
    ///
    /// # Errors
    /// When another process holds the run, or the folder belongs to another protocol, other data or other weights.
    pub fn open(folder: &Path, study: &Study, allowed: &[String]) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| {
            Fault::Held.because(anyhow!("{}: cannot create: {error}", folder.display()))
        })?;
        let lock = lock(&folder.join("lock"))?;
        let progress = begin_or_continue(folder, study, allowed)?;
        Ok(Self { folder: folder.to_path_buf(), progress, journals: None, lock })
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
        let earlier = self.progress.edits.iter().map(|edit| edit.protocol.as_str());
        earlier.chain([self.progress.protocol.as_str()]).any(|known| known == digest)
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
        self.progress.journals = self.commit()?;
        self.progress.done.push(name.to_string());
        save(&self.folder, &self.progress)
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

    /// Waits until the journals are on the disk, and says how long they are.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn commit(&mut self) -> Result<Offsets> {
        let Journals { ledger, training } = self.journals()?;
        ledger.sync()?;
        training.sync()?;
        Ok(Offsets { ledger: ledger.offset(), training: training.offset() })
    }

    fn journals(&mut self) -> Result<&mut Journals> {
        self.journals.as_mut().context("a stage writes before it has said where the journals go on")
    }

    /// Goes on at a checkpoint within a stage: cuts the journals back to what they held then.
    ///
    /// # Errors
    /// When they are shorter than that: the files do not belong together.
    pub fn resume_stage(&mut self, at: Offsets) -> Result<()> {
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
        self.journals = Some(Journals {
            ledger: Ledger::resume(self.folder.join("ledger.jsonl"), at.ledger)?,
            training: TrainingLog::resume(self.folder.join("training.jsonl"), at.training)?,
        });
        Ok(())
    }

    /// Begins a stage: cuts the journals back to what they held after the last finished one.
    ///
    /// # Errors
    /// When a journal is damaged or shorter than that.
    pub fn begin_stage(&mut self) -> Result<()> {
        self.resume_stage(self.progress.journals)
    }
}

/// Takes the lock file, or says who holds it.
fn lock(path: &Path) -> Result<File> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(
            |error| Fault::Held.because(anyhow!("{}: cannot open: {error}", path.display())),
        )?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(held(path, file));
    }
    let mut before = String::new();
    // Who held it before is worth a line, not a failure.
    let _ = file.read_to_string(&mut before);
    if !before.trim().is_empty() {
        let folder = path.parent().unwrap_or(path).display();
        note(&format!("{folder}: taken over from {}, which did not end in order", before.trim()));
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "process {} on {}", std::process::id(), host.trim())?;
        file.sync_all()
    };
    write(&mut file).map_err(|error| {
        Fault::Disk.because(anyhow!("{}: cannot write: {error}", path.display()))
    })?;
    Ok(file)
}

/// Who holds the lock file `path`.
fn held(path: &Path, mut file: File) -> anyhow::Error {
    let mut holder = String::new();
    // Who it is helps; not knowing it changes nothing.
    let _ = file.read_to_string(&mut holder);
    let folder = path.parent().unwrap_or(path).display();
    let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
    Fault::Held.because(anyhow!(
        "{folder}: the run is locked by {holder}; wait for it or give another --out"
    ))
}

fn begin_or_continue(folder: &Path, study: &Study, allowed: &[String]) -> Result<Progress> {
    let path = folder.join("protocol.toml");
    let kept = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot read", path.display()));
        }
    };
    let fresh = Progress {
        format: FORMAT,
        protocol: digest(&study.text),
        data: study.images.digest(),
        weights: study.weights.clone(),
        edits: Vec::new(),
        done: Vec::new(),
        journals: Offsets { ledger: 0, training: 0 },
    };
    match kept {
        None => {
            refuse_strangers(folder)?;
            durable::write_file(&path, study.text.as_bytes())?;
            save(folder, &fresh)?;
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
    let before = digest(kept);
    if let Ok(progress) = load(folder, fresh, &fresh.protocol) {
        let is_made = progress.edits.last().is_some_and(|edit| edit.protocol == before);
        if is_made {
            return Ok(progress);
        }
    }
    let path = folder.join("protocol.toml");
    let changes = changes::between(kept, &study.text)
        .map_err(|error| Fault::Untrustworthy.because(anyhow!("{}: {error}", path.display())))?;
    changes::expect_allowed(&path, &changes, allowed)?;
    let mut progress = load(folder, fresh, &before)?;
    progress.edits.push(Edit { behind: progress.done.len(), protocol: before, changes });
    progress.protocol = fresh.protocol.clone();
    save(folder, &progress)?;
    Ok(progress)
}

/// A folder without a protocol must not hold a journal: it would be cut.
fn refuse_strangers(folder: &Path) -> Result<()> {
    for name in ["ledger.jsonl", "training.jsonl", "progress.json"] {
        if folder.join(name).exists() {
            let path = folder.join(name);
            return Err(Fault::Held.because(anyhow!(
                "{}: there is no protocol.toml beside it, so it is not known whose it is; give another --out",
                path.display()
            )));
        }
    }
    Ok(())
}

/// What is finished in `folder`, of a run of `protocol` with the data and weights that are `expected`.
fn load(folder: &Path, expected: &Progress, protocol: &str) -> Result<Progress> {
    let path = folder.join("progress.json");
    let untrustworthy =
        |reason: String| Fault::Untrustworthy.because(anyhow!("{}: {reason}", path.display()));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        // Killed between the two first files of a run.
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && !folder.join("ledger.jsonl").exists() =>
        {
            save(folder, expected)?;
            return Ok(expected.clone());
        }
        Err(error) => return Err(untrustworthy(format!("cannot read: {error}"))),
    };
    let progress = parse(&path, &text)?;
    if progress.protocol != protocol {
        return Err(untrustworthy(
            "it belongs to another protocol than the protocol.toml beside it".into(),
        ));
    }
    if progress.data != expected.data {
        return Err(untrustworthy(format!(
            "the data have changed since the run was begun: digest {:.12}… then, {:.12}… now",
            progress.data, expected.data
        )));
    }
    if progress.weights != expected.weights {
        let digest = |weights: &Option<String>| weights.clone().unwrap_or("none".into());
        return Err(untrustworthy(format!(
            "the weights that task 1 starts from have changed since the run was begun: digest {:.12}… then, {:.12}… now",
            digest(&progress.weights),
            digest(&expected.weights)
        )));
    }
    Ok(progress)
}

/// `progress.json`, as it was written.
fn parse(path: &Path, text: &str) -> Result<Progress> {
    let untrustworthy =
        |reason: String| Fault::Untrustworthy.because(anyhow!("{}: {reason}", path.display()));
    let Kept { progress, digest: kept } =
        serde_json::from_str(text).map_err(|error| untrustworthy(error.to_string()))?;
    if digest(&serde_json::to_string(&progress)?) != kept {
        return Err(untrustworthy("it is not as it was written".into()));
    }
    if progress.format != FORMAT {
        return Err(untrustworthy(format!(
            "format {} is not {FORMAT}: another version of lethe wrote it",
            progress.format
        )));
    }
    Ok(progress)
}

/// How a run stands, for those who only look.
pub struct Standing {
    /// Stages that are finished.
    pub done: Vec<String>,
    /// Lengths of the journals after the last of them.
    pub journals: Offsets,
    /// Digest of the protocol, and of those before an edit.
    pub protocols: Vec<String>,
    /// Digest of the data.
    pub data: String,
    /// Digest of the weights that task 1 started from.
    pub weights: Option<String>,
}

/// Reads how the run in `folder` stands, and changes nothing.
///
/// # Errors
/// When another process holds it, or its `progress.json` is missing or not as it was written.
pub fn standing(folder: &Path) -> Result<Standing> {
    let path = folder.join("lock");
    if let Ok(file) = File::open(&path) {
        let free = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
        if free.is_err() {
            return Err(held(&path, file));
        }
    }
    let path = folder.join("progress.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{}: cannot read", path.display()))?;
    let Progress { protocol, data, weights, edits, done, journals, .. } = parse(&path, &text)?;
    let protocols = [protocol].into_iter().chain(edits.into_iter().map(|edit| edit.protocol));
    Ok(Standing { done, journals, protocols: protocols.collect(), data, weights })
}

fn save(folder: &Path, progress: &Progress) -> Result<()> {
    let kept =
        Kept { progress: progress.clone(), digest: digest(&serde_json::to_string(progress)?) };
    let text = serde_json::to_string_pretty(&kept)? + "\n";
    Ok(durable::write_file(folder.join("progress.json"), text.as_bytes())?)
}
