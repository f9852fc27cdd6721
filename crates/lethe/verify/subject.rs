//! What is verified: a network with its numbers, and what lies around it in a whole pipeline.

use crate::latent_system::expect_fitting;
use crate::pipeline::{Ending, ending_of, locate, or_gone, scheduler_of};
use crate::system::AnyNetwork;
use crate::text_reader::TextReader;
use anyhow::Result;
use candle_core::{DType, Device};
use lethe_candlex::params::ParamStore;
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::schedule::NoiseSchedule;
use lethe_latent::{folder as latent, vae};
use lethe_pixel::folder as pixel;
use std::path::Path;

/// A network with its numbers, on the CPU, in 32-bit floats.
pub struct Subject {
    /// Structure.
    pub network: AnyNetwork,
    /// Numbers.
    pub store: ParamStore,
    /// How the file held them.
    pub file_type: String,
    /// What lies around it, where the folder is a whole pipeline.
    pub surroundings: Option<Surroundings>,
    /// Noise levels.
    pub schedule: NoiseSchedule,
    /// What the network predicts.
    pub parameterization: Parameterization,
    /// How a walk from pure noise is laid out.
    pub ending: Ending,
}

/// How a network by itself ends its walks.
const CLEAN: Ending = Ending { offset: 0, is_clean: true };

/// The frozen parts of a Stable Diffusion pipeline.
pub struct Surroundings {
    /// The autoencoder.
    pub vae: vae::Pretrained,
    /// Tokenizer and text encoder.
    pub reader: TextReader,
}

impl Subject {
    /// Reads the network of `folder`: a `UNet2DModel`, a `UNet2DConditionModel`, or a pipeline that holds one.
    ///
    /// # Errors
    /// Everything in the folder that does not fit.
    pub fn read(folder: &Path) -> Result<Self> {
        let root = locate(folder)?;
        Self::read_located(&root).map_err(or_gone(&root))
    }

    fn read_located(root: &Path) -> Result<Self> {
        let (schedule, parameterization) = scheduler_of(root)?;
        let is_pipeline = latent::is_pipeline(root);
        let ending = if is_pipeline { ending_of(root)? } else { CLEAN };
        let (network, loaded, surroundings) = if is_pipeline || is_told_texts(root) {
            latent::expect_family(root)?;
            let place =
                if root.join("unet").exists() { root.join("unet") } else { root.to_path_buf() };
            let (config, unet, declarations) = latent::read_unet_folder(&place)?;
            let loaded =
                latent::read_unet_weights(&place, &declarations, DType::F32, &Device::Cpu)?;
            let surroundings = is_pipeline.then(|| Surroundings::read(root)).transpose()?;
            if let Some(Surroundings { vae, reader }) = &surroundings {
                expect_fitting(root, &config, &vae.config, reader)?;
            }
            (AnyNetwork::Latent(unet), loaded, surroundings)
        } else {
            let found = pixel::read(root, DType::F32, &Device::Cpu)?;
            (AnyNetwork::Pixel(found.unet), found.loaded, None)
        };
        let (store, file_type) = (loaded.store, loaded.file_type);
        Ok(Self { network, store, file_type, surroundings, schedule, parameterization, ending })
    }

    /// What diffusers calls it.
    pub fn kind(&self) -> &'static str {
        match (&self.network, &self.surroundings) {
            (AnyNetwork::Pixel(_), _) => "UNet2DModel",
            (AnyNetwork::Latent(_), None) => "UNet2DConditionModel",
            (AnyNetwork::Latent(_), Some(_)) => "StableDiffusionPipeline",
        }
    }
}

impl Surroundings {
    fn read(root: &Path) -> Result<Self> {
        Ok(Self {
            vae: vae::read(&root.join("vae"), DType::F32, &Device::Cpu)?,
            reader: TextReader::open(root, &Device::Cpu)?,
        })
    }
}

/// Whether the network of `root` by itself is one that is told texts; what cannot be read is left to the reader.
fn is_told_texts(root: &Path) -> bool {
    let path = pixel::locate(root).join(pixel::CONFIG);
    let text = lethe_ledger::durable::read_text(path).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    config.get("_class_name").and_then(|name| name.as_str()) == Some("UNet2DConditionModel")
}
