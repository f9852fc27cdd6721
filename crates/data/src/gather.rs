//! One pass over a source: every row judged, every wanted image kept.

use std::collections::BTreeMap;

use crate::decode::MAX_SIDE;
use crate::image_set::check_classes;
use crate::picture::Picture;
use crate::rows::{Place, Reader, Row};
use crate::{BadImage, DataError, ImageSet, ReadOptions, Shape, Source};

/// Classes of a source that does not name them: those of MNIST and all that were made in its image.
const DEFAULT_CLASSES: usize = 10;

/// Bad images that are listed.
const MOST_BAD: usize = 100_000;

/// What one pass found.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) classes: Vec<String>,
    /// Rows seen, wanted or not.
    pub(crate) rows: u64,
    /// Usable images per class.
    pub(crate) counts: Vec<usize>,
    /// Images per shape, as the source has them, before any option.
    pub(crate) shapes: BTreeMap<Shape, usize>,
    pub(crate) bad: Vec<BadImage>,
    /// Rows in all, where that is known.
    ahead: Option<u64>,
    /// The first image's place and final shape: the measure of all others.
    first: Option<(String, Shape)>,
    /// The first image that differs, as an error.
    mismatch: Option<DataError>,
    ids: Vec<u64>,
    labels: Vec<u32>,
    /// One for each id, where the source has captions.
    captions: Option<Vec<String>>,
    /// Bytes that the captions take.
    told: u64,
    pixels: Vec<u8>,
}

/// Runs over a source once.
pub(crate) fn gather(source: &Source, options: &ReadOptions) -> Result<Gathered, DataError> {
    check_options(options)?;
    let reader = source.open(options.caption_column.as_deref())?;
    let classes = class_names(source, reader.classes(), options.classes.as_deref())?;
    let mut gathered = Gathered::new(classes, reader.as_ref());
    reader.rows(&mut |row| {
        gathered.take(row, options)?;
        gathered.expect_few_bad(source)
    })?;
    Ok(gathered)
}

impl Gathered {
    fn new(classes: Vec<String>, reader: &dyn Reader) -> Self {
        Self {
            rows: 0,
            ahead: reader.rows_ahead(),
            counts: vec![0; classes.len()],
            classes,
            shapes: BTreeMap::new(),
            bad: reader.strays().to_vec(),
            first: None,
            mismatch: None,
            ids: Vec::new(),
            labels: Vec::new(),
            captions: reader.has_captions().then(Vec::new),
            told: 0,
            pixels: Vec::new(),
        }
    }

    /// Judges a row and keeps its image if it is wanted and usable.
    fn take(&mut self, row: Row<'_>, options: &ReadOptions) -> Result<(), DataError> {
        let id = self.rows;
        self.rows += 1;
        let Some(label) = row.label else {
            self.reject(row.place, "the label is null".to_string());
            return Ok(());
        };
        let class = self.class_of(label, row.place)?;
        if options.per_class.is_some_and(|wanted| self.counts[class] >= wanted) {
            return Ok(());
        }
        let is_silent = row.caption.is_none_or(|caption| caption.trim().is_empty());
        if self.captions.is_some() && is_silent {
            self.reject(row.place, "the caption is empty".to_string());
            return Ok(());
        }
        let caption = row.caption.unwrap_or_default();
        match row.content.picture() {
            Ok(picture) => return self.keep(id, (class, caption), picture, row.place, options),
            Err(reason) => self.reject(row.place, reason),
        }
        Ok(())
    }

    fn reject(&mut self, place: Place<'_>, reason: String) {
        self.bad.push(BadImage { place: place.to_string(), reason });
    }

    /// A list of bad images that nobody would read is not made longer, even where they are left out.
    fn expect_few_bad(&mut self, source: &Source) -> Result<(), DataError> {
        if self.bad.len() <= MOST_BAD {
            return Ok(());
        }
        let (source_name, bad) = (source.to_string(), std::mem::take(&mut self.bad));
        Err(DataError::BadImages { source_name, rows: self.rows, bad })
    }

    fn class_of(&self, label: i64, place: Place<'_>) -> Result<usize, DataError> {
        let classes = self.classes.len();
        match usize::try_from(label) {
            Ok(class) if class < classes => Ok(class),
            _ => Err(DataError::Label { place: place.to_string(), label, classes }),
        }
    }

