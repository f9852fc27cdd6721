//! `AutoencoderKL`: images to latents and back, under diffusers' names.
//!
//! Law: q(z|x) = N(mean, exp(logvar)) with logvar held within [−30, 20]; latents are scaled by `scaling_factor`.
//! Source: Rombach et al. 2022, section 3.1; Kingma & Welling 2014.
//!
//! | tensor | shape |
//! |---|---|
//! | images | [batch, height, width, 3], in [−1, 1] |
//! | latents | [batch, height / factor, width / factor, latent_channels] |

mod blocks;
mod config;
mod objective;
#[cfg(test)]
mod tests;

pub use config::AutoencoderKlConfig;
pub use objective::{Objective, objective};

use crate::LatentError;
use crate::folder::{CONFIG, DIFFUSERS_STEM, read_text, weight_files};
use blocks::{Builder, Half};
use candle_core::{D, DType, Device, Result, Tensor};
use lethe_candlex::params::{Declarations, ParamStore};
use lethe_candlex::tape::{Tape, Value};
use lethe_candlex::weights::{self, Loaded};
pub use lethe_layers::attention::todays_name;
use lethe_layers::conv::Conv2d;
use std::path::Path;

/// Where diffusers holds logvar.
const LOG_VARIANCE: [f64; 2] = [-30., 20.];

/// The structure; the numbers live in a [`ParamStore`].
#[derive(Clone, Debug)]
pub struct AutoencoderKl {
    encoder: Half,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    decoder: Half,
    scaling_factor: f64,
}

/// q(z|x), before scaling.
#[derive(Clone, Debug)]
pub struct Moments {
    /// [batch, height, width, latent channels].
    pub mean: Value,
    /// The same shape.
    pub log_variance: Value,
}

/// An autoencoder that was read.
#[derive(Debug)]
pub struct Pretrained {
    /// Its configuration.
    pub config: AutoencoderKlConfig,
    /// Its structure.
    pub vae: AutoencoderKl,
    /// Its numbers, and how the file held them.
    pub loaded: Loaded,
}

/// Reads a diffusers `vae` folder; every tensor of the network must be there once, in its shape, finite.
///
/// # Errors
/// [`LatentError`] names the file and everything in it that does not fit.
pub fn read(
    folder: &Path,
    dtype: DType,
    device: &Device,
) -> std::result::Result<Pretrained, LatentError> {
    let path = folder.join(CONFIG);
    let content = |reason| LatentError::Content { path: path.clone(), reason };
    let config = AutoencoderKlConfig::parse(&read_text(&path)?).map_err(content)?;
    let (vae, declarations) =
        AutoencoderKl::new(&config).map_err(|error| content(error.to_string()))?;
    let files = weight_files(folder, DIFFUSERS_STEM)?;
    let loaded = weights::load(&declarations, &files, todays_name, dtype, device)?;
    Ok(Pretrained { config, vae, loaded })
}

impl AutoencoderKl {
    /// The network of `config` and the parameters that it declares.
    ///
    /// # Errors
    /// [`LatentError::Config`] for a configuration that it does not know.
    pub fn new(
        config: &AutoencoderKlConfig,
    ) -> std::result::Result<(Self, Declarations), LatentError> {
        config.validate()?;
        Ok(Builder::new(config).build())
    }

    /// q(z|x) of images [batch, height, width, channels] in [−1, 1], before scaling.
    ///
    /// # Errors
    /// When the sides are not multiples of the factor.
    pub fn encode(&self, tape: &Tape, x: &Value) -> Result<Moments> {
        let mut moments = self.encoder.forward(tape, x)?;
        if let Some(conv) = &self.quant_conv {
            moments = conv.forward(tape, &moments)?;
        }
        let mean = tape.composed(&[&moments], |t| t[0].chunk(2, D::Minus1)?[0].contiguous())?;
        let [low, high] = LOG_VARIANCE;
        let log_variance = tape.composed(&[&moments], |t| {
            t[0].chunk(2, D::Minus1)?[1].contiguous()?.clamp(low, high)
        })?;
        Ok(Moments { mean, log_variance })
    }

    /// Images of latents that are not scaled.
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn decode(&self, tape: &Tape, z: &Value) -> Result<Value> {
        match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(tape, &conv.forward(tape, z)?),
            None => self.decoder.forward(tape, z),
        }
    }

    /// (mean, standard deviation) of the scaled latents of `images`.
    ///
    /// # Errors
    /// As [`AutoencoderKl::encode`].
    pub fn latents(&self, store: &ParamStore, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let tape = Tape::inference(store);
        let moments = self.encode(&tape, &Value::constant(images.clone()))?;
        let deviation = (moments.log_variance.tensor() * 0.5)?.exp()?;
        Ok(((moments.mean.tensor() * self.scaling_factor)?, (deviation * self.scaling_factor)?))
    }

    /// Images of scaled latents.
    ///
    /// # Errors
    /// As [`AutoencoderKl::decode`].
    pub fn images(&self, store: &ParamStore, latents: &Tensor) -> Result<Tensor> {
        let tape = Tape::inference(store);
        let z = Value::constant((latents / self.scaling_factor)?);
        Ok(self.decode(&tape, &z)?.tensor().clone())
    }
}
