//! Checkpoints: folders that are there whole or not at all.
//!
//! A folder is filled under another name, every file and the folder synced, and then renamed into place;
//! `checkpoint.json`, written last, holds the digest of every other file and the state, under a digest of its own.
//! Reading checks every byte. The one before is removed only after the new one was read back.

use crate::error::TrainError;
use lethe_ledger::durable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

pub use crate::content::Content;

/// Name of the file that makes a folder a checkpoint.
pub const MANIFEST: &str = "checkpoint.json";

/// Format of that file.
const FORMAT: u32 = 1;

/// Files of a checkpoint: paths within it, and what they hold.
pub type Files = Vec<(String, Content)>;

/// What passes through on its way to a file, counted and digested.
struct Measured {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    /// BLAKE3 of the state and the file list, as they stand here.
    digest: String,
    state: serde_json::Value,
    files: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    blake3: String,
}

impl Manifest {
    fn new(state: serde_json::Value, files: BTreeMap<String, Entry>) -> Self {
        Self { format: FORMAT, digest: digest(&state, &files), state, files }
    }
}

fn digest(state: &serde_json::Value, files: &BTreeMap<String, Entry>) -> String {
    let text = serde_json::json!({ "format": FORMAT, "state": state, "files": files }).to_string();
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// A checkpoint that was read and found whole.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// Opens the folder `path` and checks the digest of every file in it.
    ///
    /// # Errors
    /// [`TrainError::Damaged`] names the file that is missing or not as it was written, [`TrainError::Stray`] one too many.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let manifest = read_manifest(&path.join(MANIFEST))?;
        for (name, entry) in &manifest.files {
            let file = path.join(name);
            let found = measure(&file).map_err(|source| damaged(&file, source.to_string()))?;
            if found != *entry {
                return Err(damaged(
                    &file,
                    format!(
                        "expected {} bytes of digest {:.12}…, got {} of {:.12}…",
                        entry.bytes, entry.blake3, found.bytes, found.blake3
                    ),
                ));
            }
        }
        expect_no_more(path, Path::new(""), &manifest.files)?;
        Ok(Self { path: path.to_path_buf(), manifest })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state that was saved with it.
    ///
    /// # Errors
    /// [`TrainError::Damaged`] when it is of another kind.
    pub fn state<S: DeserializeOwned>(&self) -> Result<S, TrainError> {
        serde_json::from_value(self.manifest.state.clone()).map_err(|error| {
            damaged(&self.path.join(MANIFEST), format!("its state does not fit: {error}"))
        })
    }

    /// Digest over the state and all files: two checkpoints with the same digest hold the same bytes.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }
}

fn damaged(path: &Path, reason: String) -> TrainError {
    TrainError::Damaged { path: path.to_path_buf(), reason }
}

fn read_manifest(path: &Path) -> Result<Manifest, TrainError> {
    let text = durable::read_text(path).map_err(|error| match error {
        lethe_ledger::Error::Io { source, .. } => damaged(path, source.to_string()),
        lethe_ledger::Error::NotAFile { found, .. } => {
            damaged(path, format!("expected a file as it was written, found {found}"))
        }
        other => damaged(path, other.to_string()),
    })?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| damaged(path, error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(damaged(
            path,
            format!(
                "format {} is not {FORMAT}: another version of lethe wrote it",
                manifest.format
            ),
        ));
    }
    if let Some(name) = manifest.files.keys().find(|name| !is_within(name)) {
        return Err(damaged(
            path,
            format!("`{}` is no place within a checkpoint", name.escape_debug()),
        ));
    }
    if manifest.digest != digest(&manifest.state, &manifest.files)
        || rendered(&manifest).is_ok_and(|written| written != text)
    {
        return Err(damaged(
            path,
            "its own digest does not fit: it was changed after it was written".into(),
        ));
    }
    Ok(manifest)
}

/// The text of a manifest: what is read must be that to the last byte.
fn rendered(manifest: &Manifest) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(manifest)? + "\n")
}

/// Whether `name` is that of a file below the checkpoint's folder.
fn is_within(name: &str) -> bool {
    let is_plain = |part: Component| matches!(part, Component::Normal(_));
    !name.is_empty() && Path::new(name).components().all(is_plain)
}

/// A pipe in a file's place would be waited for.
fn expect_file(path: &Path) -> std::io::Result<()> {
    if path.metadata()?.is_file() { Ok(()) } else { Err(std::io::Error::other("it is no file")) }
}

