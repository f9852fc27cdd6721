//! One process at a time: the lock of a run's folder.
//!
//! The operating system lets go of it when the process dies, however it dies; the name in the file is for people.

use crate::exit::Fault;
use crate::meter::note;
use anyhow::{Result, anyhow};
use lethe_ledger::durable;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a name in a lock begins with.
const SIGNATURE: &str = "process ";

/// A folder that is this process's own as long as this lives.
#[derive(Debug)]
pub struct Hold {
    lock: File,
    path: PathBuf,
}

impl Drop for Hold {
    /// Who ends in order leaves no name.
    fn drop(&mut self) {
        // A name that stays tells the next one of a holder that is gone, no more.
        let _ = self.lock.set_len(0);
    }
}

impl Hold {
    /// The folder is still the one that was taken: nobody has removed it, or put another one in its place.
    ///
    /// # Errors
    /// When it is not; what would be written would lie where nobody looks for it.
    pub fn expect_still(&self) -> Result<()> {
        let identity =
            |found: std::io::Result<fs::Metadata>| found.ok().map(|f| (f.dev(), f.ino()));
        let held = identity(self.lock.metadata());
        if held.is_some() && held == identity(fs::symlink_metadata(&self.path)) {
            return Ok(());
        }
        Err(Fault::Disk.because(anyhow!(
            "{}: it was removed or replaced while this run was in its folder; nothing more is written there. Put the folder \
             back, if it was moved, and run the same command again; otherwise the run begins anew",
            self.path.display()
        )))
    }
}

/// Takes `folder`, which is made where it is not there, or says who holds it.
///
/// # Errors
/// When another process holds it, or there is no place for the lock.
pub fn hold(folder: &Path) -> Result<Hold> {
    durable::make_folders(folder).map_err(|error| {
        Fault::Held.because(anyhow!("{}: cannot create: {error}", folder.display()))
    })?;
    let path = folder.join("lock");
    expect_own(&path)?;
    expect_no_links(folder)?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(|error| {
        Fault::Held.because(anyhow!("{}: cannot open: {error}", path.display()))
    })?;
    lock(folder, &mut file, FlockOperation::NonBlockingLockExclusive)?;
    let before = holder(&mut file);
    if !before.is_empty() && !before.starts_with(SIGNATURE) {
        return Err(Fault::Held.because(anyhow!(
            "{}: it is there already, and no lock of lethe's; give another --out",
            path.display()
        )));
    }
    if !before.is_empty() {
        note(&format!(
            "{}: taken over from {before}, which did not end in order",
            folder.display()
        ));
    }
    sign(&mut file).map_err(|error| {
        Fault::Disk.because(anyhow!("{}: cannot write: {error}", path.display()))
    })?;
    Ok(Hold { lock: file, path })
}

/// Whether nobody writes in `folder` now; takes nothing.
///
/// # Errors
/// When another process holds it.
pub fn expect_free(folder: &Path) -> Result<()> {
    let path = folder.join("lock");
    expect_own(&path)?;
    match File::open(path) {
        Ok(mut file) => lock(folder, &mut file, FlockOperation::NonBlockingLockShared),
        Err(_) => Ok(()),
    }
}

/// A lock is a file of the run's own: what is behind a link would be emptied, a pipe would be waited for.
fn expect_own(path: &Path) -> Result<()> {
    durable::expect_own(path).map_err(|error| Fault::Held.because(error))
}

/// What is written, and removed, in a run's folder lies in it: no folder of it leads elsewhere.
fn expect_no_links(folder: &Path) -> Result<()> {
    /// From the run's folder down to a task's.
    const DEPTH: usize = 3;
    let mut level = vec![folder.to_path_buf()];
    for _ in 0..=DEPTH {
        let entries = level.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let mut below = Vec::new();
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_symlink() && entry.path().is_dir() {
                return Err(Fault::Held.because(anyhow!(
                    "{}: it is a link to another folder, in which would be written; put that folder itself in its place, or \
                     link the whole run's folder",
                    entry.path().display()
                )));
            }
            if kind.is_dir() {
                below.push(entry.path());
            }
        }
        level = below;
    }
    Ok(())
}

fn lock(folder: &Path, file: &mut File, operation: FlockOperation) -> Result<()> {
    let Err(error) = flock(&*file, operation) else { return Ok(()) };
    if error != rustix::io::Errno::WOULDBLOCK {
        let path = folder.join("lock");
        return Err(Fault::Disk.because(anyhow!("{}: cannot lock: {error}", path.display())));
    }
    let named = holder(file);
    Err(Fault::Held.because(anyhow!(
        "{}: the run is locked by {}; wait for it or give another --out",
        folder.display(),
        if named.is_empty() { "another process" } else { &named }
    )))
}

/// The name in the file; not knowing it changes nothing.
fn holder(file: &mut File) -> String {
    const LONGEST: u64 = 200;
    let mut name = Vec::new();
    let _ = file.take(LONGEST).read_to_end(&mut name);
    String::from_utf8_lossy(&name).trim().escape_default().to_string()
}

fn sign(file: &mut File) -> std::io::Result<()> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{SIGNATURE}{} on {}", std::process::id(), host.trim())?;
    file.sync_all()
}
