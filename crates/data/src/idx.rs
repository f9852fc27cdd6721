//! Pairs of idx files, the format of MNIST and Fashion-MNIST, plain or gzip.
//!
//! Layout (yann.lecun.com/exdb/mnist): big-endian u32 magic, a u32 for each dimension, then the bytes. Images have magic
//! 0x803 and dimensions `[images, height, width]`, labels 0x801 and `[images]`.
//!
//! Images and labels are read side by side, one example at a time, so that what a header declares is never allocated
//! before it is there, and a gzip bomb is read one byte too far and no further.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::decode::MAX_SIDE;
use crate::error::malformed;
use crate::input::{Input, Stream};
use crate::picture::Picture;
use crate::rows::{Accept, Content, Place, Reader, Row};
use crate::{DataError, Shape};

const IMAGES: [u8; 4] = [0, 0, 8, 3];
const LABELS: [u8; 4] = [0, 0, 8, 1];
const REMEDY: &str = "fetch the file again";

/// A pair of idx inputs.
pub(crate) struct IdxReader {
    pub(crate) images: Input,
    pub(crate) labels: Input,
    pub(crate) classes: Option<Vec<String>>,
}

impl IdxReader {
    /// A pair of files; idx names no classes.
    pub(crate) fn from_files(images: &Path, labels: &Path) -> Self {
        let file = |path: &Path| Input::File(path.to_path_buf());
        Self { images: file(images), labels: file(labels), classes: None }
    }
}

impl Reader for IdxReader {
    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn rows_ahead(&self) -> Option<u64> {
        let (_, [count, _, _]) = IdxFile::open(&self.images, IMAGES).ok()?;
        Some(u64::from(count))
    }

    fn rows(&self, accept: &mut Accept<'_>) -> Result<(), DataError> {
        let (mut images, [count, height, width]) = IdxFile::open(&self.images, IMAGES)?;
        let (mut labels, [labelled]) = IdxFile::open(&self.labels, LABELS)?;
        check_dimensions(&images, count, height, width)?;
        if labelled != count {
            let expected = format!("{count}, as the images' file declares");
            return Err(labels.malformed(
                "number of labels",
                expected,
                labelled.to_string(),
                "pair the right files",
            ));
        }
        images.check_length(u64::from(height) * u64::from(width))?;
        labels.check_length(1)?;
        let shape = Shape { width: width as usize, height: height as usize, channels: 1 };
        for row in 0..u64::from(count) {
            let label = labels.record(1)?[0];
            let picture = Picture { shape, pixels: images.record(shape.bytes())? };
            accept(Row {
                place: Place::Row(self.images.path(), row),
                label: Some(i64::from(label)),
                caption: None,
                content: Content::Picture(picture),
            })?;
        }
        images.end()?;
        labels.end()
    }
}

/// One idx file between its header and its end.
struct IdxFile {
    path: PathBuf,
    bytes: Box<dyn Read>,
    /// The length of the file, where it is known before it is read.
    length: Option<u64>,
    /// The most that a packed file may hold.
    most: u64,
    /// Bytes read so far.
    at: u64,
    /// Bytes that the header declares, itself included.
    declared: u64,
    count: u32,
}

impl IdxFile {
    /// Opens a file and reads its header: the magic number and `N` dimensions.
    fn open<const N: usize>(input: &Input, magic: [u8; 4]) -> Result<(Self, [u32; N]), DataError> {
        let Stream { bytes, length, most } = input.open()?;
        let declared = 4 + 4 * N as u64;
        let path = input.path().to_path_buf();
        let mut file = Self { path, bytes, length, most, at: 0, declared, count: 0 };
        let found = file.record(4)?;
        if found != magic {
            let expected = format!("0x{:08x} ({N} dimensions of bytes)", u32::from_be_bytes(magic));
            let found =
                format!("0x{:02x}{:02x}{:02x}{:02x}", found[0], found[1], found[2], found[3]);
            return Err(file.malformed(
                "magic number",
                expected,
                found,
                "give an idx file of this kind",
            ));
        }
        let mut dimensions = [0; N];
        for dimension in &mut dimensions {
            let bytes = file.record(4)?;
            *dimension = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        file.count = dimensions[0];
        Ok((file, dimensions))
    }

    /// Settles how long the file must be, and compares where the length is known.
    fn check_length(&mut self, record: u64) -> Result<(), DataError> {
        // A count and a record below 2^32 each: the product and the header stay below 2^64.
        self.declared += u64::from(self.count) * record;
        match self.length {
            Some(length) if length != self.declared => Err(self.wrong_length(length.to_string())),
            None if self.declared > self.most => {
                let expected = format!("at most {} bytes unpacked, for what is packed", self.most);
                let found = format!("{} declared", self.declared);
                Err(self.malformed("gzip stream", expected, found, "unpack it, if it is no bomb"))
            }
            _ => Ok(()),
        }
    }

    /// The next `length` bytes, which must all be there.
    fn record(&mut self, length: usize) -> Result<Vec<u8>, DataError> {
        let mut record = Vec::with_capacity(length.min(1 << 16));
        let read = self.bytes.by_ref().take(length as u64).read_to_end(&mut record);
        self.at += record.len() as u64;
        match read {
            Ok(read) if read == length => Ok(record),
            Ok(_) => Err(self.wrong_length(self.at.to_string())),
            Err(cause) => Err(self.broken(&cause)),
        }
    }

    /// Makes sure that nothing follows.
    fn end(mut self) -> Result<(), DataError> {
        let mut extra = Vec::new();
        match self.bytes.by_ref().take(1).read_to_end(&mut extra) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.wrong_length(format!("more than {}", self.declared))),
            Err(cause) => Err(self.broken(&cause)),
        }
    }

    fn wrong_length(&self, found: String) -> DataError {
        self.malformed("length in bytes", self.declared.to_string(), found, REMEDY)
    }

    fn broken(&self, cause: &std::io::Error) -> DataError {
        let expected = format!("{} bytes unpacked", self.declared);
        let end =
            if cause.kind() == ErrorKind::UnexpectedEof { "the end of the file" } else { "damage" };
        let found = format!("{end} after {} ({cause})", self.at);
        self.malformed("gzip stream", expected, found, REMEDY)
    }

    fn malformed(
        &self,
        field: &str,
        expected: String,
        found: String,
        remedy: &'static str,
    ) -> DataError {
        malformed(&self.path, field, expected, found, remedy)
    }
}

fn check_dimensions(
    images: &IdxFile,
    count: u32,
    height: u32,
    width: u32,
) -> Result<(), DataError> {
    let sides = 1..=MAX_SIDE;
    if count > 0 && sides.contains(&height) && sides.contains(&width) {
        return Ok(());
    }
    let expected = format!("at least 1 image with sides of 1 to {MAX_SIDE} pixels");
    let found = format!("{count} images of {height} x {width}");
    Err(images.malformed("dimensions", expected, found, REMEDY))
}

#[cfg(test)]
mod tests;
