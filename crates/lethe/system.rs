//! The system that a protocol fine-tunes: a pixel-space U-Net, or that of a Stable Diffusion model with what surrounds it.

use crate::latent_system::Latent;
use anyhow::Result;
use candle_core::{DType, Device};
use lethe_candlex::params::{Declarations, ParamStore};
use lethe_candlex::rng::Seed;
use lethe_candlex::tape::{Tape, Value};
use lethe_candlex::weights;
use lethe_diffusion::denoiser::{Network, Pass};
use lethe_latent::UNet2dCondition;
use lethe_pixel::{UNet2d, UNet2dConfig, folder};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is fine-tuned, and what lies around it.
pub struct System {
    /// Structure of the network.
    pub network: AnyNetwork,
    /// The parameters that move.
    pub declarations: Declarations,
    /// The parameters below them that do not: the network itself, where adapters are trained.
    pub base: Option<Arc<ParamStore>>,
    /// Which of the two it is.
    pub kind: Kind,
    /// Where task 1 starts; the protocol's seed says it otherwise.
    pub pretrained: Option<PathBuf>,
}

/// Structure of a network of either system.
#[derive(Clone, Debug)]
pub enum AnyNetwork {
    /// On pixels.
    Pixel(UNet2d),
    /// On latents.
    Latent(UNet2dCondition),
}

/// Which system, and what it has besides a network.
pub enum Kind {
    /// Diffusion on pixels.
    Pixel(Box<UNet2dConfig>),
    /// Diffusion on the latents of an autoencoder, told texts.
    Latent(Box<Latent>),
}

impl Network for AnyNetwork {
    fn forward(
        &self,
        tape: &Tape,
        x: &Value,
        timesteps: &[f64],
        pass: &Pass,
    ) -> candle_core::Result<Value> {
        match self {
            Self::Pixel(unet) => unet.forward(tape, x, timesteps, pass),
            Self::Latent(unet) => unet.forward(tape, x, timesteps, pass),
        }
    }
}

impl System {
    /// The latent system, if it is that.
    pub fn latent(&self) -> Option<&Latent> {
        match &self.kind {
            Kind::Pixel(_) => None,
            Kind::Latent(latent) => Some(latent),
        }
    }

    /// Whether the network is told classes.
    pub fn is_conditional(&self) -> bool {
        matches!(&self.kind, Kind::Pixel(config) if config.num_class_embeds.is_some())
    }

    /// The file of a checkpoint in which a task's result lies.
    pub fn result_file(&self) -> &'static str {
        if self.base.is_some() {
            "training/adapters.safetensors"
        } else {
            "unet/diffusion_pytorch_model.safetensors"
        }
    }

    /// The parameters that move, as the file `path` holds them, over those that do not.
    ///
    /// # Errors
    /// Everything in the file that does not fit.
    pub fn load(&self, path: &Path, device: &Device) -> Result<ParamStore> {
        let paths = [path.to_path_buf()];
        let rename = folder::todays_name;
        let loaded = weights::load(&self.declarations, &paths, rename, DType::F32, device)?;
        Ok(self.whole(loaded.store))
    }

    /// The parameters from which task 1 starts.
    ///
    /// # Errors
    /// When pretrained weights do not fit.
    pub fn initial(&self, seed: Seed, device: &Device) -> Result<ParamStore> {
        let drawn = || ParamStore::initialised(&self.declarations, seed, DType::F32, device);
        Ok(match (&self.kind, &self.pretrained) {
            (Kind::Pixel(_), Some(path)) => folder::read(path, DType::F32, device)?.loaded.store,
            (Kind::Latent(latent), _) if self.base.is_none() => latent.unet_weights(device)?,
            _ => self.whole(drawn()?),
        })
    }

    /// `store` over the parameters that do not move.
    pub fn whole(&self, store: ParamStore) -> ParamStore {
        match &self.base {
            Some(base) => store.over(base.clone()),
            None => store,
        }
    }
}
