//! Folders that are half filled, and go when the process ends at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static LEFTOVERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A folder that is half filled as long as this lives.
pub struct Leftover(PathBuf);

impl Leftover {
    /// `folder` is being filled.
    pub fn of(folder: &Path) -> Self {
        leftovers().insert(folder.to_path_buf());
        Self(folder.to_path_buf())
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        leftovers().remove(&self.0);
    }
}

/// No folder is half filled, and none begins to be, as long as this lives.
pub struct None(
    #[expect(dead_code, reason = "held, not read")] MutexGuard<'static, BTreeSet<PathBuf>>,
);

/// Removes all of them.
pub fn remove_all() -> None {
    let left = leftovers();
    // What cannot be removed is removed by the next one who fills it.
    left.iter().for_each(|folder| _ = fs::remove_dir_all(folder));
    None(left)
}

fn leftovers() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}
