//! Where a user wants a result: looked at before anything is computed for it.

use crate::exit::Fault;
use crate::progress::is_run;
use anyhow::{Result, anyhow};
use std::path::{Component, Path, PathBuf};

/// Where a result is to be written that is asked for at `out`: `out` itself, or the file that it is a link to.
///
/// # Errors
/// 73 for a folder that is not there or is a run's, and for a name that is taken by what is no file: a folder, a pipe, a
/// device, or a link to one, as /dev/stdout is.
pub fn of(out: &Path) -> Result<PathBuf> {
    let refuse = |why: &str| Err(Fault::Held.because(anyhow!("--out: {}: {why}", out.display())));
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return refuse(&format!("there is no folder {}: make it first", folder.display()));
    }
    let file = match (out.symlink_metadata(), out.canonicalize()) {
        (Err(_), _) => out.to_owned(),
        (Ok(_), Ok(there)) if there.is_file() => there,
        (Ok(_), Ok(_)) => {
            return refuse("it is there already, and no file; give the name of a file");
        }
        (Ok(_), Err(error)) => return refuse(&format!("a link that cannot be followed: {error}")),
    };
    expect_outside_runs(&file)?;
    Ok(file)
}

/// Refuses what lies in the folder of a run, which is read whole: there a run alone writes.
///
/// # Errors
/// 73 names the run; 64 where the path goes back (`..`) from a folder that is not there, 66 where the working folder is gone.
pub fn expect_outside_runs(path: &Path) -> Result<()> {
    match above(path)?.ancestors().find(|folder| is_run(folder)) {
        None => Ok(()),
        Some(run) => Err(Fault::Held.because(anyhow!(
            "{}: it lies in the folder of a run, {}, in which nothing else may be written; give a place outside",
            path.display(),
            run.display()
        ))),
    }
}

/// The folder around `path`, or the nearest one that is there, behind all links: they may lead into a run.
fn above(path: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(path).map_err(|error| {
        let error = anyhow!("{}: the working folder: {error}", path.display());
        Fault::Missing.because(error)
    })?;
    if let Ok(there) = whole.canonicalize() {
        return Ok(there.parent().unwrap_or(&there).to_owned());
    }
    let nearest = whole.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/"));
    let behind = whole.strip_prefix(nearest)?;
    if behind.components().any(|part| part == Component::ParentDir) {
        return Err(Fault::Usage.because(anyhow!(
            "{}: it goes back (`..`) from a folder that is not there; give it without",
            path.display()
        )));
    }
    Ok(nearest.canonicalize().unwrap_or_else(|_| nearest.to_owned()))
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

    #[test]
    fn a_run_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (run, link) = (folder.path().join("run"), folder.path().join("link"));
        std::fs::create_dir_all(run.join("images")).unwrap();
        symlink(run.join("images"), &link).unwrap();
        let places = [
            run.join("a"),
            run.join("images/a"),
            link.clone(),
            link.join("a"),
            run.join("no/no/a"),
        ];
        assert!(places.iter().all(|place| expect_outside_runs(place).is_ok()));
        std::fs::write(run.join("protocol.toml"), "").unwrap();
        std::fs::write(run.join("progress.json"), r#"{"done": 1}"#).unwrap();
        assert!(places.iter().all(|place| expect_outside_runs(place).is_ok()), "another's file");
        let text = r#"{"progress": {"done": [], "contents": {}}, "digest": ""}"#;
        std::fs::write(run.join("progress.json"), text).unwrap();
        for place in places {
            let words = expect_outside_runs(&place).unwrap_err().to_string();
            assert!(words.contains("it lies in the folder of a run"), "{words}");
        }
        assert!(expect_outside_runs(&run).is_ok() && of(&run.join("images/a")).is_err());
        assert!(expect_outside_runs(&run.join("images/..")).is_ok());
        let back = folder.path().join("no/../run/a");
        assert!(expect_outside_runs(&back).unwrap_err().to_string().contains("goes back"));
        std::fs::write(run.join("progress.json"), "").unwrap();
        assert!(
            expect_outside_runs(&run.join("a")).is_err(),
            "damaged, it is a run's all the same"
        );
    }
}
