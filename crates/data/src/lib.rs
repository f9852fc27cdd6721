//! Image datasets as 8-bit pixels with ids, labels and a digest.
//!
//! One reader for every source: [`detect`] says what lies at a path, [`check`] what it holds, and [`read`] brings it
//! into memory as an [`ImageSet`] whose images all have one shape. [`split`] divides it into training and held-out ids.
//!
//! | source | file | label | id |
//! |---|---|---|---|
//! | [`Source::FashionMnist`] | the embedded subset, 600 a class | idx byte | row |
//! | [`Source::Idx`] | a pair of idx files, plain or gzip | idx byte | row |
//! | [`Source::CifarBinary`] | `cifar-10-batches-bin` | first byte of a record | record |
//! | [`Source::Parquet`] | the hub's schema, `img` or `image` and `label` | `label` | row |
//! | [`Source::Folder`] | a folder per class of PNG, JPEG, WebP | folder name | place in the sorted list |
//! | [`Source::Listed`] | a folder with `metadata.jsonl` or `metadata.csv` | `label`, or folder name | line of the metadata |
//!
//! Parquet files and listed images may have captions, in a column `text` or one that is named.
//!
//! An id is the example's row in source order *before* anything is limited or skipped, so one image keeps its id under
//! every option. All rows, records and ids count from 0.
//!
//! Images are bytes 0 to 255, `[height, width, channels]` each, as the file holds them: colour profiles are ignored.
//! What this crate never knows: tensors, tasks, the network, the clock.
//!
//! ```
//! use lethe_data::{ReadOptions, Source, read, split};
//!
//! let options = ReadOptions { resolution: Some(16), per_class: Some(20), ..ReadOptions::default() };
//! let images = read(&Source::FashionMnist, &options)?.images;
//! assert_eq!((images.len(), images.shape().to_string().as_str()), (200, "16x16 grey"));
//! assert_eq!(images.class_name(images.label(0)), Some("Ankle boot"));
//!
//! let parts = split(&images, 0.1)?;
//! assert_eq!((parts.train.len(), parts.held_out.len()), (180, 20));
//! # Ok::<(), lethe_data::DataError>(())
//! ```

mod check;
mod chunks;
mod cifar;
mod column;
mod contain;
mod decode;
mod detect;
mod error;
mod fashion;
#[cfg(test)]
mod fixtures;
mod folder;
mod gather;
mod hub_parquet;
mod idx;
mod image_set;
mod input;
mod jpeg;
mod listed;
mod metadata;
mod picture;
mod png;
mod read;
mod rows;
mod source;
mod split;

pub use check::{Summary, check};
pub use detect::detect;
pub use error::{BadImage, DataError};
pub use image_set::{Example, ImageSet, Shape};
pub use read::{BadImages, Colour, Loaded, ReadOptions, read};
pub use source::{Part, Source};
pub use split::{Split, split};
