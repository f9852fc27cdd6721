//! A file as the Parquet reader wants it, which ends: what is asked for beyond its end is an error, and no wait.

use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read};

/// An open file.
#[derive(Debug)]
pub(crate) struct Chunks(pub(crate) File);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Chunks {
    type T = Ending<BufReader<File>>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(Ending { reader: self.0.get_read(start)?, ends: 0 })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        // Memory for what is not there would be taken first.
        if start.saturating_add(length as u64) > self.len() {
            let (end, whole) = (start.saturating_add(length as u64), self.len());
            return Err(ParquetError::EOF(format!("expected {end} bytes, found {whole}")));
        }
        self.0.get_bytes(start, length)
    }
}

/// Says once that it is at its end, and fails from then on: a list of two thousand million fields there would be read in
/// minutes.
#[derive(Debug)]
pub(crate) struct Ending<R> {
    reader: R,
    ends: usize,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        /// Whoever reads to the end asks once or twice more.
        const MOST: usize = 4;
        let read = self.reader.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.ends += 1;
            if self.ends > MOST {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_not_there_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10]).unwrap();
        let chunks = Chunks(file);
        assert_eq!(chunks.get_bytes(2, 8).unwrap().len(), 8);
        assert!(chunks.get_bytes(2, 9).is_err() && chunks.get_bytes(u64::MAX, usize::MAX).is_err());
        let mut reader = chunks.get_read(4).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(reader.read_to_end(&mut bytes).unwrap(), 6);
        assert!((0..9).any(|_| reader.read(&mut [0; 3]).is_err()));
    }
}
