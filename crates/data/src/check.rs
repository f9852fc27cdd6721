//! What a dataset holds, told without refusing it.

use std::fmt;

use crate::detect::left_out;
use crate::gather::gather;
use crate::{BadImage, DataError, ReadOptions, Shape, Source};

/// What one pass over a dataset found; `Display` is a short report for people.
#[derive(Debug)]
pub struct Summary {
    /// The dataset.
    pub source: String,
    /// What lies beside its files and was not read: files of other splits, and folders.
    pub left_out: Vec<String>,
    /// Rows, usable or not.
    pub rows: u64,
    /// Each class with its number of usable images, in label order.
    pub classes: Vec<(String, usize)>,
    /// Each shape in the source with its number of images.
    pub shapes: Vec<(Shape, usize)>,
    /// How many of the usable images have a caption; `None` where the source has no captions.
    pub captions: Option<usize>,
    /// Every image that cannot be used.
    pub bad: Vec<BadImage>,
    /// The digest of the usable images under the options, or why they make no [`crate::ImageSet`].
    pub digest: Result<String, DataError>,
}

impl Summary {
    /// Whether [`crate::read`] takes the dataset, with these options and bad images refused.
    pub fn is_sound(&self) -> bool {
        self.bad.is_empty() && self.digest.is_ok()
    }
}

/// Looks at a whole dataset: counts, shapes, every bad image, digest.
///
/// # Errors
/// As [`crate::read`], but bad images and unequal shapes are findings in the summary rather than errors.
pub fn check(source: &Source, options: &ReadOptions) -> Result<Summary, DataError> {
    let mut gathered = gather(source, options)?;
    Ok(Summary {
        source: source.to_string(),
        left_out: left_out(source),
        rows: gathered.rows,
        classes: gathered.classes.iter().cloned().zip(gathered.counts.iter().copied()).collect(),
        shapes: gathered.shapes.iter().map(|(&shape, &count)| (shape, count)).collect(),
        captions: gathered.n_captions(),
        bad: std::mem::take(&mut gathered.bad),
        digest: gathered.into_images(source, options).map(|images| images.digest()),
    })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usable: usize = self.classes.iter().map(|(_, count)| count).sum();
        writeln!(f, "{}", self.source)?;
        if !self.left_out.is_empty() {
            let names = self.left_out.join(", ");
            writeln!(f, "left out: {names} (beside it; give its own path to read it)")?;
        }
        writeln!(f, "images:  {usable} usable of {} rows", self.rows)?;
        writeln!(
            f,
            "classes: {}",
            counted(self.classes.iter().map(|(name, count)| (name, *count)))
        )?;
        writeln!(
            f,
            "shapes:  {}",
            counted(self.shapes.iter().map(|(shape, count)| (shape, *count)))
        )?;
        if let Some(captions) = self.captions {
            writeln!(f, "captions: {captions}")?;
        }
        if !self.bad.is_empty() {
            writeln!(f, "bad:     {}", self.bad.len())?;
            // All of them: whoever mends a data set wants no second pass.
            self.bad.iter().try_for_each(|bad| writeln!(f, "  {bad}"))?;
        }
        match &self.digest {
            Ok(digest) => write!(f, "digest:  {digest}"),
            Err(reason) => write!(f, "refused: {reason}"),
        }
    }
}

/// "cat 40, dog 41".
fn counted<T: fmt::Display>(items: impl Iterator<Item = (T, usize)>) -> String {
    items.map(|(item, count)| format!("{item} {count}")).collect::<Vec<_>>().join(", ")
}
