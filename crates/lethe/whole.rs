//! New folders that are there whole or not at all.

use crate::exit::Fault;
use crate::leftover::Leftover;
use crate::plan::{self, machine::free_disk};
use anyhow::{Context, Result, anyhow};
use lethe_ledger::durable;
use lethe_train::checkpoint::Content;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Fills a folder beside `path`, `.<name>.partial`, syncs it, and renames it into place.
///
/// Who finds another process at the same work waits for it.
///
/// # Errors
/// [`Fault::Held`] when `path` is there, or was put there meanwhile; those of `fill`, and then nothing is left.
pub fn new_folder<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    expect_nothing(path)?;
    let partial = Partial::of(path)?;
    expect_nothing(path)?;
    partial.filled(path, fill)
}

/// The folder `path` as `fill` fills it, unless it `is_whole`; one that is there and is not goes first.
///
/// Who finds another process at the same work waits for it, and then finds it done.
///
/// # Errors
/// Those of `fill`, and then nothing is left.
pub fn renewed(
    path: &Path,
    is_whole: impl Fn(&Path) -> bool,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let partial = Partial::of(path)?;
    if is_whole(path) {
        return Ok(());
    }
    remove(path).map_err(|error| of_disk(path, error))?;
    partial.filled(path, fill)
}

/// A folder that is being filled, of this process alone.
struct Partial {
    path: PathBuf,
    is_placed: bool,
    _claim: File,
    _leftover: Leftover,
}

impl Partial {
    /// That beside `path`, emptied.
    fn of(path: &Path) -> Result<Self> {
        let partial = partial_of(path)?;
        let _claim = claim(&partial)?;
        let _leftover = Leftover::of(&partial);
        empty(&partial).map_err(|error| of_disk(&partial, error))?;
        Ok(Self { path: partial, is_placed: false, _claim, _leftover })
    }

    fn filled<T>(mut self, path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let filled = fill(&self.path)?;
        put_in_place(&self.path, path).map_err(|error| of_disk(path, error))?;
        self.is_placed = true;
        Ok(filled)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // In its place another process may have begun one already.
        if !self.is_placed {
            // What cannot be removed is emptied by the next attempt.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn of_disk(path: &Path, error: io::Error) -> anyhow::Error {
    Fault::Disk.because(anyhow::Error::from(error).context(format!("{}", path.display())))
}

/// A folder that goes with the value.
///
/// # Errors
/// 74 when the system gives none.
pub fn temporary() -> Result<TempDir> {
    tempfile::tempdir().map_err(|error| {
        Fault::Disk.because(anyhow!(
            "{}: a temporary folder cannot be made: {error}; name another place in TMPDIR",
            std::env::temp_dir().display()
        ))
    })
}

/// Writes `files` below `folder`, each synced.
///
/// # Errors
/// When the disk refuses.
pub fn put<C: Into<Content>>(folder: &Path, files: Vec<(String, C)>) -> Result<()> {
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            durable::make_folders(parent).with_context(|| parent.display().to_string())?;
        }
        let content: Content = content.into();
        File::create(&path)
            .and_then(|mut file| content.write(&mut file).and_then(|()| file.sync_all()))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// There are `bytes` free on the disk where `folder` is or will be.
///
/// # Errors
/// [`Fault::Held`] when there are fewer.
pub fn expect_room(folder: &Path, bytes: u64) -> Result<()> {
    let free = free_disk(folder)?;
    if free >= bytes {
        return Ok(());
    }
    let (needed, free) = (plan::bytes(bytes), plan::bytes(free));
    Err(Fault::Held.because(anyhow!("{}: {needed} of disk, {free} are free", folder.display())))
}

fn expect_nothing(path: &Path) -> Result<()> {
    // A link that leads nowhere is something, too.
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    Err(Fault::Held.because(anyhow!("{}: it is there already", path.display())))
}

fn partial_of(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        Fault::Usage.because(anyhow!("{}: expected the name of a new folder", path.display()))
    })?;
    Ok(path.with_file_name(format!(".{name}.partial")))
}

/// The folder `partial` for this process alone, as long as the handle lives.
fn claim(partial: &Path) -> Result<File> {
    let disk = |error: io::Error| of_disk(partial, error);
    loop {
        durable::make_folders(partial).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                Fault::Held.because(anyhow!("{}: cannot create: {error}", partial.display()))
            }
            _ => disk(error),
        })?;
        // What is behind a link is somebody else's, and would be emptied.
        let is_own = fs::symlink_metadata(partial).is_ok_and(|found| found.is_dir());
        if !is_own {
            return Err(Fault::Held.because(anyhow!(
                "{}: it is in the way, and no folder of lethe's; move it away",
                partial.display()
            )));
        }
        let folder = File::open(partial).map_err(disk)?;
        folder.lock().map_err(disk)?;
        // Who held it before us has renamed or removed it.
        let held = folder.metadata().map_err(disk)?;
        let found = fs::symlink_metadata(partial);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())) {
            return Ok(folder);
        }
    }
}

/// Removes what a killed process left in it.
fn empty(folder: &Path) -> io::Result<()> {
    fs::read_dir(folder)?.try_for_each(|entry| remove(&entry?.path()))
}

/// Removes what is at `path`, if anything; of a link the link.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

fn put_in_place(partial: &Path, path: &Path) -> io::Result<()> {
    sync_tree(partial)?;
    fs::rename(partial, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// A new file is on the disk only when its folder is.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::fault_of;

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new");
        // What a killed process left.
        put(&place.path().join(".new.partial"), vec![("old/a".into(), vec![1])]).unwrap();
        let failed = new_folder(&path, |folder| {
            assert_eq!(fs::read_dir(folder)?.count(), 0);
            put(folder, vec![("part/b".into(), vec![2])])?;
            Err::<(), _>(anyhow!("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        new_folder(&path, |folder| put(folder, vec![("part/b".into(), vec![2])])).unwrap();
        assert_eq!(fs::read(path.join("part/b")).unwrap(), [2]);
        let again = new_folder(&path, |_| -> Result<()> { unreachable!("it is there") });
        assert_eq!(fault_of(&again.unwrap_err()), Fault::Held);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_two_at_the_same_work_one_does_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new");
        let work = || {
            new_folder(&path, |folder| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                put(folder, vec![("a".into(), vec![1])])
            })
        };
        let outcomes: Vec<bool> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap().is_ok()).collect()
        });
        assert_eq!(outcomes.iter().filter(|&&is_done| is_done).count(), 1);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
