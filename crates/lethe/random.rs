//! A known Stable Diffusion model with random numbers, in its full size: for trying out memory and time.

use crate::make::part as files_of;
use crate::published;
use crate::whole::{expect_room, new_folder, put};
use anyhow::{Result, anyhow};
use candle_core::{DType, Device};
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_latent::single_file::Part;
use std::path::Path;

/// What the folder takes on a disk.
const BYTES: u64 = 4_300_000_000;

/// Writes the folder; one part after another, so that only one is in memory.
///
/// # Errors
/// When `folder` is there already, or the disk refuses.
pub fn write(folder: &Path, seed: Seed) -> Result<()> {
    expect_room(folder, BYTES)?;
    new_folder(folder, |folder| {
        put(folder, published::files()?)?;
        for part in Part::ALL {
            let config = published::config(part)?;
            let declarations = part.declarations(&config.to_string());
            let declarations =
                declarations.map_err(|error| anyhow!("models: {}: {error}", part.name()))?;
            let store = ParamStore::initialised(&declarations, seed, DType::F32, &Device::Cpu)?;
            put(folder, files_of(part.name(), &config, part.stem(), &store)?)?;
        }
        Ok(())
    })
}
