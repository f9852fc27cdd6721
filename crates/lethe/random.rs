//! A known Stable Diffusion model with random numbers, in its full size: for trying out memory and time.

use crate::exit::Fault;
use crate::make::{index, part, text, tokenizer_files, vocabulary};
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Device};
use lethe_candlex::params::{Declarations, ParamStore};
use lethe_candlex::rng::Seed;
use lethe_latent::{
    AutoencoderKl, AutoencoderKlConfig, ClipTextConfig, ClipTextEncoder, UNet2dCondition,
    UNet2dConditionConfig,
};
use lethe_ledger::durable;
use lethe_train::checkpoint::Files;
use serde_json::{Value, json};
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
    let networks: [(&str, fn(&str) -> Result<Declarations>); 3] =
        [("unet", unet), ("vae", vae), ("text_encoder", text_encoder)];
    for (name, declare) in networks {
        let config = published(name)?;
        let declarations = declare(&config.to_string())?;
        let store = ParamStore::initialised(&declarations, seed, DType::F32, &Device::Cpu)?;
        let stem = if name == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
        put(folder, part(name, &config, stem, &store)?)?;
    }
    put(folder, tokenizer_files(vocabulary())?)?;
    put(folder, vec![("scheduler/scheduler_config.json".into(), text(&scheduler())?)])?;
    put(folder, vec![("model_index.json".into(), text(&index())?)])
}

fn put(folder: &Path, files: Files) -> Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        durable::write_file(&path, &bytes)?;
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

fn unet(config: &str) -> Result<Declarations> {
    let config = UNet2dConditionConfig::parse(config).map_err(|error| anyhow!(error))?;
    Ok(UNet2dCondition::new(&config)?.1)
}

fn vae(config: &str) -> Result<Declarations> {
    let config = AutoencoderKlConfig::parse(config).map_err(|error| anyhow!(error))?;
    Ok(AutoencoderKl::new(&config)?.1)
}

fn text_encoder(config: &str) -> Result<Declarations> {
    let (_, declarations) =
        ClipTextEncoder::new(&ClipTextConfig::parse(config).map_err(|error| anyhow!(error))?)?;
    let n: usize = declarations.n_elements();
    ensure!(n == 123_060_480, "text encoder: expected 123060480 parameters, got {n}");
    Ok(declarations)
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
