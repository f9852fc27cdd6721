//! The file that a user names for a result: looked at before anything is computed for it.

use crate::exit::Fault;
use anyhow::{Result, anyhow};
use std::path::{Path, PathBuf};

/// Where a result is to be written that is asked for at `out`: `out` itself, or the file that it is a link to.
///
/// # Errors
/// 73 for a folder that is not there, and for a name that is taken by what is no file: a folder, a pipe, a device, or a link to
/// one, as /dev/stdout is.
pub fn of(out: &Path) -> Result<PathBuf> {
    let refuse = |why: &str| Err(Fault::Held.because(anyhow!("--out: {}: {why}", out.display())));
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return refuse(&format!("there is no folder {}: make it first", folder.display()));
    }
    match (out.symlink_metadata(), out.canonicalize()) {
        (Err(_), _) => Ok(out.to_owned()),
        (Ok(_), Ok(there)) if there.is_file() => Ok(there),
        (Ok(_), Ok(_)) => refuse("it is there already, and no file; give the name of a file"),
        (Ok(_), Err(error)) => refuse(&format!("a link that cannot be followed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_followed_to_a_file_and_to_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let (file, link) = (place.join("a"), place.join("b"));
        assert_eq!(of(&file).unwrap(), file);
        symlink(&file, &link).unwrap();
        assert!(of(&link).unwrap_err().to_string().contains("cannot be followed"));
        std::fs::write(&file, b"").unwrap();
        assert_eq!(of(&link).unwrap(), file);
        symlink("/dev/null", place.join("c")).unwrap();
        assert!(of(&place.join("c")).unwrap_err().to_string().contains("no file"));
        assert!(of(&place).unwrap_err().to_string().contains("no file"));
        assert!(of(&place.join("no/a")).unwrap_err().to_string().contains("make it first"));
    }
}
