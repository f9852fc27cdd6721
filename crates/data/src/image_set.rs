//! A dataset in memory: images of one shape with ids, labels and class names, and captions where there are any.

use std::fmt;

use crate::DataError;

/// The shape of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes in a pixel: 1 is grey, 3 is red, green, blue.
    pub channels: usize,
}

impl Shape {
    /// Bytes in an image of this shape; saturates where the product does not fit.
    pub fn bytes(&self) -> usize {
        self.width.saturating_mul(self.height).saturating_mul(self.channels)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colour = if self.channels == 1 { "grey" } else { "RGB" };
        write!(f, "{}x{} {colour}", self.width, self.height)
    }
}

/// One datum of an [`ImageSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example<'a> {
    /// Its id: the row in source order.
    pub id: u64,
    /// Its class, an index into [`ImageSet::classes`].
    pub label: u32,
    /// Its pixels, `[height, width, channels]`.
    pub pixels: &'a [u8],
}

/// Images of one shape in memory, in source order, so that ids ascend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    shape: Shape,
    classes: Vec<String>,
    ids: Vec<u64>,
    labels: Vec<u32>,
    /// One for each image, or none at all.
    captions: Option<Vec<String>>,
    pixels: Vec<u8>,
}

impl ImageSet {
    /// Puts a set together from its parts.
    ///
    /// `pixels: [images, height, width, channels]`, bytes.
    ///
    /// # Errors
    /// [`DataError::Parts`] if there is no image, the channels are neither 1 nor 3, a length does not match, ids do not
    /// strictly ascend, a label names no class, or a class name is empty or repeated.
    pub fn new(
        shape: Shape,
        classes: Vec<String>,
        ids: Vec<u64>,
        labels: Vec<u32>,
        pixels: Vec<u8>,
    ) -> Result<Self, DataError> {
        check_shape(shape)?;
        check_classes(&classes)?;
        check_rows(shape, classes.len(), &ids, &labels, &pixels)?;
        Ok(Self { shape, classes, ids, labels, captions: None, pixels })
    }

    /// The same images with what is said of each, in the order of the ids.
    ///
    /// # Errors
    /// [`DataError::Parts`] if there are not as many captions as images.
    pub fn captioned(self, captions: Vec<String>) -> Result<Self, DataError> {
        if captions.len() != self.len() {
            return Err(parts("captions", &self.len().to_string(), captions.len().to_string()));
        }
        Ok(Self { captions: Some(captions), ..self })
    }

    /// The first `n` images, and at least one.
    pub fn first(&self, n: usize) -> Self {
        let n = n.clamp(1, self.len());
        Self {
            shape: self.shape,
            classes: self.classes.clone(),
            ids: self.ids[..n].to_vec(),
            labels: self.labels[..n].to_vec(),
            captions: self.captions.as_ref().map(|captions| captions[..n].to_vec()),
            pixels: self.pixels[..n * self.shape.bytes()].to_vec(),
        }
    }

    /// The number of images.
    #[allow(clippy::len_without_is_empty, reason = "a set is never empty: `new` refuses it")]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The shape of every image.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The names of the classes; label `i` means `classes()[i]`.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The ids, ascending.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The labels, in the order of the ids.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// What is said of each image, in the order of the ids, if the source says it.
    pub fn captions(&self) -> Option<&[String]> {
        self.captions.as_deref()
    }

