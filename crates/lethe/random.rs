//! A known Stable Diffusion model with random numbers, in its full size: for trying out memory and time.

use crate::exit::Fault;
use crate::make::{index, part, text, tokenizer_files, vocabulary};
use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Device};
use lethe_candlex::params::{Declarations, ParamStore};
use lethe_candlex::rng::Seed;
use lethe_latent::{
    AutoencoderKl, AutoencoderKlConfig, ClipTextConfig, ClipTextEncoder, UNet2dCondition,
    UNet2dConditionConfig,
};
use lethe_train::checkpoint::Files;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;

/// The one that is known.
pub const KNOWN: &str = "stable-diffusion-v1-5";

/// Writes the folder; one part after another, so that only one is in memory.
///
/// # Errors
/// When `folder` is there already, or the disk refuses.
pub fn write(folder: &Path, seed: Seed) -> Result<()> {
    if folder.exists() {
        return Err(Fault::Held.because(anyhow!("{}: it is there already", folder.display())));
    }
    for name in ["unet", "vae", "text_encoder"] {
        let config = published(name)?;
        let declarations = declared(name, &config.to_string())?;
        let store = ParamStore::initialised(&declarations, seed, DType::F32, &Device::Cpu)?;
        let stem = if name == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
        put(folder, part(name, &config, stem, &store)?)?;
    }
    put(folder, tokenizer_files(vocabulary())?)?;
    put(folder, vec![("scheduler/scheduler_config.json".into(), text(&scheduler())?.into())])?;
    put(folder, vec![("model_index.json".into(), text(&index())?.into())])
}

fn put(folder: &Path, files: Files) -> Result<()> {
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        content.write(&mut file).and_then(|()| file.sync_all())?;
    }
    Ok(())
}

/// The published configuration of a part.
fn published(part: &str) -> Result<Value> {
    let id = format!("{KNOWN}/{KNOWN}/{part}");
    let known = lethe_models::known()?;
    let manifest = known.into_iter().find(|manifest| manifest.id == id);
    Ok(Value::Object(manifest.with_context(|| format!("models: no manifest of {id}"))?.config))
}

fn declared(part: &str, config: &str) -> Result<Declarations> {
    let in_words = |error: String| anyhow!("models: {part}: {error}");
    Ok(match part {
        "unet" => UNet2dCondition::new(&UNet2dConditionConfig::parse(config).map_err(in_words)?)?.1,
        "vae" => AutoencoderKl::new(&AutoencoderKlConfig::parse(config).map_err(in_words)?)?.1,
        _ => ClipTextEncoder::new(&ClipTextConfig::parse(config).map_err(in_words)?)?.1,
    })
}

/// Stable Diffusion v1.5's own.
fn scheduler() -> Value {
    json!({
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.42.1",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "clip_sample": false,
    })
}