/// A file that no checkpoint wrote would be read by others as a part of it.
fn expect_no_more(
    checkpoint: &Path,
    inside: &Path,
    files: &BTreeMap<String, Entry>,
) -> Result<(), TrainError> {
    let folder = checkpoint.join(inside);
    for name in list(&folder).map_err(|source| damaged(&folder, source.to_string()))? {
        let own = inside.join(&name);
        let path = checkpoint.join(&own);
        let is_hidden = name.starts_with('.');
        let is_written = files.contains_key(&*own.to_string_lossy());
        if is_hidden || is_written || own == Path::new(MANIFEST) {
            continue;
        }
        let kind = fs::symlink_metadata(&path).map_err(|e| damaged(&path, e.to_string()))?;
        if !kind.is_dir() {
            return Err(TrainError::Stray { path });
        }
        expect_no_more(checkpoint, &own, files)?;
    }
    Ok(())
}

fn measure(path: &Path) -> std::io::Result<Entry> {
    expect_file(path)?;
    let mut hasher = blake3::Hasher::new();
    let bytes = std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(Entry { bytes, blake3: hasher.finalize().to_hex().to_string() })
}

/// Saves `files` and `state` as the folder `path`, and reads it back.
///
/// # Errors
/// [`TrainError::Io`]; then there is no folder `path`, and what was half-written is removed.
pub fn save(path: &Path, files: &Files, state: &impl Serialize) -> Result<Checkpoint, TrainError> {
    let io = |path: &Path, action| {
        let path = path.to_path_buf();
        move |source| TrainError::Io { path, action, source }
    };
    let state = serde_json::to_value(state).map_err(|error| TrainError::Io {
        path: path.to_path_buf(),
        action: "encode the state of",
        source: error.into(),
    })?;
    let partial = partial_of(path);
    let outcome = durable::make_folders(path.parent().unwrap_or(Path::new("")))
        .and_then(|()| remove(&partial))
        .and_then(|()| fill(&partial, files, state))
        .map_err(io(&partial, "write"))
        .and_then(|()| {
            fs::rename(&partial, path).map_err(io(path, "rename the checkpoint into place"))
        })
        .and_then(|()| {
            sync_folder(path.parent().unwrap_or(Path::new("."))).map_err(io(path, "sync"))
        });
    if let Err(error) = outcome {
        // The first error is the one to tell; what is left here is removed by the next run.
        let _ = remove(&partial);
        return Err(error);
    }
    Checkpoint::open(path)
}

fn partial_of(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.partial"))
}

fn fill(folder: &Path, files: &Files, state: serde_json::Value) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut entries = BTreeMap::new();
    let mut folders = std::collections::BTreeSet::from([folder.to_path_buf()]);
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
            folders.insert(parent.to_path_buf());
        }
        entries.insert(name.clone(), write_synced(&path, content)?);
    }
    let manifest = rendered(&Manifest::new(state, entries))?;
    write_synced(&folder.join(MANIFEST), &manifest.into_bytes().into())?;
    folders.iter().rev().try_for_each(|folder| sync_folder(folder))
}

/// What was meant to be written, whatever the disk made of it.
fn write_synced(path: &Path, content: &Content) -> std::io::Result<Entry> {
    let mut out = Measured { file: File::create(path)?, hasher: blake3::Hasher::new(), bytes: 0 };
    content.write(&mut out)?;
    out.file.sync_all()?;
    Ok(Entry { bytes: out.bytes, blake3: out.hasher.finalize().to_hex().to_string() })
}

/// A rename, or a new file, is on the disk only when its folder is.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Name of the checkpoint after `step` steps.
pub fn name(step: u64) -> String {
    format!("step-{step:08}")
}

/// Whether a checkpoint is called so: somebody's copy `step-00000100.old` is none.
fn is_name(name: &str) -> bool {
    name.strip_prefix("step-")
        .is_some_and(|step| step.parse().is_ok_and(|step| self::name(step) == name))
}

/// The furthest checkpoint in `folder`, if there is one, for the one process that writes there.
///
/// Half-written ones, which a killed run leaves, are removed.
///
/// # Errors
/// [`TrainError::Damaged`] when the furthest one is not whole: nothing older is taken in its place.
pub fn latest(folder: &Path) -> Result<Option<Checkpoint>, TrainError> {
    let names = list(folder).map_err(|source| TrainError::Io {
        path: folder.to_path_buf(),
        action: "list",
        source,
    })?;
    for partial in
        names.iter().filter(|name| name.starts_with(".step-") && name.ends_with(".partial"))
    {
        let path = folder.join(partial);
        remove(&path).map_err(|source| TrainError::Io { path, action: "remove", source })?;
    }
    furthest(folder)
}