    /// All pixels, `[images, height, width, channels]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels of one image, `[height, width, channels]`; `index < len()`, as for a slice.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.shape.bytes()..][..self.shape.bytes()]
    }

    /// The id of one image; `index < len()`, as for a slice.
    pub fn id(&self, index: usize) -> u64 {
        self.ids[index]
    }

    /// The label of one image; `index < len()`, as for a slice.
    pub fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    /// The name of a class, if there is such a class.
    pub fn class_name(&self, label: u32) -> Option<&str> {
        self.classes.get(label as usize).map(String::as_str)
    }

    /// The label of the class with this name.
    pub fn label_of(&self, class: &str) -> Option<u32> {
        self.classes.iter().position(|name| name == class).map(|label| label as u32)
    }

    /// The index of the image with this id.
    pub fn index_of(&self, id: u64) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// Every example in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Example<'_>> {
        let images = self.pixels.chunks_exact(self.shape.bytes());
        let rows = self.ids.iter().zip(&self.labels).zip(images);
        rows.map(|((&id, &label), pixels)| Example { id, label, pixels })
    }

    /// How many images each class has.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }

    /// The blake3 digest, in hex, of shape, class names, ids, labels, pixels and, where there are any, captions.
    ///
    /// Every number enters as 8 bytes, little endian, and every text after its length, so no two different sets run
    /// together to the same bytes.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut number = |value: usize| _ = hasher.update(&(value as u64).to_le_bytes());
        [self.shape.width, self.shape.height, self.shape.channels]
            .into_iter()
            .for_each(&mut number);
        number(self.classes.len());
        number(self.len());
        for class in &self.classes {
            hasher.update(&(class.len() as u64).to_le_bytes()).update(class.as_bytes());
        }
        for (id, label) in self.ids.iter().zip(&self.labels) {
            hasher.update(&id.to_le_bytes()).update(&u64::from(*label).to_le_bytes());
        }
        hasher.update(&self.pixels);
        for caption in self.captions.iter().flatten() {
            hasher.update(&(caption.len() as u64).to_le_bytes()).update(caption.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

fn check_shape(shape: Shape) -> Result<(), DataError> {
    if shape.bytes() > 0 && matches!(shape.channels, 1 | 3) {
        return Ok(());
    }
    let found = format!("{} x {} x {}", shape.width, shape.height, shape.channels);
    Err(parts("shape", "width and height above 0 and 1 or 3 channels", found))
}

/// Refuses names that could not serve as keys of a protocol.
pub(crate) fn check_classes(classes: &[String]) -> Result<(), DataError> {
    let mut sorted: Vec<&str> = classes.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(parts("classes", "different names", format!("{:?} twice", pair[0])));
    }
    match sorted.first() {
        None => Err(parts("classes", "at least one name", "none".to_string())),
        Some(&"") => Err(parts("classes", "names", "an empty text".to_string())),
        Some(_) => Ok(()),
    }
}

fn check_rows(
    shape: Shape,
    classes: usize,
    ids: &[u64],
    labels: &[u32],
    pixels: &[u8],
) -> Result<(), DataError> {
    if ids.is_empty() {
        return Err(parts("ids", "at least one", "none".to_string()));
    }
    if labels.len() != ids.len() {
        return Err(parts("labels", &ids.len().to_string(), labels.len().to_string()));
    }
    if Some(pixels.len()) != ids.len().checked_mul(shape.bytes()) {
        let expected = format!("{} images of {} bytes", ids.len(), shape.bytes());
        return Err(parts("pixels", &expected, format!("{} bytes", pixels.len())));
    }
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(parts("ids", "ascending ids", format!("{} before {}", pair[0], pair[1])));
    }
    match labels.iter().find(|&&label| label as usize >= classes) {
        Some(label) => Err(parts("labels", &format!("labels below {classes}"), label.to_string())),
        None => Ok(()),
    }
}

