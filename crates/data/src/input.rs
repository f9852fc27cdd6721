//! A file, or bytes in the program, as a stream; gzip is known by its content.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::DataError;
use crate::error::unreadable;

/// Where bytes come from.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    File(PathBuf),
    /// Bytes in the program under a name for messages.
    Embedded(PathBuf, &'static [u8]),
}

/// An opened input.
pub(crate) struct Stream {
    pub(crate) bytes: Box<dyn Read>,
    /// How many bytes will come, where that is known before they are read.
    pub(crate) length: Option<u64>,
    /// How many bytes may come: many more than a file packs of images are a mistake or an attack.
    pub(crate) most: u64,
}

/// Packed images are rarely a tenth of their size; zeros are a thousandth.
const MOST_TIMES: u64 = 200;
/// What may come of the smallest file.
const MOST_AT_LEAST: u64 = 64 << 20;

impl Input {
    /// The name for messages.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Embedded(path, _) => path,
        }
    }

    /// Opens the input and unpacks it on the fly if it begins with gzip's magic number.
    pub(crate) fn open(&self) -> Result<Stream, DataError> {
        match self {
            Self::File(path) => {
                let (file, length) = open_file(path)?;
                stream(BufReader::new(file), length).map_err(|cause| unreadable(path, &cause))
            }
            Self::Embedded(path, bytes) => {
                stream(*bytes, bytes.len() as u64).map_err(|cause| unreadable(path, &cause))
            }
        }
    }
}

/// Opens a regular file: a folder fails at the first read, and a pipe might never end.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), DataError> {
    let is_regular = path.metadata().map_err(|cause| unreadable(path, &cause))?.is_file();
    if !is_regular {
        let reason = "not a regular file".to_string();
        return Err(DataError::Unreadable { path: path.to_path_buf(), reason });
    }
    let file = File::open(path).map_err(|cause| unreadable(path, &cause))?;
    let length = file.metadata().map_err(|cause| unreadable(path, &cause))?.len();
    Ok((file, length))
}

fn stream(mut bytes: impl BufRead + 'static, length: u64) -> std::io::Result<Stream> {
    if bytes.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        let unpacked = BufReader::new(MultiGzDecoder::new(bytes));
        let most = length.saturating_mul(MOST_TIMES).max(MOST_AT_LEAST);
        return Ok(Stream { bytes: Box::new(unpacked), length: None, most });
    }
    Ok(Stream { bytes: Box::new(bytes), length: Some(length), most: length })
}
