//! The data that `[data]` of a protocol names.

use crate::exit::Fault;
use crate::plan::machine;
use crate::protocol::DataSpec;
use anyhow::{Context, Result, anyhow, bail};
use lethe_data::{BadImages, Colour, DataError, ImageSet, Part, ReadOptions, Source, detect, read};
use std::path::Path;

/// Reads it, and says in words where it comes from.
///
/// # Errors
/// Names the field or the file that does not fit.
pub fn load_images(spec: &DataSpec) -> Result<(ImageSet, String)> {
    let source = source(spec)?;
    let options = ReadOptions {
        resolution: spec.resolution,
        colour: choice(
            "data.colour",
            spec.colour.as_deref(),
            &[("grey", Colour::Grey), ("rgb", Colour::Rgb)],
        )?,
        per_class: spec.per_class,
        caption_column: spec.caption_column.clone(),
        classes: spec.classes.clone(),
        bad_images: choice(
            "data.bad_images",
            Some(&spec.bad_images),
            &[("refuse", BadImages::Refuse), ("skip", BadImages::Skip)],
        )?
        .unwrap_or_default(),
        memory: machine::room_for_pixels(),
    };
    let loaded = read(&source, &options).map_err(of_protocol)?;
    let skipped = match loaded.skipped.len() {
        0 => String::new(),
        n => format!(", {n} bad images left out"),
    };
    Ok((loaded.images, format!("{source}{skipped}")))
}

/// An error of the reader; an option of it is called as the protocol calls it.
pub fn of_protocol(error: DataError) -> anyhow::Error {
    match error {
        DataError::Option { .. } => Fault::Usage.because(anyhow!("data.{error}")),
        other => other.into(),
    }
}

/// What the protocol's words stand for.
fn choice<T: Copy>(field: &str, word: Option<&str>, known: &[(&str, T)]) -> Result<Option<T>> {
    let Some(word) = word else { return Ok(None) };
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let found = known.iter().find(|(name, _)| *name == word);
    let found = found
        .with_context(|| format!("{field}: expected one of {}, got `{word}`", names.join(", ")))?;
    Ok(Some(found.1))
}

fn source(spec: &DataSpec) -> Result<Source> {
    let part = choice(
        "data.part",
        spec.part.as_deref(),
        &[("training", Part::Training), ("test", Part::Test), ("both", Part::Both)],
    )?;
    let found = match (spec.source.as_str(), &spec.path) {
        ("fashion-mnist", None) => Source::FashionMnist,
        ("fashion-mnist", Some(_)) => bail!("data.path: the embedded fashion-mnist takes none"),
        ("path", Some(path)) => detect(Path::new(path))?,
        ("path", None) => bail!("data.path: source = \"path\" wants one"),
        (source, None) if source.starts_with("hub:") => {
            Source::Parquet { files: crate::hub::dataset(&source[4..])? }
        }
        (source, Some(_)) if source.starts_with("hub:") => {
            bail!("data.path: source = \"{source}\" takes none")
        }
        (other, _) => bail!(
            "data.source: expected \"fashion-mnist\", \"path\" or \"hub:OWNER/NAME\", got `{other}`"
        ),
    };
    match (found, part) {
        (Source::CifarBinary { folder, .. }, Some(part)) => {
            Ok(Source::CifarBinary { folder, part })
        }
        (other, Some(_)) => {
            bail!("data.part: only cifar-10-batches-bin has parts, this is {other}")
        }
        (found, None) => Ok(found),
    }
}
