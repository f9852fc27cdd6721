//! A whole Stable Diffusion model at work: texts to images.

use crate::exit::Fault;
use crate::latent_system::expect_fitting;
use crate::pipeline::{Ending, ending_of, scheduler_of};
use crate::text_reader::TextReader;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::finite::ensure_finite;
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::{NetworkDenoiser, Told};
use lethe_diffusion::guidance::Guided;
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::schedule::NoiseSchedule;
use lethe_latent::{UNet2dCondition, UNet2dConditionConfig, folder, vae};
use std::path::Path;

/// The model.
pub struct Painter {
    config: UNet2dConditionConfig,
    unet: UNet2dCondition,
    store: ParamStore,
    vae: vae::Pretrained,
    reader: TextReader,
    schedule: NoiseSchedule,
    parameterization: Parameterization,
    ending: Ending,
    device: Device,
}

/// What is drawn, and how.
pub struct Drawing<'a> {
    /// Each image's text.
    pub told: Told,
    /// What is drawn away from, [1, tokens, channels].
    pub nothing: &'a Tensor,
    /// Weight of guidance.
    pub guidance: f64,
    /// Network evaluations with a text; guidance takes as many without.
    pub stages: usize,
    /// Seed of the noise.
    pub seed: Seed,
}

impl Painter {
    /// Reads the pipeline `root`.
    ///
    /// # Errors
    /// Names the file, and everything in it, that does not fit.
    pub fn open(root: &Path, device: &Device) -> Result<Self> {
        folder::expect_family(root)?;
        let place = root.join("unet");
        let (config, unet, declarations) = folder::read_unet_folder(&place)?;
        let store = folder::read_unet_weights(&place, &declarations, DType::F32, device)?.store;
        let (schedule, parameterization) = scheduler_of(root)?;
        let ending = ending_of(root)?;
        let vae = vae::read(&root.join("vae"), DType::F32, device)?;
        let reader = TextReader::open(root, device)?;
        expect_fitting(root, &config, &vae.config, &reader)?;
        Ok(Self {
            config,
            unet,
            store,
            vae,
            reader,
            schedule,
            parameterization,
            ending,
            device: device.clone(),
        })
    }

    /// Channels of the decoder's features where they are as large as the image.
    pub fn width(&self) -> Option<usize> {
        self.vae.config.block_out_channels.first().copied()
    }

    /// Side of the images that it was made for.
    pub fn size(&self) -> usize {
        self.config.sample_size.unwrap_or(64) * self.vae.config.factor()
    }

    /// Sides of images are multiples of this.
    pub fn divisor(&self) -> usize {
        self.config.divisor() * self.vae.config.factor()
    }

    /// Channels of its images.
    pub fn channels(&self) -> usize {
        self.vae.config.out_channels
    }

    /// T.
    pub fn timesteps(&self) -> usize {
        self.schedule.timesteps()
    }

    /// [texts, tokens, channels].
    ///
    /// # Errors
    /// Those of candle.
    pub fn embed(&self, texts: &[String]) -> Result<Tensor> {
        self.reader.note_cuts(texts);
        self.reader.embed(texts)
    }

    /// Images [n, size, size, channels] in about [−1, 1]; the noise of number i is always the same.
    ///
    /// # Errors
    /// When a number is not finite, or shapes do not fit.
    pub fn draw(&self, drawing: &Drawing, numbers: &[u64], size: usize) -> Result<Tensor> {
        let side = size / self.vae.config.factor();
        let shape = [side, side, self.config.in_channels];
        let x = drawing.seed.stream("samples").normal(0, numbers, &shape, &self.device)?;
        let denoiser = NetworkDenoiser {
            network: &self.unet,
            store: &self.store,
            schedule: &self.schedule,
            parameterization: self.parameterization,
        };
        let (nothing, weight) = (drawing.nothing, drawing.guidance);
        let guided = Guided { denoiser: &denoiser, nothing, weight };
        let told = drawing.told.condition();
        let latents = self.ending.walk(&guided, drawing.stages, &x, told)?;
        ensure_finite("what this model draws", &latents)
            .map_err(|error| Fault::Untrustworthy.because(error))?;
        let images = self.vae.vae.images(&self.vae.loaded.store, &latents);
        images.context("decoding")
    }
}
