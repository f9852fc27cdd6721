//! A run folder: one process at a time, journals that are cut back to what was committed, and the list of finished stages.
//!
//! Opening a folder cuts nothing: what was committed last is known only to the stage that goes on,
//! which may own a checkpoint that lies behind the last finished stage.

use crate::exit::Fault;
use crate::protocol::difference;
use crate::study::Study;
use anyhow::{Context, Result, anyhow};
use lethe_ledger::{
    Ledger, Measurement, RunManifest, TrainingLog, TrainingRecord, digest, durable,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// Digest of the resolved protocol, and of the data with the model that the run starts from.
    protocol: String,
    data: String,
    /// Stages, in the order in which they were finished.
    done: Vec<String>,
    /// Lengths of the journals after the last of them.
    journals: Offsets,
    /// Digests of the images that they left, by their places in the folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    images: BTreeMap<String, String>,
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
    _lock: File,
}

impl Session {
    /// Opens `folder` for `study`, or begins it.
    ///
    /// # Errors
    /// When another process holds the run, or the folder belongs to another protocol or other data.
    pub fn open(folder: &Path, study: &Study) -> Result<Self> {
        let lock = hold(folder)?;
        let progress = begin_or_continue(folder, study)?;
        Ok(Self { folder: folder.to_path_buf(), progress, journals: None, _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
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

    /// Writes the image `name`, a path within the folder; it is committed with the stage that draws it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn drew(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|error| Fault::Disk.because(anyhow!("{}: {error}", folder.display())))?;
        }
        durable::write_file(&path, bytes)?;
        self.progress.images.insert(name.to_string(), blake3::hash(bytes).to_hex().to_string());
        Ok(())
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

/// Takes the run in `folder` for this process as long as the handle lives, or says who holds it.
///
/// # Errors
/// When another process holds it, or there is no place for the lock.
pub fn hold(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).map_err(|error| {
        Fault::Held.because(anyhow!("{}: cannot create: {error}", folder.display()))
    })?;
    let path = folder.join("lock");
    let path = path.as_path();
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(Fault::Held.because(anyhow!("{}: it is not a file", path.display())));
    }
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(
            |error| Fault::Held.because(anyhow!("{}: cannot open: {error}", path.display())),
        )?;
    let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    if let Err(error) = locked {
        if error != rustix::io::Errno::WOULDBLOCK {
            let error = anyhow!("{}: cannot lock: {error}", path.display());
            return Err(Fault::Disk.because(error));
        }
        let mut holder = String::new();
        // Who it is helps; not knowing it changes nothing.
        let _ = file.read_to_string(&mut holder);
        return Err(Fault::Held.because(anyhow!(
            "{}: the run is locked by {}; wait for it or give another --out",
            folder.display(),
            if holder.trim().is_empty() { "another process" } else { holder.trim() }
        )));
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

fn begin_or_continue(folder: &Path, study: &Study) -> Result<Progress> {
    let path = folder.join("protocol.toml");
    // What is there and no text, or no file, was damaged: it is compared, and differs.
    let kept = match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        _ => Some(durable::read_text(&path).map_err(|error| Fault::Untrustworthy.because(error))?),
    };
    let fresh = Progress {
        format: FORMAT,
        protocol: digest(&study.text),
        data: study.given.clone(),
        done: Vec::new(),
        journals: Offsets { ledger: 0, training: 0 },
        images: BTreeMap::new(),
    };
    match kept {
        None => {
            refuse_strangers(folder)?;
            durable::write_file(&path, study.text.as_bytes())?;
            save(folder, &fresh)?;
            Ok(fresh)
        }
        Some(kept) if kept != study.text => Err(Fault::Usage.because(anyhow!(
            "{}: the run was begun with another protocol; go on with that one, or give another --out:\n{}",
            path.display(),
            difference(&kept, &study.text)
        ))),
        Some(_) => load(folder, &fresh),
    }
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

fn load(folder: &Path, expected: &Progress) -> Result<Progress> {
    let path = folder.join("progress.json");
    let untrustworthy =
        |reason: String| Fault::Untrustworthy.because(anyhow!("{}: {reason}", path.display()));
    // Killed between the two first files of a run.
    if path.symlink_metadata().is_err() && !folder.join("ledger.jsonl").exists() {
        save(folder, expected)?;
        return Ok(expected.clone());
    }
    let text = durable::read_text(&path).map_err(|error| Fault::Untrustworthy.because(error))?;
    let progress = parse(&path, &text)?;
    expect_images(folder, &progress)?;
    if progress.protocol != expected.protocol {
        return Err(untrustworthy(
            "it belongs to another protocol than the protocol.toml beside it".into(),
        ));
    }
    if progress.data != expected.data {
        return Err(untrustworthy(format!(
            "the data, or the model that the run starts from, have changed since it was begun: digest {:.12}… then, \
             {:.12}… now; put them back, or begin anew with another --out",
            progress.data, expected.data
        )));
    }
    Ok(progress)
}

fn parse(path: &Path, text: &str) -> Result<Progress> {
    let untrustworthy = |reason: String| {
        let remedy = "restore it from a copy, or begin anew with another --out";
        Fault::Untrustworthy.because(anyhow!("{}: {reason}; {remedy}", path.display()))
    };
    let Kept { progress, digest: kept } =
        serde_json::from_str(text).map_err(|error| untrustworthy(error.to_string()))?;
    if digest(&serde_json::to_string(&progress)?) != kept || rendered(&progress)? != text {
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

/// The images that finished stages left are there as they were drawn.
fn expect_images(folder: &Path, progress: &Progress) -> Result<()> {
    for (name, drawn) in &progress.images {
        let path = folder.join(name);
        let untrustworthy = |reason: String| {
            let remedy = "restore it from a copy, or begin anew with another --out";
            Fault::Untrustworthy.because(anyhow!("{}: {reason}; {remedy}", path.display()))
        };
        let bytes = durable::read(&path).map_err(|error| untrustworthy(error.to_string()))?;
        if blake3::hash(&bytes).to_hex().as_str() != drawn {
            return Err(untrustworthy("it is not as it was drawn".into()));
        }
    }
    Ok(())
}

/// Checks, without taking the run, that what its finished stages left is still there: the journals in their length, and
/// the images. A folder without `progress.json` is no run's, and says nothing of what should be there.
///
/// # Errors
/// Names the file that is missing, too short, or changed.
pub fn expect_committed(folder: &Path) -> Result<()> {
    let path = folder.join("progress.json");
    if !path.exists() {
        return Ok(());
    }
    let text = durable::read_text(&path).map_err(|error| Fault::Untrustworthy.because(error))?;
    let progress = parse(&path, &text)?;
    let journals = progress.journals;
    for (name, length) in [("ledger.jsonl", journals.ledger), ("training.jsonl", journals.training)]
    {
        let path = folder.join(name);
        let found = fs::metadata(&path).map_or(0, |found| found.len());
        if found < length {
            return Err(Fault::Untrustworthy.because(anyhow!(
                "{}: expected {length} bytes, which the run has committed, got {found}; restore the file from a copy, \
                 or run again with another --out",
                path.display()
            )));
        }
    }
    expect_images(folder, &progress)
}

fn save(folder: &Path, progress: &Progress) -> Result<()> {
    Ok(durable::write_file(folder.join("progress.json"), rendered(progress)?.as_bytes())?)
}

fn rendered(progress: &Progress) -> Result<String> {
    let digest = digest(&serde_json::to_string(progress)?);
    Ok(serde_json::to_string_pretty(&Kept { progress: progress.clone(), digest })? + "\n")
}

/// Writes `run.json` unless it is there; on another device it says so.
///
/// # Errors
/// When the disk refuses, or the file that is there is damaged.
pub fn keep_manifest(folder: &Path, manifest: &RunManifest) -> Result<()> {
    let path = folder.join("run.json");
    if !path.exists() {
        return Ok(manifest.save(&path)?);
    }
    let mut kept = RunManifest::load(&path)?;
    if kept.device != manifest.device
        && !kept.device.ends_with(&format!("; then {}", manifest.device))
    {
        kept.device = format!("{}; then {}", kept.device, manifest.device);
        kept.save(&path)?;
    }
    Ok(())
}