fn parts(field: &'static str, expected: &str, found: String) -> DataError {
    DataError::Parts { field, expected: expected.to_string(), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { width: 2, height: 1, channels: 1 };

    struct Raw {
        shape: Shape,
        classes: Vec<String>,
        ids: Vec<u64>,
        labels: Vec<u32>,
        pixels: Vec<u8>,
    }

    /// Three images with ids 1, 5, 6 after one change.
    fn changed(change: impl FnOnce(&mut Raw)) -> Result<ImageSet, String> {
        let classes = vec!["a".to_string(), "b".to_string()];
        let (ids, labels, pixels) = (vec![1, 5, 6], vec![1, 0, 1], vec![1, 2, 3, 4, 5, 6]);
        let mut raw = Raw { shape: SHAPE, classes, ids, labels, pixels };
        change(&mut raw);
        ImageSet::new(raw.shape, raw.classes, raw.ids, raw.labels, raw.pixels)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_set_is_read_by_index_id_and_name() {
        let set = changed(|_| {}).unwrap();
        assert_eq!((set.len(), set.shape()), (3, SHAPE));
        assert_eq!((set.image(1), set.id(1), set.label(1)), (&[3, 4][..], 5, 0));
        assert_eq!((set.index_of(6), set.index_of(2)), (Some(2), None));
        assert_eq!((set.class_name(1), set.class_name(2)), (Some("b"), None));
        assert_eq!((set.label_of("b"), set.label_of("c")), (Some(1), None));
        assert_eq!(set.counts(), [1, 2]);
        assert_eq!(set.captions(), None);
        assert_eq!((set.first(2).ids(), set.first(0).len()), (&[1, 5][..], 1));
        assert_eq!((set.first(2).pixels(), set.first(9)), (&[1, 2, 3, 4][..], set.clone()));
        assert_eq!(set.iter().nth(2), Some(Example { id: 6, label: 1, pixels: &[5, 6] }));
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let refusal = |change: fn(&mut Raw)| changed(change).unwrap_err();
        assert!(refusal(|raw| raw.shape.channels = 2).starts_with("image set: shape"));
        assert!(refusal(|raw| raw.shape.width = 0).starts_with("image set: shape"));
        assert!(refusal(|raw| raw.shape.width = usize::MAX).starts_with("image set: pixels"));
        assert!(refusal(|raw| raw.classes.clear()).starts_with("image set: classes"));
        assert!(refusal(|raw| raw.classes[1].clear()).contains("an empty text"));
        assert!(refusal(|raw| raw.classes[1] = "a".to_string()).contains("\"a\" twice"));
        assert!(refusal(|raw| raw.ids.clear()).starts_with("image set: ids"));
        assert!(refusal(|raw| raw.ids[1] = 1).contains("found 1 before 1"));
        assert!(refusal(|raw| raw.labels.truncate(2)).starts_with("image set: labels"));
        assert!(refusal(|raw| raw.labels[0] = 2).contains("labels below 2, found 2"));
        assert!(refusal(|raw| raw.pixels.truncate(5)).contains("3 images of 2 bytes, found 5"));
    }

    #[test]
    fn the_digest_sees_every_part() {
        let digest = |change: fn(&mut Raw)| changed(change).unwrap().digest();
        let digests = [
            digest(|_| {}),
            digest(|raw| raw.shape = Shape { width: 1, height: 2, ..SHAPE }),
            digest(|raw| raw.classes[1] = "c".to_string()),
            digest(|raw| raw.classes.push("c".to_string())),
            digest(|raw| raw.ids[0] = 2),
            digest(|raw| raw.labels[0] = 0),
            digest(|raw| raw.pixels[5] = 7),
        ];
        let mut different = digests.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), digests.len());
        assert_eq!(digests[0], digest(|_| {}));
    }

    #[test]
    fn captions_belong_to_images_and_to_the_digest() {
        let captioned = |texts: &[&str]| {
            let texts = texts.iter().map(|text| text.to_string()).collect();
            changed(|_| {}).unwrap().captioned(texts)
        };
        let set = captioned(&["one", "", "three"]).unwrap();
        assert_eq!(set.captions().unwrap()[2], "three");
        let digests = [
            changed(|_| {}).unwrap().digest(),
            set.digest(),
            captioned(&["on", "e", "three"]).unwrap().digest(),
            captioned(&["three", "", "one"]).unwrap().digest(),
        ];
        let mut different = digests.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), digests.len());
        let message = captioned(&["one"]).unwrap_err().to_string();
        assert!(message.starts_with("image set: captions: expected 3, found 1"), "{message}");
    }
}
