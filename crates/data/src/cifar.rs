//! The binary version of CIFAR-10.
//!
//! Layout (cs.toronto.edu/~kriz/cifar.html): records of 3,073 bytes, one label and then 1,024 red, 1,024 green and 1,024
//! blue values, each plane row by row. Pixels leave here as `[height, width, channels]`.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{malformed, unreadable};
use crate::input::open_file;
use crate::picture::Picture;
use crate::rows::{Accept, Content, Place, Reader, Row};
use crate::{DataError, Part, Shape};

const SHAPE: Shape = Shape { width: 32, height: 32, channels: 3 };
const PLANE: usize = 32 * 32;
const RECORD: usize = 1 + 3 * PLANE;
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The name of a training batch; they count from 1 to 5.
pub(crate) fn training_batch(number: usize) -> String {
    format!("data_batch_{number}.bin")
}

/// The name of the test batch.
pub(crate) const TEST_BATCH: &str = "test_batch.bin";

/// Bytes of the class names that are read: ten names are far shorter.
const LARGEST_NAMES: u64 = 1 << 16;

/// The batches of one part of CIFAR-10.
pub(crate) struct CifarReader {
    files: Vec<PathBuf>,
    classes: Vec<String>,
}

impl CifarReader {
    /// Finds the batches of `part` and the names of the classes.
    pub(crate) fn open(folder: &Path, part: Part) -> Result<Self, DataError> {
        let training = (1..=5).map(training_batch);
        let names: Vec<String> = match part {
            Part::Training => training.collect(),
            Part::Test => vec![TEST_BATCH.to_string()],
            Part::Both => training.chain([TEST_BATCH.to_string()]).collect(),
        };
        let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        files.iter().try_for_each(|file| check_length(file))?;
        Ok(Self { files, classes: class_names(&folder.join("batches.meta.txt"))? })
    }
}

impl Reader for CifarReader {
    fn classes(&self) -> Option<&[String]> {
        Some(&self.classes)
    }

    fn rows_ahead(&self) -> Option<u64> {
        let lengths = self.files.iter().map(|file| Some(file.metadata().ok()?.len()));
        Some(lengths.sum::<Option<u64>>()? / RECORD as u64)
    }

    fn rows(&self, accept: &mut Accept<'_>) -> Result<(), DataError> {
        self.files.iter().try_for_each(|file| batch(file, accept))
    }
}

fn batch(path: &Path, accept: &mut Accept<'_>) -> Result<(), DataError> {
    let (file, length) = open_file(path)?;
    let mut bytes = BufReader::new(file);
    let mut record = [0; RECORD];
    for row in 0..length / RECORD as u64 {
        bytes.read_exact(&mut record).map_err(|cause| unreadable(path, &cause))?;
        let place = Place::Row(path, row);
        let picture = Picture { shape: SHAPE, pixels: interleaved(&record[1..]) };
        accept(Row {
            place,
            label: Some(i64::from(record[0])),
            caption: None,
            content: Content::Picture(picture),
        })?;
    }
    Ok(())
}

/// `[channels, height, width]` to `[height, width, channels]`.
fn interleaved(planes: &[u8]) -> Vec<u8> {
    (0..PLANE).flat_map(|pixel| [0, 1, 2].map(|channel| planes[channel * PLANE + pixel])).collect()
}

fn check_length(path: &Path) -> Result<(), DataError> {
    let (_, length) = open_file(path)?;
    if length > 0 && length % RECORD as u64 == 0 {
        return Ok(());
    }
    let expected = format!("a multiple of {RECORD} (30730000 in the original)");
    Err(malformed(path, "length in bytes", expected, length.to_string(), "fetch the file again"))
}

/// The names in `batches.meta.txt`, one a line; where the file is missing, CIFAR-10's own.
fn class_names(path: &Path) -> Result<Vec<String>, DataError> {
    if !path.exists() {
        return Ok(CLASSES.map(String::from).to_vec());
    }
    let (file, _) = open_file(path)?;
    let mut text = String::new();
    let read = file.take(LARGEST_NAMES).read_to_string(&mut text);
    read.map_err(|cause| unreadable(path, &cause))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect();
    if names.len() == CLASSES.len() {
        return Ok(names);
    }
    let expected = format!("{} lines", CLASSES.len());
    let remedy = "fetch the file again, or remove it to use CIFAR-10's own names";
    Err(malformed(path, "class names", expected, names.len().to_string(), remedy))
}

#[cfg(test)]
mod tests;
