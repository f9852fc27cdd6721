//! A folder of images that its metadata lists, with captions, classes or both.
//!
//! Examples are the lines of the metadata, in their order. A class is what the column `label` says; where there is none,
//! the folder right below the metadata in which the image lies. A listed image that is not there, and a file that is
//! there and not listed, are bad entries as any other: refused, or left out where that is asked for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{malformed, one_line, shown, unreadable};
use crate::folder::{Kind, entries, fault_of_link, folder_of, kind};
use crate::metadata::{self, Label, Line, Metadata};
use crate::rows::{Accept, Content, Place, Reader, Row};
use crate::{BadImage, DataError};

const GONE: &str = "listed in the metadata, but no visible file there";

/// The rows of such a folder.
pub(crate) struct ListedReader {
    rows: Vec<Listed>,
    /// `None` where the labels are numbers.
    classes: Option<Vec<String>>,
    has_captions: bool,
    strays: Vec<BadImage>,
}

struct Listed {
    path: PathBuf,
    is_there: bool,
    label: Option<i64>,
    caption: Option<String>,
}

impl ListedReader {
    /// Reads the metadata and lists the folder without opening an image.
    pub(crate) fn open(metadata: &Path, caption: Option<&str>) -> Result<Self, DataError> {
        let folder = folder_of(metadata);
        let root = folder.canonicalize().map_err(|cause| unreadable(folder, &cause))?;
        let is_link = metadata.is_symlink();
        if let Some(reason) = is_link.then(|| fault_of_link(metadata, &root)).flatten() {
            let remedy = "put the file itself there";
            return Err(malformed(metadata, "file", "one in the image folder", reason, remedy));
        }
        let Metadata { lines, has_labels, has_captions } = metadata::read(metadata, caption)?;
        let names =
            if has_labels { of_labels(metadata, &lines)? } else { of_folders(metadata, &lines)? };
        let (labels, classes) = numbered(names);
        let found = Found::below(folder, &root)?;
        let listed: BTreeSet<&PathBuf> = lines.iter().map(|line| &line.file).collect();
        let mut strays = found.strays;
        let is_metadata = |file: &PathBuf| metadata.file_name() == Some(file.as_os_str());
        for file in found.files.iter().filter(|file| !listed.contains(file) && !is_metadata(file)) {
            let reason = "a file that the metadata does not list".to_string();
            strays.push(BadImage { place: shown(&folder.join(file)), reason });
        }
        let row = |(line, label): (Line, Option<i64>)| Listed {
            path: folder.join(&line.file),
            is_there: found.files.contains(&line.file),
            label,
            caption: line.caption,
        };
        let rows = lines.into_iter().zip(labels).map(row).collect();
        Ok(Self { rows, classes, has_captions, strays })
    }
}

impl Reader for ListedReader {
    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn has_captions(&self) -> bool {
        self.has_captions
    }

    fn strays(&self) -> &[BadImage] {
        &self.strays
    }

    fn rows_ahead(&self) -> Option<u64> {
        Some(self.rows.len() as u64)
    }

    fn rows(&self, accept: &mut Accept<'_>) -> Result<(), DataError> {
        self.rows.iter().try_for_each(|row| {
            accept(Row {
                place: Place::File(&row.path),
                label: row.label,
                caption: row.caption.as_deref(),
                content: match row.is_there {
                    true => Content::File(&row.path),
                    false => Content::Missing(GONE),
                },
            })
        })
    }
}

/// The labels that the lines give; all names or all numbers.
fn of_labels(metadata: &Path, lines: &[Line]) -> Result<Vec<Option<Label>>, DataError> {
    let is_name = |line: &&Line| matches!(line.label, Some(Label::Name(_)));
    let is_number = |line: &&Line| matches!(line.label, Some(Label::Number(_)));
    if let (Some(name), Some(number)) = (lines.iter().find(is_name), lines.iter().find(is_number)) {
        let found =
            format!("a name in line {} and a number in line {}", name.number, number.number);
        let remedy = "write all labels in the same way";
        return Err(malformed(metadata, "label", "names alone or numbers alone", found, remedy));
    }
    Ok(lines.iter().map(|line| line.label.clone()).collect())
}

/// The folders in which the images lie, as labels.
fn of_folders(metadata: &Path, lines: &[Line]) -> Result<Vec<Option<Label>>, DataError> {
    let label = |line: &Line| {
        let outer = line.file.components().next().filter(|_| line.file.components().count() > 1);
        let outer = outer.ok_or_else(|| {
            let field = format!("line {}: label", line.number);
            let expected = "a column `label`, or an image in the folder of its class";
            let remedy = "say the class of every image in either way";
            malformed(metadata, field, expected, shown(&line.file), remedy)
        })?;
        Ok(Some(Label::Name(one_line(&outer.as_os_str().to_string_lossy()))))
    };
    lines.iter().map(label).collect()
}

/// Labels as numbers, and the names that they stand for, in bytewise order; numbers stay what they are.
fn numbered(labels: Vec<Option<Label>>) -> (Vec<Option<i64>>, Option<Vec<String>>) {
    let name = |label: &Option<Label>| match label {
        Some(Label::Name(name)) => Some(name.clone()),
        _ => None,
    };
    let names: BTreeSet<String> = labels.iter().filter_map(name).collect();
    let names: Vec<String> = names.into_iter().collect();
    let number = |label: Option<Label>| match label? {
        Label::Number(number) => Some(number),
        Label::Name(name) => names.binary_search(&name).ok().map(|place| place as i64),
    };
    let numbers = labels.into_iter().map(number).collect();
    (numbers, (!names.is_empty()).then_some(names))
}

/// What lies below a folder.
struct Found {
    /// Visible files, relative to the folder.
    files: BTreeSet<PathBuf>,
    strays: Vec<BadImage>,
}

impl Found {
    fn below(folder: &Path, root: &Path) -> Result<Self, DataError> {
        let mut found = Self { files: BTreeSet::new(), strays: Vec::new() };
        found.add(folder, Path::new(""), root)?;
        Ok(found)
    }

    fn add(&mut self, folder: &Path, relative: &Path, root: &Path) -> Result<(), DataError> {
        for entry in entries(&folder.join(relative))? {
            let inner = relative.join(entry.file_name());
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let mut stray = |reason: &str| {
                let place = shown(&entry.path());
                self.strays.push(BadImage { place, reason: reason.to_string() });
            };
            match kind(&entry, root) {
                Kind::File => _ = self.files.insert(inner),
                // It could lead in a circle, or to the same images twice.
                Kind::Folder if is_link => {
                    stray("a link to a folder, among images that are listed")
                }
                Kind::Folder => self.add(folder, &inner, root)?,
                Kind::Other(reason) => stray(reason),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
