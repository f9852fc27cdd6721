//! New folders that are there whole or not at all.

use crate::exit::Fault;
use anyhow::{Context, Result, anyhow};
use lethe_train::checkpoint::Content;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Fills a folder beside `path`, `.<name>.partial`, syncs it, and renames it into place.
///
/// Who finds another process at the same work waits for it.
///
/// # Errors
/// [`Fault::Held`] when `path` is there, or was put there meanwhile; those of `fill`, and then nothing is left.
pub fn new_folder<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    expect_nothing(path)?;
    let partial = partial_of(path)?;
    let of_disk = |error: io::Error| {
        Fault::Disk.because(anyhow::Error::from(error).context(format!("{}", partial.display())))
    };
    let _claim = claim(&partial).map_err(of_disk)?;
    let outcome = expect_nothing(path)
        .and_then(|()| empty(&partial).map_err(of_disk))
        .and_then(|()| fill(&partial))
        .and_then(|filled| put_in_place(&partial, path).map_err(of_disk).map(|()| filled));
    if outcome.is_err() {
        // The first error is the one to tell; what is left here is emptied by the next attempt.
        let _ = fs::remove_dir_all(&partial);
    }
    outcome
}

/// Writes `files` below `folder`, each synced.
///
/// # Errors
/// When the disk refuses.
pub fn put<C: Into<Content>>(folder: &Path, files: Vec<(String, C)>) -> Result<()> {
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        let content: Content = content.into();
        File::create(&path)
            .and_then(|mut file| content.write(&mut file).and_then(|()| file.sync_all()))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
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
fn claim(partial: &Path) -> io::Result<File> {
    loop {
        fs::create_dir_all(partial)?;
        let folder = File::open(partial)?;
        folder.lock()?;
        // Who held it before us has renamed or removed it.
        let held = folder.metadata()?;
        let found = fs::metadata(partial);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())) {
            return Ok(folder);
        }
    }
}

/// Removes what a killed process left in it.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
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
