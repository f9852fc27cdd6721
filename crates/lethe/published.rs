//! What is published of Stable Diffusion v1.5 besides its weights: configurations, tokenizer, scheduler and index.

use crate::make::{index, text};
use anyhow::{Context, Result};
use lethe_latent::Vocabulary;
use lethe_latent::folder::{CONFIG, INDEX};
use lethe_latent::single_file::Part;
use serde_json::{Value, json};

/// The one that is known.
const KNOWN: &str = "stable-diffusion-v1-5";

/// Where a pipeline keeps what says its noise levels.
pub const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// The small files of a pipeline: their places in it, and their bytes.
pub type Texts = Vec<(String, Vec<u8>)>;

/// Every file of the folder but the weights.
///
/// # Errors
/// None in practice: it is plain data.
pub fn files() -> Result<Texts> {
    let tokenizer = Vocabulary::clip()?.files().into_iter();
    let mut files: Texts =
        tokenizer.map(|(name, bytes)| (format!("tokenizer/{name}"), bytes)).collect();
    for part in Part::ALL {
        files.push((format!("{}/{CONFIG}", part.name()), text(&config(part)?)?));
    }
    files.push((SCHEDULER.into(), text(&scheduler())?));
    files.push((INDEX.into(), text(&index("PNDMScheduler"))?));
    Ok(files)
}

/// The configuration of a part.
///
/// # Errors
/// None in practice: it is plain data.
pub fn config(part: Part) -> Result<Value> {
    let id = format!("{KNOWN}/{KNOWN}/{}", part.name());
    let known = lethe_models::known()?;
    let manifest = known.into_iter().find(|manifest| manifest.id == id);
    Ok(Value::Object(manifest.with_context(|| format!("models: no manifest of {id}"))?.config))
}

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
