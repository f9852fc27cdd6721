//! Whole files: written so that a reader sees the old one or the new one, never a part; read if they are files.

use crate::error::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Writes `bytes` beside `path`, syncs, renames over it and syncs the folder.
///
/// The file beside is named `.<name>.partial`; who finds another process writing it leaves that alone.
///
/// # Errors
/// [`Error::Io`], of kind `ResourceBusy` where another process is writing the same; the previous file, if any, is untouched then.
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    replace(path, |file| file.write_all(bytes).map_err(Error::io(path, "write")))
}

/// Largest file that is read whole: what is larger is none of ours.
const LARGEST: u64 = 256 << 20;

/// Reads the whole file `path`, if it is one: a pipe might never end.
///
/// # Errors
/// [`Error::Io`]; [`Error::NotAFile`] for what is no file, or larger than any that is written here.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    expect_file(path)?;
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let length = file.metadata().map_err(Error::io(path, "open"))?.len();
    if length > LARGEST {
        let found = format!("one of {length} bytes, more than {LARGEST}");
        return Err(Error::NotAFile { path: path.to_owned(), found });
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(LARGEST).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    Ok(bytes)
}

/// The same, of a text.
///
/// # Errors
/// As [`read`]; [`Error::NotAFile`] for what is no UTF-8.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read(path)?).map_err(|error| {
        let found = format!("no text: {error}");
        Error::NotAFile { path: path.to_owned(), found }
    })
}

/// Refuses pipes, devices and folders, which would be waited for, or fail without a name.
///
/// # Errors
/// [`Error::NotAFile`] says what it is; [`Error::Io`].
pub fn expect_file(path: &Path) -> Result<()> {
    let found = fs::metadata(path).map_err(Error::io(path, "open"))?;
    if found.is_file() {
        return Ok(());
    }
    let found = if found.is_dir() { "a folder" } else { "a pipe or a device" };
    Err(Error::NotAFile { path: path.to_owned(), found: found.into() })
}

/// Refuses to write into what has another name besides `path`, or is no file; what is not there yet is nobody else's.
///
/// # Errors
/// [`Error::NotOwn`] says what it is.
pub fn expect_own(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    let what = match found.nlink() {
        _ if found.is_symlink() => "a link".to_string(),
        _ if !found.is_file() => "no file".to_string(),
        1 => return Ok(()),
        names => format!("one file with {names} names (hard links)"),
    };
    Err(Error::NotOwn { path: path.to_owned(), what })
}

/// Makes `folder` and whatever is missing above it, and syncs the folder of each new one: a new name is on the disk only
/// when its folder is.
///
/// # Errors
/// Those of the file system.
pub fn make_folders(folder: &Path) -> std::io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    above.map_or(Ok(()), make_folders)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !folder.is_dir() => Err(error),
        _ => File::open(above.unwrap_or(Path::new(".")))?.sync_all(),
    }
}

/// As [`write_file`], with the content streamed by `write`.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let partial = partial_path(path)?;
    expect_replaceable(path)?;
    let file = claim(&partial)?;
    let outcome = write_and_rename(file, &partial, path, write);
    if outcome.is_err() {
        // The first error is the one to tell; a left-over partial file is removed next time.
        let _ = fs::remove_file(&partial);
    }
    outcome
}

/// A device or a pipe is written to, not put away, nor is a link to one: a file in the place of /dev/null or /dev/stdout would
/// break the machine.
fn expect_replaceable(path: &Path) -> Result<()> {
    // A link that leads nowhere is nobody's.
    if !fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Ok(());
    }
    let why = "it is there already, and no file; give the name of a file";
    Err(Error::io(path, "replace")(std::io::Error::new(ErrorKind::AlreadyExists, why)))
}

/// A new file `partial`, this process's own as long as the handle lives; what is left over from a kill goes first.
fn claim(partial: &Path) -> Result<File> {
    // Its lock is let go of behind the removal: until then nobody else takes the file for left over.
    let mut _left = None;
    if let Ok(found) = fs::symlink_metadata(partial) {
        // A link or a pipe in its place is not followed, and not waited for.
        let left = if found.is_file() { File::open(partial).ok() } else { None };
        _left = left.map(|left| lock(left, partial)).transpose()?;
        match fs::remove_file(partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io(partial, "create")(error));
            }
            _ => {}
        }
    }
    let create = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => busy(partial),
        _ => Error::io(partial, "create")(error),
    };
    let file = lock(File::create_new(partial).map_err(create)?, partial)?;
    // Between its making and its lock another process may have taken it for left over.
    let identity =
        |found: std::io::Result<fs::Metadata>| found.ok().map(|file| (file.dev(), file.ino()));
    if identity(file.metadata()) != identity(fs::symlink_metadata(partial)) {
        return Err(busy(partial));
    }
    Ok(file)
}

/// `file`, locked; a file system without locks has none to heed.
fn lock(file: File, partial: &Path) -> Result<File> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(busy(partial)),
        _ => Ok(file),
    }
}

fn busy(partial: &Path) -> Error {
    let why = "another process is writing it";
    Error::io(partial, "create")(std::io::Error::new(ErrorKind::ResourceBusy, why))
}

fn write_and_rename(
    file: File,
    partial: &Path,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let mut writer = BufWriter::new(file);
    write(&mut writer)?;
    let file =
        writer.into_inner().map_err(|error| Error::io(partial, "write")(error.into_error()))?;
    file.sync_all().map_err(Error::io(partial, "sync"))?;
    fs::rename(partial, path).map_err(Error::io(path, "rename the new file into place"))?;
    sync_folder(path)
}

fn partial_path(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        Error::io(path, "write")(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "the path names no file",
        ))
    })?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    Ok(path.with_file_name(partial))
}

/// A new name is on the disk only when the folder of `path` is.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder, "sync"))
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        write_file(&path, b"old").unwrap();
        let failure = replace(&path, |file| {
            file.write_all(b"half").map_err(Error::io(&path, "write"))?;
            Err(Error::io(&path, "write")(std::io::ErrorKind::StorageFull.into()))
        });
        assert!(failure.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_another_process_writes_is_left_alone_and_what_a_kill_left_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let outcome = replace(&path, |file| {
            // Another handle is to the lock what another process is.
            let error = write_file(&path, b"other").unwrap_err().to_string();
            assert!(error.contains("another process is writing it"), "{error}");
            file.write_all(b"first").map_err(Error::io(&path, "write"))
        });
        outcome.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        fs::write(folder.path().join(".run.json.partial"), b"left over").unwrap();
        write_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_to_a_device_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(write_file(&path, b"").unwrap_err().to_string().contains("no file"));
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn a_missing_folder_is_named() {
        let message = write_file("/nonexistent/run.json", b"").unwrap_err().to_string();
        assert!(message.contains("/nonexistent/.run.json.partial"), "{message}");
    }
}
