//! The model that a run is given to start from, under one digest.
//!
//! It is read whenever a run goes on: its autoencoder and its texts every time, its network with every seed.

use crate::cache::Key;
use crate::system::{Kind, System};
use anyhow::Result;
use lethe_latent::folder::{DIFFUSERS_STEM, other_files, weight_files};
use std::path::{Path, PathBuf};

/// The digest of every file that is read of the model that `system` starts from, if it does.
///
/// # Errors
/// When a file cannot be read.
pub fn digest(system: &System) -> Result<Option<String>> {
    let Some(root) = &system.pretrained else { return Ok(None) };
    Ok(Some(of_folder(system, root)?))
}

/// The digest of the network in the diffusers folder `root`, whose kind is that of `system`, and of its noise levels.
///
/// # Errors
/// As [`digest`].
pub fn of_folder(system: &System, root: &Path) -> Result<String> {
    let files = match &system.kind {
        Kind::Pixel(_) => of_pixels(root),
        Kind::Latent(_) => of_latents(root)?,
    };
    digest_of(files)
}

/// The digest of the Stable Diffusion model in `root`.
///
/// # Errors
/// As [`digest`].
pub fn of_pipeline(root: &Path) -> Result<String> {
    digest_of(of_latents(root)?)
}

fn digest_of(files: Vec<(String, PathBuf)>) -> Result<String> {
    let mut key = Key::new("given");
    for (name, path) in files {
        key.text(&name);
        key.file(&path)?;
    }
    Ok(key.name())
}

fn of_pixels(root: &Path) -> Vec<(String, PathBuf)> {
    let network = lethe_pixel::folder::locate(root);
    let above = root.parent().unwrap_or(root);
    let places = [
        network.join(lethe_pixel::folder::CONFIG),
        network.join(lethe_pixel::folder::WEIGHTS),
        root.join("scheduler_config.json"),
        root.join("scheduler/scheduler_config.json"),
        above.join("scheduler/scheduler_config.json"),
    ];
    let there = places.into_iter().filter(|path| path.is_file());
    there.enumerate().map(|(number, path)| (number.to_string(), path)).collect()
}

/// Every file that is read of the pipeline `root`: its place in a pipeline, and where it lies.
///
/// # Errors
/// When a folder cannot be listed, or there are no weights.
pub fn of_latents(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = other_files(root)?;
    for path in weight_files(&root.join("unet"), DIFFUSERS_STEM)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((format!("unet/{name}"), path));
    }
    Ok(files)
}
