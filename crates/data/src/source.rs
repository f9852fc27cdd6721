//! Where a dataset comes from.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::shown;
use crate::rows::Reader;
use crate::{DataError, cifar, fashion, folder, hub_parquet, idx, listed};

/// A dataset that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The embedded subset of Fashion-MNIST: 600 images of each of 10 classes.
    FashionMnist,
    /// A pair of idx files as of MNIST, plain or gzip.
    ///
    /// Without names in [`crate::ReadOptions::classes`] the labels must be 0 to 9.
    Idx {
        /// Unsigned bytes, `[images, height, width]`.
        images: PathBuf,
        /// Unsigned bytes, `[images]`.
        labels: PathBuf,
    },
    /// The binary version of CIFAR-10: `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`, `batches.meta.txt`.
    CifarBinary {
        /// The folder `cifar-10-batches-bin`.
        folder: PathBuf,
        /// Which of its files.
        part: Part,
    },
    /// Parquet files in the hub's schema: `img` or `image` as struct of `bytes` and `path`, and an integer `label`.
    ///
    /// Without names in the files or in [`crate::ReadOptions::classes`] the labels must be 0 to 9.
    Parquet {
        /// The files; ids run through them in this order.
        files: Vec<PathBuf>,
    },
    /// A folder that holds one folder of PNG, JPEG or WebP files for each class.
    Folder {
        /// The outer folder.
        folder: PathBuf,
    },
    /// A folder of images that a `metadata.jsonl` or `metadata.csv` in it lists, with captions, labels or both.
    Listed {
        /// That file.
        metadata: PathBuf,
    },
}

/// The parts of CIFAR-10's binary version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// The five training batches: ids 0 to 49,999 in the original.
    #[default]
    Training,
    /// The test batch alone: ids 0 to 9,999 in the original.
    Test,
    /// The training batches, then the test batch.
    Both,
}

impl Source {
    /// Opens the source and checks what can be checked before the first image.
    ///
    /// `caption`: the column of the captions, where it must be there.
    pub(crate) fn open(&self, caption: Option<&str>) -> Result<Box<dyn Reader>, DataError> {
        Ok(match self {
            Self::FashionMnist => Box::new(fashion::reader()?),
            Self::Idx { images, labels } => Box::new(idx::IdxReader::from_files(images, labels)),
            Self::CifarBinary { folder, part } => {
                Box::new(cifar::CifarReader::open(folder, *part)?)
            }
            Self::Parquet { files } => Box::new(hub_parquet::ParquetReader::open(files, caption)?),
            Self::Folder { folder } => Box::new(folder::FolderReader::open(folder)?),
            Self::Listed { metadata } => Box::new(listed::ListedReader::open(metadata, caption)?),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |path: &Path| path.file_name().map(|name| shown(Path::new(name))).unwrap_or_default();
        match self {
            Self::FashionMnist => write!(f, "Fashion-MNIST (embedded subset)"),
            Self::Idx { images, labels } => {
                write!(f, "idx files {} and {}", shown(images), name(labels))
            }
            Self::CifarBinary { folder, part } => {
                write!(f, "CIFAR-10 binary {} ({part})", shown(folder))
            }
            Self::Parquet { files } => match files.as_slice() {
                [] => write!(f, "no Parquet file"),
                [only] => write!(f, "Parquet file {}", shown(only)),
                [first, .., last] => {
                    write!(f, "{} Parquet files {} to {}", files.len(), shown(first), name(last))
                }
            },
            Self::Folder { folder } => write!(f, "image folder {}", shown(folder)),
            Self::Listed { metadata } => {
                let folder = metadata.parent().unwrap_or(Path::new("."));
                write!(f, "image folder {} with {}", shown(folder), name(metadata))
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Training => "training",
            Self::Test => "test",
            Self::Both => "training and test",
        })
    }
}
