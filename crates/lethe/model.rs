//! Where a model lies: in a folder, in a single file that is unpacked once, or on the hub under its id.

use crate::cache::{self, Key};
use crate::exit::Fault;
use crate::hub;
use crate::learn::expect_left_or_note;
use crate::meter::note;
use crate::unpack::{others, unpack_into};
use crate::whole;
use anyhow::{Context, Result, anyhow};
use lethe_latent::folder::is_pickle;
use lethe_ledger::durable;
use lethe_train::checkpoint::{self, Checkpoint};
use std::path::{Path, PathBuf};

/// What the id of a model on the hub begins with.
const HUB: &str = "hub:";

/// The folder that `name` means: itself, what its single file was unpacked to, or what was fetched from the hub.
///
/// A single file is unpacked `like` a pipeline, or else like Stable Diffusion v1.5.
///
/// # Errors
/// Names what does not fit, or is not there.
pub fn folder_of(name: &Path, like: Option<&Path>) -> Result<PathBuf> {
    if is_single_file(name) {
        return unpacked(name, like);
    }
    if like.is_some() {
        return Err(Fault::Usage.because(anyhow!(
            "{}: only a single file is read like another model; a folder has configurations of its own",
            name.display()
        )));
    }
    if let Some(id) = hub_id(name) {
        return hub::model(id);
    }
    expect_model(name)?;
    expect_written(name)?;
    Ok(name.to_path_buf())
}

/// The first task of the first repetition of the run in `folder`.
fn first_task(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let tasks = entries.map(|entry| entry.path().join("task-1")).filter(|task| task.is_dir());
    tasks.min().unwrap_or_else(|| folder.join("seed-1/task-1"))
}

/// Says what is there instead of a model.
///
/// # Errors
/// When it is no folder, or that of a whole run.
pub fn expect_model(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        let why = if folder.exists() { "it is no folder" } else { "there is no such folder" };
        return Err(Fault::Missing.because(anyhow!("{}: {why}", folder.display())));
    }
    if folder.join("run.json").is_file() {
        return Err(Fault::Usage.because(anyhow!(
            "{}: it is the folder of a run; name one of its tasks, such as {}",
            folder.display(),
            first_task(folder).display()
        )));
    }
    Ok(())
}

/// A folder that a task has left is held to the digests beside it; `folder` may be the network's own, within it.
///
/// # Errors
/// When a file is not as it was written.
pub fn expect_written(folder: &Path) -> Result<()> {
    let above = folder.parent().filter(|_| folder.ends_with("unet"));
    let written = |folder: &&Path| folder.join(checkpoint::MANIFEST).symlink_metadata().is_ok();
    let Some(found) = [Some(folder), above].into_iter().flatten().find(written) else {
        return Ok(());
    };
    let opened = Checkpoint::open(found).map_err(|error| {
        Fault::Untrustworthy.because(anyhow!(
            "{error}; if it was changed on purpose, remove {} from it, which says what it was",
            found.join(checkpoint::MANIFEST).display()
        ))
    })?;
    match found.canonicalize().ok().as_deref().and_then(Path::parent) {
        Some(task) => expect_left_or_note(task, &opened),
        None => Ok(()),
    }
}

fn hub_id(name: &Path) -> Option<&str> {
    name.to_str()?.strip_prefix(HUB)
}

/// Whether `name` is a file, or called as only files are; pickles are refused where they are read.
pub fn is_single_file(name: &Path) -> bool {
    let is_called_so = name.extension().is_some_and(|end| end == "safetensors") || is_pickle(name);
    hub_id(name).is_none() && (name.is_file() || is_called_so && !name.is_dir())
}

/// The folder in the cache that holds what is in `file`, unpacked now or before.
fn unpacked(file: &Path, like: Option<&Path>) -> Result<PathBuf> {
    // What is not of this family at all is refused before gigabytes of it are read.
    lethe_latent::unpack::open(file)?;
    let mut key = Key::new("model");
    key.file(file)?;
    for (name, bytes) in others(like)? {
        key.text(&name);
        key.text(blake3::hash(&bytes).to_hex().as_str());
    }
    let cache = cache::folder().ok_or_else(|| {
        Fault::Disk.because(anyhow!(
            "{}: there is no place to unpack it to; name one in LETHE_CACHE",
            file.display()
        ))
    })?;
    let folder = cache.join(format!("model-{}", key.name()));
    let is_whole = |found: &Path| is_whole(found, &key);
    if is_whole(&folder) {
        note(&format!("{}: unpacked before, in {}", file.display(), folder.display()));
        return Ok(folder);
    }
    durable::make_folders(&cache).with_context(|| cache.display().to_string())?;
    // Who finds another process at it waits, and finds it whole.
    whole::renewed(&folder, is_whole, |partial| {
        note(&format!("{}: unpacking it to {}, once", file.display(), folder.display()));
        unpack_into(file, like, partial)?;
        let seal = digest_of(partial, &key)?;
        whole::put(partial, vec![(SEAL.to_string(), seal.into_bytes())])
    })?;
    Ok(folder)
}

/// What holds the digest of an unpacked folder, in it.
const SEAL: &str = ".unpacked";

/// The digest of every file that is read of an unpacked folder, and of what it was unpacked from.
fn digest_of(folder: &Path, from: &Key) -> Result<String> {
    let mut key = from.part("unpacked");
    for (name, path) in crate::given::of_latents(folder)? {
        key.text(&name);
        key.file(&path)?;
    }
    Ok(key.name())
}

/// Whether what was unpacked before is there to the last bit; what was damaged since is unpacked again.
fn is_whole(folder: &Path, from: &Key) -> bool {
    let Ok(seal) = durable::read_text(folder.join(SEAL)) else { return false };
    digest_of(folder, from).is_ok_and(|found| found == seal)
}
