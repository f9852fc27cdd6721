//! From a source to images in memory, under options.

use crate::gather::gather;
use crate::{BadImage, DataError, ImageSet, Source};

/// How a source is read; the default takes it whole and as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// Side of the square, in pixels, to which every image is brought: its central square, resized by a triangle filter
    /// (antialiased when shrinking). `None` keeps the sizes, which then must all be equal.
    pub resolution: Option<usize>,
    /// Colour to which every image is brought. `None` keeps it, and all must be alike.
    pub colour: Option<Colour>,
    /// Takes the first so many usable images of each class, by id; a class with fewer is an error.
    /// Later images are then not decoded, so that their faults do not matter.
    pub per_class: Option<usize>,
    /// Names of the classes 0, 1, … for a source that does not name them; without it they are "0" to "9".
    /// For a source that does, the same names or none.
    pub classes: Option<Vec<String>>,
    /// The column of metadata and Parquet files that holds the captions, which must then be there; without it `text`,
    /// where that is there.
    pub caption_column: Option<String>,
    /// What happens if an image cannot be used.
    pub bad_images: BadImages,
    /// Most bytes that the pixels may take in memory; a data set that has more is refused. `None` is no limit.
    pub memory: Option<u64>,
}

/// The colours of an [`ImageSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// One channel; from RGB by the luma of ITU-R BT.601.
    Grey,
    /// Red, green, blue; from grey by repetition.
    Rgb,
}

impl Colour {
    /// Bytes in a pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// What happens if an image cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadImages {
    /// The dataset is refused and the error lists every bad image.
    #[default]
    Refuse,
    /// Bad images are left out and listed in [`Loaded::skipped`].
    Skip,
}

/// A dataset in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The images.
    pub images: ImageSet,
    /// What was left out; empty under [`BadImages::Refuse`].
    pub skipped: Vec<BadImage>,
}

/// Reads a source into memory.
///
/// Every row is looked at in one pass, so that the error names all bad images at once. A damaged container (a truncated
/// idx file, a missing column) or a label out of range is an error under every option.
///
/// # Errors
/// Every variant of [`DataError`] but [`DataError::Unrecognized`].
pub fn read(source: &Source, options: &ReadOptions) -> Result<Loaded, DataError> {
    let mut gathered = gather(source, options)?;
    let bad = std::mem::take(&mut gathered.bad);
    if !bad.is_empty() && options.bad_images == BadImages::Refuse {
        return Err(DataError::BadImages {
            source_name: source.to_string(),
            rows: gathered.rows,
            bad,
        });
    }
    Ok(Loaded { images: gathered.into_images(source, options)?, skipped: bad })
}
