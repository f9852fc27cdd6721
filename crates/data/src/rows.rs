//! What every reader hands over: one row after the other, its image still undecoded.

use std::fmt;
use std::path::Path;

use crate::decode::{decode, read_file};
use crate::error::shown;
use crate::picture::Picture;
use crate::{BadImage, DataError};

/// Takes a row; an error stops the reader.
pub(crate) type Accept<'a> = dyn FnMut(Row<'_>) -> Result<(), DataError> + 'a;

/// An opened source: it knows its format and nothing of options.
pub(crate) trait Reader {
    /// The names of the classes, where the source has them.
    fn classes(&self) -> Option<&[String]>;

    /// Whether every row is meant to have a caption.
    fn has_captions(&self) -> bool {
        false
    }

    /// Entries that are no row but should not be there.
    fn strays(&self) -> &[BadImage] {
        &[]
    }

    /// How many rows there will be, where that is known before they are read.
    fn rows_ahead(&self) -> Option<u64> {
        None
    }

    /// Hands every row to `accept`, in source order.
    fn rows(&self, accept: &mut Accept<'_>) -> Result<(), DataError>;
}

/// One example as it stands in its source.
pub(crate) struct Row<'a> {
    pub(crate) place: Place<'a>,
    /// `None` where the source has a null.
    pub(crate) label: Option<i64>,
    /// `None` also where the source has a null.
    pub(crate) caption: Option<&'a str>,
    pub(crate) content: Content<'a>,
}

/// An image, decoded only if the row is wanted.
pub(crate) enum Content<'a> {
    Picture(Picture),
    Encoded(&'a [u8]),
    File(&'a Path),
    /// There is none, for this reason.
    Missing(&'static str),
}

impl Content<'_> {
    /// The picture, or why there is none.
    pub(crate) fn picture(self) -> Result<Picture, String> {
        match self {
            Self::Picture(picture) => Ok(picture),
            Self::Encoded(bytes) => decode(bytes),
            Self::File(path) => decode(&read_file(path)?),
            Self::Missing(reason) => Err(reason.to_string()),
        }
    }
}

/// Where a row stands.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    File(&'a Path),
    /// Rows count from 0 within their file.
    Row(&'a Path, u64),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&shown(path)),
            Self::Row(path, row) => write!(f, "{} row {row}", shown(path)),
        }
    }
}
