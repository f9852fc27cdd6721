//! A U-Net on disk: `config.json` and `diffusion_pytorch_model.safetensors`, as diffusers' `save_pretrained` leaves them.

use crate::{PixelError, UNet2d, UNet2dConfig};
use candle_core::{DType, Device};
use lethe_candlex::params::Declarations;
use lethe_candlex::weights::{self, Loaded};
pub use lethe_layers::attention::todays_name;
use lethe_layers::object;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Name of the configuration.
pub const CONFIG: &str = "config.json";
/// Name of the weights.
pub const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// Largest configuration in bytes.
const LARGEST_CONFIG: u64 = 1 << 20;

/// A U-Net that was read.
#[derive(Debug)]
pub struct Pretrained {
    /// Its configuration.
    pub config: UNet2dConfig,
    /// Its structure.
    pub unet: UNet2d,
    /// What it declares.
    pub declarations: Declarations,
    /// Its numbers, and how the file held them.
    pub loaded: Loaded,
}

/// The folder that holds the U-Net of `path`: itself, or its `unet` in a whole pipeline.
pub fn locate(path: &Path) -> PathBuf {
    let inner = path.join("unet");
    if !path.join(CONFIG).exists() && inner.join(CONFIG).exists() {
        inner
    } else {
        path.to_path_buf()
    }
}

/// Reads `folder`; every tensor of the network must be there once, in its shape, finite.
///
/// # Errors
/// [`PixelError`] names the file and everything in it that does not fit.
pub fn read(folder: &Path, dtype: DType, device: &Device) -> Result<Pretrained, PixelError> {
    let folder = locate(folder);
    let path = folder.join(CONFIG);
    let config = read_config(&path)?;
    let (unet, declarations) = UNet2d::new(&config).map_err(|error| in_file(&path, error))?;
    let loaded = weights::load(&declarations, &[folder.join(WEIGHTS)], todays_name, dtype, device)?;
    Ok(Pretrained { config, unet, declarations, loaded })
}

/// A field that does not fit, as the fault of the file in which it stands.
fn in_file(path: &Path, error: PixelError) -> PixelError {
    match error {
        PixelError::Config { .. } => {
            PixelError::Json { path: path.to_path_buf(), reason: error.to_string() }
        }
        other => other,
    }
}

/// What is read by itself; the rest is read as a part of its pipeline.
const EXPECTED: &str = "UNet2DModel (of Stable Diffusion, give the folder of the whole pipeline)";

/// The configuration at `path`.
///
/// # Errors
/// [`PixelError::Io`]; [`PixelError::Json`], also for another class of network.
pub fn read_config(path: &Path) -> Result<UNet2dConfig, PixelError> {
    let io = |source| PixelError::Io { path: path.to_path_buf(), action: "read", source };
    let json = |reason: String| PixelError::Json { path: path.to_path_buf(), reason };
    let found = std::fs::metadata(path).map_err(io)?;
    if !found.is_file() || found.len() > LARGEST_CONFIG {
        return Err(json(format!("expected a file of at most {LARGEST_CONFIG} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| json(error.to_string()))?;
    let mut fields: Map<String, Value> = object::fields(&text).map_err(json)?;
    match fields.get("_class_name").and_then(Value::as_str) {
        None | Some("UNet2DModel") => {}
        Some(other) => {
            let (expected, got) = (EXPECTED.to_string(), other.to_string());
            let error = PixelError::Config { field: "_class_name", expected, got };
            return Err(in_file(path, error));
        }
    }
    fields.retain(|key, _| !key.starts_with('_'));
    square_sample_size(&mut fields);
    serde_json::from_value(Value::Object(fields)).map_err(|error| json(error.to_string()))
}

/// diffusers writes [n, n] where it was given a pair.
fn square_sample_size(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(sides)) = fields.get("sample_size")
        && sides.len() == 2
        && sides[0] == sides[1]
    {
        let side = sides[0].clone();
        fields.insert("sample_size".into(), side);
    }
}

/// `config.json`'s text, as diffusers reads it.
///
/// # Errors
/// None in practice: the configuration is plain data.
pub fn config_text(config: &UNet2dConfig) -> Result<String, PixelError> {
    let fault = |error: serde_json::Error| PixelError::Json {
        path: CONFIG.into(),
        reason: error.to_string(),
    };
    let mut value = serde_json::to_value(config).map_err(fault)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("_class_name".into(), "UNet2DModel".into());
    }
    serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(fault)
}
