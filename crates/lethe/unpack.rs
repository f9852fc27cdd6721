//! A single file in the original layout, unpacked: a diffusers folder with its weights.

use crate::exit::Fault;
use crate::make::{index, text};
use crate::published::{self, SCHEDULER, Texts};
use crate::whole::{expect_room, new_folder, put};
use anyhow::{Context, Result, anyhow};
use lethe_latent::folder::{INDEX, expect_family, is_pipeline, other_files};
use lethe_latent::unpack::{LeftOut, open, write_parts};
use lethe_ledger::durable;
use serde_json::Value;
use std::path::Path;

/// Writes the new `folder` with the weights of `file`, and what was left out of it.
///
/// All else is taken from the pipeline `like`, or is as published of Stable Diffusion v1.5.
///
/// # Errors
/// Names the file, and everything in it that does not fit; then there is no folder.
pub fn unpack(file: &Path, like: Option<&Path>, folder: &Path) -> Result<LeftOut> {
    new_folder(folder, |folder| unpack_into(file, like, folder))
}

/// The same into a `folder` that is there.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_into(file: &Path, like: Option<&Path>, folder: &Path) -> Result<LeftOut> {
    let mut weights = open(file)?;
    let length = std::fs::metadata(file).with_context(|| file.display().to_string())?.len();
    expect_room(folder, length)?;
    put(folder, others(like)?)?;
    Ok(write_parts(&mut weights, folder)?)
}

/// Every file of the folder but the weights.
///
/// # Errors
/// When `like` is no whole pipeline.
pub fn others(like: Option<&Path>) -> Result<Texts> {
    let Some(like) = like else { return published::files() };
    if !is_pipeline(like) {
        return Err(Fault::Missing.because(anyhow!(
            "{}: expected the folder of a whole Stable Diffusion model, whose configurations are taken",
            like.display()
        )));
    }
    expect_family(like)?;
    let mut files = Texts::new();
    for (name, path) in other_files(like)? {
        let is_weights = name.ends_with(".safetensors") || name.ends_with(".index.json");
        if !is_weights && name != INDEX {
            files.push((name, durable::read(&path)?));
        }
    }
    files.push((INDEX.into(), text(&index(&scheduler_class(&files)))?));
    Ok(files)
}

/// Which scheduler the configuration is of; what is no JSON is left to the reader.
fn scheduler_class(files: &Texts) -> String {
    let bytes = files.iter().find(|(name, _)| name == SCHEDULER).map(|(_, bytes)| &bytes[..]);
    let config: Value = serde_json::from_slice(bytes.unwrap_or_default()).unwrap_or_default();
    config.get("_class_name").and_then(Value::as_str).unwrap_or("DDIMScheduler").to_string()
}