    fn keep(
        &mut self,
        id: u64,
        (class, caption): (usize, &str),
        picture: Picture,
        place: Place<'_>,
        options: &ReadOptions,
    ) -> Result<(), DataError> {
        self.counts[class] += 1;
        *self.shapes.entry(picture.shape).or_default() += 1;
        let picture = apply(picture, options);
        let (first, shape) = self.first.get_or_insert_with(|| (place.to_string(), picture.shape));
        if picture.shape == *shape {
            let told =
                if self.captions.is_some() { size_of::<String>() + caption.len() } else { 0 };
            self.expect_room(picture.pixels.len() + told, place, options)?;
            self.told += told as u64;
            self.ids.push(id);
            self.labels.push(class as u32);
            self.captions.iter_mut().for_each(|captions| captions.push(caption.to_string()));
            self.pixels.extend_from_slice(&picture.pixels);
        } else if self.mismatch.is_none() {
            self.mismatch = Some(DataError::Shapes {
                first: first.clone(),
                first_shape: *shape,
                other: place.to_string(),
                other_shape: picture.shape,
            });
        }
        Ok(())
    }

    /// Whether there is room for one more image of `length` bytes, its caption included, and before the first for all that will come.
    fn expect_room(
        &self,
        length: usize,
        place: Place<'_>,
        options: &ReadOptions,
    ) -> Result<(), DataError> {
        let Some(limit) = options.memory else { return Ok(()) };
        let classes = self.classes.len() as u64;
        let wanted = options.per_class.map(|wanted| (wanted as u64).saturating_mul(classes));
        let rows = self.ahead.map(|ahead| ahead.min(wanted.unwrap_or(u64::MAX)));
        let all = rows.filter(|_| self.ids.is_empty()).unwrap_or(1).saturating_mul(length as u64);
        let needed = all.saturating_add(self.pixels.len() as u64 + self.told);
        if needed <= limit {
            return Ok(());
        }
        Err(DataError::TooLarge { place: place.to_string(), needed, limit })
    }

    /// How many images have a caption, where the source has captions; images of all shapes count.
    pub(crate) fn n_captions(&self) -> Option<usize> {
        self.captions.as_ref().map(|_| self.counts.iter().sum())
    }

    /// The images, if they have one shape and every class has enough.
    pub(crate) fn into_images(
        self,
        source: &Source,
        options: &ReadOptions,
    ) -> Result<ImageSet, DataError> {
        let source_name = source.to_string();
        if let Some(mismatch) = self.mismatch {
            return Err(mismatch);
        }
        let Some((_, shape)) = self.first else {
            return Err(DataError::Empty { source_name, rows: self.rows });
        };
        let wanted = options.per_class.unwrap_or(0);
        if let Some(class) = self.counts.iter().position(|&found| found < wanted) {
            let (class, found) = (self.classes[class].clone(), self.counts[class]);
            return Err(DataError::TooFew { source_name, class, wanted, found });
        }
        let images = ImageSet::new(shape, self.classes, self.ids, self.labels, self.pixels)?;
        match self.captions {
            Some(captions) => images.captioned(captions),
            None => Ok(images),
        }
    }
}

fn apply(picture: Picture, options: &ReadOptions) -> Picture {
    let picture = match options.colour {
        Some(colour) => picture.coloured(colour),
        None => picture,
    };
    match options.resolution {
        Some(side) => picture.fitted(side),
        None => picture,
    }
}

fn check_options(options: &ReadOptions) -> Result<(), DataError> {
    let refuse = |name, expected: String, found: usize| {
        Err(DataError::Option { name, expected, found: found.to_string() })
    };
    match (options.resolution, options.per_class) {
        (Some(side), _) if side == 0 || side > MAX_SIDE as usize => {
            refuse("resolution", format!("1 to {MAX_SIDE} pixels"), side)
        }
        (_, Some(0)) => refuse("per_class", "at least 1 image".to_string(), 0),
        _ => Ok(()),
    }
}

/// The names of the classes: the source's own, else those given, else "0" to "9".
fn class_names(
    source: &Source,
    named: Option<&[String]>,
    given: Option<&[String]>,
) -> Result<Vec<String>, DataError> {
    let names = match (named, given) {
        (Some(named), Some(given)) if named != given => {
            let (named, given) = (named.to_vec(), given.to_vec());
            return Err(DataError::Classes { source_name: source.to_string(), named, given });
        }
        (Some(names), _) | (None, Some(names)) => names.to_vec(),
        (None, None) => (0..DEFAULT_CLASSES).map(|label| label.to_string()).collect(),
    };
    check_classes(&names)?;
    Ok(names)
}

#[cfg(test)]
mod tests;
