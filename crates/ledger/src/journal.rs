//! An append-only file of checksummed JSON lines that survives a kill at any moment.
//!
//! A line is committed when its end is in the file. What follows the last end is *torn*: a writer
//! that opens the file cuts it off. A complete line that does not carry its own checksum is
//! *damaged*, which nothing here repairs.
//! The bytes are a function of the records alone, so that a resumed run equals an unbroken one.

use crate::durable;
use crate::error::{Error, Result};
use crate::line;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// A line of a journal.
pub trait Record: Serialize + DeserializeOwned {
    /// Refuses a record that must not be written.
    ///
    /// # Errors
    /// [`Error::NotFinite`] or [`Error::InvalidField`], naming the field.
    fn validate(&self) -> Result<()>;
}

/// A journal open for writing.
#[derive(Debug)]
pub struct Journal<R> {
    path: PathBuf,
    file: File,
    offset: u64,
    torn_bytes: u64,
    /// Over the bytes up to `offset`.
    hasher: blake3::Hasher,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Journal<R> {
    /// Opens or creates the file, verifies every line, and cuts off a torn last line.
    ///
    /// # Errors
    /// [`Error::DamagedLine`] with the line number; [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut journal = Self::open_unverified(path)?;
        let mut hasher = blake3::Hasher::new();
        let tail = scan(path, u64::MAX, |_, bytes| {
            hasher.update(bytes).update(b"\n");
            line::verify(bytes).map(drop)
        })?;
        journal.hasher = hasher;
        journal.cut(tail.complete_bytes)?;
        journal.torn_bytes = tail.torn_bytes;
        Ok(journal)
    }

    /// Cuts the file back to `offset`, the length at a checkpoint, then opens it.
    ///
    /// Unlike after [`Self::open`], damage behind the checkpoint, as
    /// a power failure leaves it, does not stop the run.
    ///
    /// # Errors
    /// [`Error::NotALineEnd`]; [`Error::DamagedLine`]; [`Error::Io`].
    pub fn resume(path: impl AsRef<Path>, offset: u64) -> Result<Self> {
        if offset > 0 {
            // What is gone must not be begun anew.
            durable::expect_file(path.as_ref())?;
        }
        Self::open_unverified(path.as_ref())?.truncate_to(offset)?;
        Self::open(path)
    }

    /// Appends one record; on failure the file keeps its previous length.
    ///
    /// # Errors
    /// What [`Record::validate`] refuses; [`Error::Io`].
    pub fn append(&mut self, record: &R) -> Result<()> {
        record.validate()?;
        let line =
            line::encode(record).map_err(|source| self.io("encode a record")(source.into()))?;
        if let Err(source) = self.file.write_all(line.as_bytes()) {
            // A full disk may have taken half of the line. Failing here too changes nothing: the
            // next opening finds a torn line.
            let _ = self.cut(self.offset);
            return Err(self.io("append a line")(source));
        }
        self.offset += line.len() as u64;
        self.hasher.update(line.as_bytes());
        Ok(())
    }

    /// Length of the committed lines in bytes: what a checkpoint remembers.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// BLAKE3 of the committed lines, in hexadecimal digits.
    pub fn digest(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Bytes of a torn last line that opening cut off; 0 if there was none.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Waits until the lines are on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_all().map_err(self.io("sync"))
    }

    /// Drops the lines behind `offset`, or changes nothing.
    fn truncate_to(&mut self, offset: u64) -> Result<()> {
        let length = self.file.metadata().map_err(self.io("read the length"))?.len();
        if offset > length || !self.is_line_end(offset)? {
            return Err(Error::NotALineEnd { path: self.path.clone(), offset, length });
        }
        self.cut(offset)
    }

    /// Reads every record of a finished file.
    ///
    /// # Errors
    /// [`Error::DamagedLine`] and [`Error::TornLine`] with the line number; [`Error::Io`].
    pub fn read(path: impl AsRef<Path>) -> Result<Vec<R>> {
        let path = path.as_ref();
        let (records, torn_bytes) = Self::read_committed(path)?;
        if torn_bytes > 0 {
            let line = records.len() + 1;
            return Err(Error::TornLine { path: path.to_owned(), line, bytes: torn_bytes });
        }
        Ok(records)
    }

    /// Reads the committed records of a file that may still be written, and the bytes of a torn last line.
    ///
    /// # Errors
    /// [`Error::DamagedLine`] with the line number; [`Error::Io`].
    pub fn read_committed(path: impl AsRef<Path>) -> Result<(Vec<R>, u64)> {
        Self::read_until(path, u64::MAX)
    }

    /// The same of the first `length` bytes alone.
    ///
    /// # Errors
    /// As [`Self::read_committed`].
    pub fn read_until(path: impl AsRef<Path>, length: u64) -> Result<(Vec<R>, u64)> {
        let mut records = Vec::new();
        let tail = scan(path.as_ref(), length, |_, bytes| {
            let record: R = line::decode(bytes)?;
            record.validate().map_err(|error| error.to_string())?;
            records.push(record);
            Ok(())
        })?;
        Ok((records, tail.torn_bytes))
    }

    fn open_unverified(path: &Path) -> Result<Self> {
        durable::expect_own(path)?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(Error::io(path, "open for appending"))?;
        durable::sync_folder(path)?;
        let (path, hasher) = (path.to_owned(), blake3::Hasher::new());
        Ok(Self { path, file, offset: 0, torn_bytes: 0, hasher, record: PhantomData })
    }

    fn is_line_end(&self, offset: u64) -> Result<bool> {
        if offset == 0 {
            return Ok(true);
        }
        let mut byte = [0u8];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset - 1)).map_err(self.io("seek"))?;
        file.read_exact(&mut byte).map_err(self.io("read"))?;
        Ok(byte == *b"\n")
    }

    fn cut(&mut self, offset: u64) -> Result<()> {
        self.file.set_len(offset).map_err(self.io("truncate"))?;
        self.offset = offset;
        Ok(())
    }

    fn io(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        Error::io(&self.path, action)
    }
}

/// Longest line in bytes: two million examples measured at once.
const LONGEST: u64 = 64 << 20;

/// How a file of lines ends.
struct Tail {
    complete_bytes: u64,
    torn_bytes: u64,
}

/// Visits each complete line of the first `length` bytes with its number; a visitor's complaint is a damaged line.
fn scan(
    path: &Path,
    length: u64,
    mut visit: impl FnMut(usize, &[u8]) -> Result<(), String>,
) -> Result<Tail> {
    durable::expect_file(path)?;
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut reader = BufReader::with_capacity(1 << 16, file.take(length));
    let mut tail = Tail { complete_bytes: 0, torn_bytes: 0 };
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let mut line = (&mut reader).take(LONGEST + 1);
        let length = line.read_until(b'\n', &mut bytes).map_err(Error::io(path, "read"))? as u64;
        if length > LONGEST {
            let problem = format!("it is longer than {LONGEST} bytes");
            return Err(Error::DamagedLine { path: path.to_owned(), line: number, problem });
        }
        let Some(line) = bytes.strip_suffix(b"\n") else {
            tail.torn_bytes = length;
            break;
        };
        visit(number, line).map_err(|problem| Error::DamagedLine {
            path: path.to_owned(),
            line: number,
            problem,
        })?;
        tail.complete_bytes += length;
    }
    Ok(tail)
}

#[cfg(test)]
mod tests;
