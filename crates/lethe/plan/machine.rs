//! What this machine has: memory that is free, memory that this process takes, room on a disk.

use anyhow::{Context, Result};
use rustix::fs::Access;
use std::path::{Path, PathBuf};

/// Bytes that could be taken now: what the system counts as available, or what is left of a
/// container's or the process's own limit.
pub fn available_memory() -> Option<u64> {
    let system = field("/proc/meminfo", "MemAvailable:")?;
    Some([container(), address_space()].into_iter().flatten().fold(system, u64::min))
}

/// Bytes that the pixels of a data set may take: a third of what is free, as reading and gathering them takes nearly three
/// times their size.
pub fn room_for_pixels() -> Option<u64> {
    available_memory().map(|bytes| bytes / 3)
}

/// What a control group with a limit leaves; caches that it would give back are counted as taken.
fn container() -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok()?.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// What `ulimit -v` leaves to this process.
fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(field("/proc/self/status", "VmSize:")?))
}

/// Bytes that this process holds now.
pub fn resident() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// The most bytes that this process held since [`forget_peak`].
pub fn peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Lets the peak begin again from what is held now; where the system does not allow it, the peak stays what it was.
pub fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A field of kilobytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// Bytes that a user may still write where `folder` is or will be.
///
/// # Errors
/// When no folder above it can be looked at.
pub fn free_disk(folder: &Path) -> Result<u64> {
    let there = nearest(folder)?;
    let found = rustix::fs::statvfs(&there).with_context(|| there.display().to_string())?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// # Errors
/// When nothing can be made in `folder`, or in the first one above it that is there.
pub fn expect_writable(folder: &Path) -> Result<()> {
    let there = nearest(folder)?;
    rustix::fs::access(&there, Access::WRITE_OK | Access::EXEC_OK)
        .with_context(|| format!("{}: cannot be written", there.display()))
}

/// `folder`, or the first one above it that is there.
fn nearest(folder: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(folder).with_context(|| folder.display().to_string())?;
    let there = whole.ancestors().find(|path| path.exists());
    Ok(there.unwrap_or(Path::new("/")).to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_room_of_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        assert!(free_disk(&below).unwrap() > 0);
        expect_writable(&below).unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let words = format!("{:#}", expect_writable(&file.join("below")).unwrap_err());
        assert!(words.contains("cannot be written"), "{words}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_held_is_seen() {
        let held = vec![1u8; 64 << 20];
        forget_peak();
        // Other tests hold and let go at the same time: only what is held here is certain.
        assert!(peak().unwrap() > 64 << 20 && resident().unwrap() > 64 << 20);
        assert!(available_memory().unwrap() > 0);
        drop(held);
    }
}
