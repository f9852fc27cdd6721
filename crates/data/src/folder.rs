//! A folder of class folders with image files in them.
//!
//! Classes are the folders' names and examples their files, both in bytewise order of the name, whatever the order in
//! which the system lists them. Hidden entries (a leading dot) are ignored. What else is found (files beside the class
//! folders, folders inside them, links that lead out) is listed as bad rather than passed over.

use std::ffi::OsStr;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use crate::error::{one_line, shown, unreadable};
use crate::metadata;
use crate::rows::{Accept, Content, Place, Reader, Row};
use crate::{BadImage, DataError};

/// The files of an image folder.
pub(crate) struct FolderReader {
    classes: Vec<String>,
    /// Label and file, in order.
    files: Vec<(usize, PathBuf)>,
    strays: Vec<BadImage>,
}

impl FolderReader {
    /// Lists the folder without opening a file.
    pub(crate) fn open(folder: &Path) -> Result<Self, DataError> {
        let root = folder.canonicalize().map_err(|cause| unreadable(folder, &cause))?;
        let mut reader = Self { classes: Vec::new(), files: Vec::new(), strays: Vec::new() };
        for entry in entries(folder)? {
            match kind(&entry, &root) {
                Kind::Folder => reader.add_class(&entry, &root)?,
                Kind::File => reader.stray(&entry.path(), "a file beside the class folders"),
                Kind::Other(reason) => reader.stray(&entry.path(), reason),
            }
        }
        Ok(reader)
    }

    fn add_class(&mut self, folder: &DirEntry, root: &Path) -> Result<(), DataError> {
        let (label, before) = (self.classes.len(), self.files.len());
        self.classes.push(one_line(&folder.file_name().to_string_lossy()));
        for entry in entries(&folder.path())? {
            match kind(&entry, root) {
                Kind::File if metadata::NAMES.iter().any(|name| entry.file_name() == *name) => {
                    self.stray(
                        &entry.path(),
                        "metadata inside a class folder; give the path of that folder",
                    );
                }
                Kind::File => self.files.push((label, entry.path())),
                Kind::Folder => self.stray(&entry.path(), "a folder inside a class folder"),
                Kind::Other(reason) => self.stray(&entry.path(), reason),
            }
        }
        if self.files.len() == before {
            self.stray(&folder.path(), "a class folder without a file");
        }
        Ok(())
    }

    fn stray(&mut self, path: &Path, reason: &str) {
        self.strays.push(BadImage { place: shown(path), reason: reason.to_string() });
    }
}

impl Reader for FolderReader {
    fn classes(&self) -> Option<&[String]> {
        Some(&self.classes)
    }

    fn strays(&self) -> &[BadImage] {
        &self.strays
    }

    fn rows_ahead(&self) -> Option<u64> {
        Some(self.files.len() as u64)
    }

    fn rows(&self, accept: &mut Accept<'_>) -> Result<(), DataError> {
        self.files.iter().try_for_each(|(label, path)| {
            accept(Row {
                place: Place::File(path),
                label: Some(*label as i64),
                caption: None,
                content: Content::File(path),
            })
        })
    }
}

/// What an entry is, behind its link if it is one.
pub(crate) enum Kind {
    Folder,
    File,
    Other(&'static str),
}

pub(crate) fn kind(entry: &DirEntry, root: &Path) -> Kind {
    // Only a link can lead out: canonicalizing every file of a large folder would cost more than listing it.
    let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
    if let Some(reason) = is_link.then(|| fault_of_link(&entry.path(), root)).flatten() {
        return Kind::Other(reason);
    }
    match entry.path().metadata() {
        Ok(kind) if kind.is_dir() => Kind::Folder,
        Ok(kind) if kind.is_file() => Kind::File,
        _ => Kind::Other("neither a file nor a folder"),
    }
}

/// Why the link at `path` is not followed, if it is not.
pub(crate) fn fault_of_link(path: &Path, root: &Path) -> Option<&'static str> {
    match path.canonicalize() {
        Ok(target) if target.starts_with(root) => None,
        Ok(_) => Some("a link that leads out of the image folder"),
        Err(_) => Some("a link to nothing"),
    }
}

/// The folder in which a file lies.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The visible entries of a folder in bytewise order of their names.
pub(crate) fn entries(folder: &Path) -> Result<Vec<DirEntry>, DataError> {
    let listed = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = listed.map_err(|cause| unreadable(folder, &cause))?;
    entries.retain(|entry| !is_hidden(&entry.file_name()));
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests;
