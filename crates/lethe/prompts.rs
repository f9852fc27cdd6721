//! What a network is told of images in words: templates filled with their classes and captions.

use crate::protocol::LatentSpec;
use anyhow::{Result, ensure};
use lethe_data::ImageSet;
use std::collections::BTreeMap;

/// The template of data without captions, and of data with captions.
const OF_CLASSES: &str = "a photo of a {class}";
const OF_CAPTIONS: &str = "{text}";

/// Which texts there are, and whose they are.
pub struct Prompts {
    /// Each text once; the last one is the empty text.
    pub texts: Vec<String>,
    /// Which text is that of each image, in the order of the images.
    pub of_example: Vec<u32>,
    /// Which text is told of images that are drawn of each class.
    pub of_class: Vec<u32>,
}

/// The templates of `spec`, or those that `images` suggest.
pub fn templates(spec: &LatentSpec, images: &ImageSet) -> Vec<String> {
    let suggested = if images.captions().is_some() { OF_CAPTIONS } else { OF_CLASSES };
    spec.templates.clone().unwrap_or_else(|| vec![suggested.to_string()])
}

/// `spec` with its templates written out, if they fit `images`.
///
/// # Errors
/// When a template asks for captions that the data do not have, or all say the same of every image and the protocol does
/// not say that this is meant.
pub fn told(spec: LatentSpec, images: &ImageSet) -> Result<LatentSpec> {
    let templates = templates(&spec, images);
    let asking = templates.iter().find(|template| template.contains("{text}"));
    if let (Some(template), None) = (asking, images.captions()) {
        anyhow::bail!(
            "latent.templates: `{template}` asks for captions, and the data have none; expected {{class}} alone, \
             or data with captions (a metadata.jsonl, metadata.csv or Parquet file with a column `text`, \
             or the column that data.caption_column names)"
        );
    }
    let is_varied = images.classes().len() > 1 || images.captions().is_some();
    let is_silent = templates.iter().all(|template| !template.contains('{'));
    ensure!(
        spec.same_text || !(is_varied && is_silent),
        "latent.templates: with {templates:?} images are told neither their class nor their caption; expected {{class}} \
         or {{text}} in one of them, or latent.same_text = true where that is meant"
    );
    Ok(LatentSpec { templates: Some(templates), ..spec })
}

impl Prompts {
    /// Every example's template is chosen by its id alone.
    pub fn new(templates: &[String], images: &ImageSet) -> Self {
        let mut prompts = Self { texts: Vec::new(), of_example: Vec::new(), of_class: Vec::new() };
        let mut known = BTreeMap::new();
        let class = |label: u32| images.class_name(label).unwrap_or_default();
        let captions = images.captions();
        for label in 0..images.classes().len() as u32 {
            let first = images.labels().iter().position(|&found| found == label);
            let caption = captions.zip(first).map(|(captions, first)| captions[first].as_str());
            let text = filled(&templates[0], class(label), caption.unwrap_or(class(label)));
            let index = prompts.index(&mut known, text);
            prompts.of_class.push(index);
        }
        for (place, example) in images.iter().enumerate() {
            let template = &templates[(number(example.id) % templates.len() as u64) as usize];
            let caption = captions.map_or("", |captions| captions[place].as_str());
            let index = prompts.index(&mut known, filled(template, class(example.label), caption));
            prompts.of_example.push(index);
        }
        prompts.texts.push(String::new());
        prompts
    }

    fn index(&mut self, known: &mut BTreeMap<String, u32>, text: String) -> u32 {
        *known.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            self.texts.len() as u32 - 1
        })
    }
}

/// A number that an id alone decides.
fn number(id: u64) -> u64 {
    let digest = blake3::hash(&id.to_le_bytes());
    u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap_or_default())
}

/// The template with `class` and `caption` in it; braces that these hold themselves stay as they are.
fn filled(template: &str, class: &str, caption: &str) -> String {
    let mut parts = template.split('{');
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        text.push_str(if name == "text" { caption } else { class });
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_data::Shape;

    /// Images 0 to 3 of the classes a b b a, and a class without an image.
    fn images(captions: Option<[&str; 4]>) -> ImageSet {
        let shape = Shape { width: 1, height: 1, channels: 1 };
        let classes = ["a", "b", "none"].map(String::from).to_vec();
        let (ids, labels) = ((0..4).collect(), vec![0, 1, 1, 0]);
        let images = ImageSet::new(shape, classes, ids, labels, vec![0; 4]).unwrap();
        match captions {
            Some(captions) => images.captioned(captions.map(String::from).to_vec()).unwrap(),
            None => images,
        }
    }

    fn spec(templates: &[&str]) -> LatentSpec {
        let templates = Some(templates.iter().map(|template| template.to_string()).collect());
        LatentSpec { templates, ..LatentSpec::default() }
    }

    #[test]
    fn captions_take_the_place_of_the_template_where_there_are_any() {
        let (plain, captioned) = (images(None), images(Some(["w", "x", "y", "w"])));
        let of = |images: &ImageSet| {
            let prompts = Prompts::new(&templates(&LatentSpec::default(), images), images);
            let text = |&index: &u32| prompts.texts[index as usize].clone();
            (
                prompts.of_example.iter().map(text).collect::<Vec<_>>(),
                prompts.of_class.iter().map(text).collect::<Vec<_>>(),
                prompts.texts.len(),
            )
        };
        let (examples, classes, n) = of(&plain);
        assert_eq!(examples[..2], ["a photo of a a", "a photo of a b"]);
        assert_eq!((classes.len(), n), (3, 4));
        let (examples, classes, n) = of(&captioned);
        assert_eq!(examples, ["w", "x", "y", "w"]);
        assert_eq!((classes, n), (["w", "x", "none"].map(String::from).to_vec(), 5));
    }

    #[test]
    fn what_a_caption_holds_is_not_filled_again() {
        assert_eq!(filled("{class}: {text}!", "{text}", "a {class}"), "{text}: a {class}!");
        assert_eq!(filled("plain", "a", "b"), "plain");
    }

    #[test]
    fn templates_that_do_not_fit_the_data_are_refused() {
        let (plain, captioned) = (images(None), images(Some(["w", "x", "y", "z"])));
        let refused = |spec, images: &ImageSet| told(spec, images).unwrap_err().to_string();
        assert!(
            refused(spec(&["{class}", "a {text}"]), &plain)
                .contains("`a {text}` asks for captions")
        );
        for images in [&plain, &captioned] {
            let message = refused(spec(&["a garment"]), images);
            assert!(message.contains("latent.same_text = true"), "{message}");
            told(LatentSpec { same_text: true, ..spec(&["a garment"]) }, images).unwrap();
            told(spec(&["{class}", ""]), images).unwrap();
        }
        let written = told(LatentSpec::default(), &captioned).unwrap().templates;
        assert_eq!(written.unwrap(), ["{text}"]);
    }
}