/// The furthest checkpoint in `folder`, if there is one; nothing is removed, whoever writes there meanwhile.
///
/// # Errors
/// As [`latest`].
pub fn furthest(folder: &Path) -> Result<Option<Checkpoint>, TrainError> {
    /// A run may let go of a checkpoint while it is read: the next one is there then.
    const TRIES: usize = 5;
    let mut tries = 0;
    loop {
        let names = list(folder).map_err(|source| TrainError::Io {
            path: folder.to_path_buf(),
            action: "list",
            source,
        })?;
        let Some(name) = names.iter().filter(|name| is_name(name)).max() else { return Ok(None) };
        let (path, found) = (folder.join(name), Checkpoint::open(&folder.join(name)));
        tries += 1;
        match found {
            Err(_) if tries < TRIES && !path.exists() => {}
            found => return found.map(Some),
        }
    }
}

fn list(folder: &Path) -> std::io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }
    }
}

/// Removes every checkpoint in `folder` but `kept`, which was just read back.
///
/// # Errors
/// [`TrainError::Io`].
pub fn retire_others(folder: &Path, kept: &Checkpoint) -> Result<(), TrainError> {
    let io = |path: &Path, action| {
        let path = path.to_path_buf();
        move |source| TrainError::Io { path, action, source }
    };
    for name in list(folder).map_err(io(folder, "list"))? {
        let path = folder.join(&name);
        if is_name(&name) && path != kept.path {
            // Renamed first: a kill in the middle of the removal must not leave half a checkpoint under a good name.
            let partial = partial_of(&path);
            remove(&partial).map_err(io(&partial, "remove"))?;
            fs::rename(&path, &partial).map_err(io(&path, "retire"))?;
            remove(&partial).map_err(io(&partial, "remove"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        vec![
            ("unet/weights".into(), vec![1, 2, 3].into()),
            ("protocol.toml".into(), b"seed = 1".to_vec().into()),
        ]
    }

    fn saved(folder: &Path, step: u64) -> Checkpoint {
        save(&folder.join(name(step)), &files(), &step).unwrap()
    }

    #[test]
    fn what_is_saved_is_read_and_older_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        assert!(latest(folder.path()).unwrap().is_none());
        saved(folder.path(), 5);
        let newer = saved(folder.path(), 10);
        retire_others(folder.path(), &newer).unwrap();
        let found = latest(folder.path()).unwrap().unwrap();
        assert_eq!(found.state::<u64>().unwrap(), 10);
        assert_eq!(found.digest(), newer.digest());
        assert_eq!(fs::read(found.path().join("unet/weights")).unwrap(), [1, 2, 3]);
        assert_eq!(list(folder.path()).unwrap(), [name(10)]);
    }

    #[test]
    fn half_written_ones_are_ignored_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path(), 5);
        let partial = folder.path().join(".step-00000010.partial");
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("unet"), "half").unwrap();
        assert_eq!(latest(folder.path()).unwrap().unwrap().state::<u64>().unwrap(), 5);
        assert!(!partial.exists());
    }

    #[test]
    fn any_flipped_byte_of_any_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path(), 5).path().to_path_buf();
        for name in ["unet/weights", "protocol.toml", MANIFEST] {
            let file = path.join(name);
            let bytes = fs::read(&file).unwrap();
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                fs::write(&file, &flipped).unwrap();
                let error = Checkpoint::open(&path).unwrap_err().to_string();
                assert!(error.contains("restore it from a copy"), "{name} {at}: {error}");
            }
            fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
            assert!(Checkpoint::open(&path).is_err(), "{name}: without its last byte");
            fs::write(&file, bytes).unwrap();
        }
        let more = path.join("unet/more");
        fs::write(&more, "").unwrap();
        let error = Checkpoint::open(&path).unwrap_err().to_string();
        assert!(error.contains("unet/more"), "{error}");
        fs::rename(more, folder.path().join("step-00000005.old")).unwrap();
        assert_eq!(latest(folder.path()).unwrap().unwrap().path(), path);
        fs::remove_file(path.join("unet/weights")).unwrap();
        assert!(latest(folder.path()).unwrap_err().to_string().contains("unet/weights"));
    }

    #[test]
    fn a_folder_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        assert!(matches!(save(&blocked.join(name(1)), &files(), &1), Err(TrainError::Io { .. })));
        assert_eq!(list(folder.path()).unwrap(), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn file_modes_follow_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let saved = saved(folder.path(), 1);
        assert_eq!(mode(&saved.path().join("unet/weights")), mode(&plain));
    }
}
