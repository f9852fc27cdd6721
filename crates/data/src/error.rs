//! What can be wrong with a dataset, each case with file, field, expectation, finding and remedy.

use std::fmt;
use std::path::{Path, PathBuf};

/// How many bad images a message shows; it always states the whole count.
const SHOWN: usize = 20;

/// Why a dataset was refused.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused to open or read a file or folder.
    #[error("{}: cannot be read: {reason}", shown(path))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// Nothing at a path is a dataset of a known kind, or more than one thing is.
    #[error(
        "{}: {found}; expected an idx pair (train-images-idx3-ubyte and train-labels-idx1-ubyte, plain or .gz), \
         the folder cifar-10-batches-bin, Parquet files, or a folder of PNG, JPEG or WebP with one folder per class or with a metadata.jsonl or \
         metadata.csv (columns file_name, text, label)",
        shown(path)
    )]
    Unrecognized {
        /// The path given.
        path: PathBuf,
        /// What lies there.
        found: String,
    },
    /// A file breaks the rules of its format.
    #[error("{}: {field}: expected {expected}, found {found}; {remedy}", shown(file))]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The field of the file's format.
        field: String,
        /// What the format asks for.
        expected: String,
        /// What the file holds.
        found: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// A label names no class.
    #[error(
        "{place}: label: expected 0 to {} ({classes} classes), found {label}; \
         correct the label, or name every class in `classes` if the data has more",
        classes.saturating_sub(1)
    )]
    Label {
        /// File and row of the label.
        place: String,
        /// The label found.
        label: i64,
        /// The number of classes.
        classes: usize,
    },
    /// Some images cannot be decoded; every one of them is in `bad`.
    #[error(
        "{source_name}: expected only images, found {} bad entries beside or among {rows} rows; \
         repair or remove them, or leave them out with bad_images = \"skip\":{}",
        bad.len(),
        Listing(bad)
    )]
    BadImages {
        /// The dataset.
        source_name: String,
        /// How many images the dataset lists.
        rows: u64,
        /// Every bad image, in source order.
        bad: Vec<BadImage>,
    },
    /// Two images have different shapes and no option makes them equal.
    #[error(
        "{first} is {first_shape} but {other} is {other_shape}; \
         set `resolution` to bring all images to one size and `colour` to bring all to one kind"
    )]
    Shapes {
        /// File and row of the first image.
        first: String,
        /// Its shape.
        first_shape: crate::Shape,
        /// File and row of the first image that differs.
        other: String,
        /// The shape of that one.
        other_shape: crate::Shape,
    },
    /// A class has fewer images than `per_class` asks for.
    #[error(
        "{source_name}: class {class:?}: expected per_class = {wanted} usable images, found {found}; \
         lower per_class or add images"
    )]
    TooFew {
        /// The dataset.
        source_name: String,
        /// The first class that is too small.
        class: String,
        /// The number asked for.
        wanted: usize,
        /// The number found.
        found: usize,
    },
    /// The pixels of a data set do not fit into memory.
    #[error(
        "{place}: here it shows that the pixels of the data set take {needed} bytes or more, and there is room for {limit}; lower `resolution` or `per_class`, or divide the data set"
    )]
    TooLarge {
        /// The image at which it shows.
        place: String,
        /// Bytes of all images, as far as they are known.
        needed: u64,
        /// Bytes that may be taken.
        limit: u64,
    },
    /// The names given for the classes are not those in the data.
    #[error(
        "{source_name}: `classes`: expected {named:?} as the data names them, found {given:?}; leave `classes` out"
    )]
    Classes {
        /// The dataset.
        source_name: String,
        /// The names in the data.
        named: Vec<String>,
        /// The names given.
        given: Vec<String>,
    },
    /// The dataset has no usable image.
    #[error(
        "{source_name}: expected at least one usable image, found none of {rows} rows; check the path"
    )]
    Empty {
        /// The dataset.
        source_name: String,
        /// How many rows were listed.
        rows: u64,
    },
    /// An option has a value outside its range.
    #[error("{name}: expected {expected}, found {found}; correct the option")]
    Option {
        /// The option's name.
        name: &'static str,
        /// Its range.
        expected: String,
        /// Its value.
        found: String,
    },
    /// The parts of an [`crate::ImageSet`] contradict each other.
    #[error(
        "image set: {field}: expected {expected}, found {found}; give parts that belong together"
    )]
    Parts {
        /// Which part.
        field: &'static str,
        /// What the other parts ask for.
        expected: String,
        /// What it is.
        found: String,
    },
}

/// An image that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadImage {
    /// Where it is: a file, or a file and a row counted from 0.
    pub place: String,
    /// Why it cannot be used.
    pub reason: String,
}

impl fmt::Display for BadImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// The first bad images, one a line, and how many more there are.
pub(crate) struct Listing<'a>(pub(crate) &'a [BadImage]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for bad in self.0.iter().take(SHOWN) {
            write!(f, "\n  {bad}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// A path as one line of text: what is not UTF-8 or not printable is replaced or escaped.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// A text from outside without control characters, so that it cannot break a line or drive a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let escaped =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// [`DataError::Unreadable`] for a path.
pub(crate) fn unreadable(path: &Path, cause: &std::io::Error) -> DataError {
    DataError::Unreadable { path: path.to_path_buf(), reason: cause.to_string() }
}

/// [`DataError::Malformed`] for a file.
pub(crate) fn malformed(
    file: &Path,
    field: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
    remedy: &'static str,
) -> DataError {
    let (field, expected, found) = (field.into(), expected.into(), found.into());
    DataError::Malformed { file: file.to_path_buf(), field, expected, found, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_on_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[2Jé"), "a\\nb\\u{1b}[2Jé");
    }

    #[test]
    fn a_malformed_file_says_where_what_and_what_to_do() {
        let error = malformed(Path::new("x/y.idx"), "length", "3", "4", "fetch it again");
        assert_eq!(error.to_string(), "x/y.idx: length: expected 3, found 4; fetch it again");
    }
}
