//! From a Stable Diffusion folder to the system that is fine-tuned: images and texts as its U-Net sees them.

use crate::cache::{self, Key};
use crate::exit::Fault;
use crate::meter::Meter;
use crate::pipeline::{Ending, ending_of};
use crate::prompts::{self, Prompts};
use crate::protocol::{LatentSpec, ModelSpec, Posterior, ProtocolSpec};
use crate::system::{AnyNetwork, Kind, System};
use crate::text_reader::TextReader;
use anyhow::{Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::finite::ensure_finite;
use lethe_candlex::params::{Declarations, ParamStore};
use lethe_data::ImageSet;
use lethe_diffusion::denoiser::Told;
use lethe_latent::{AutoencoderKl, AutoencoderKlConfig, UNet2dConditionConfig, folder, lora, vae};
use lethe_train::{Inputs, TrainError, to_tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images encoded or decoded at once.
pub const BATCH: usize = 16;

/// How many of the data a system is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of them; what took long is kept for the next time.
    Whole,
    /// The first few, to see what it would take; nothing is kept.
    Few,
}

/// Images of [`Extent::Few`].
pub const FEW: usize = 2;

impl Extent {
    fn key(self, key: impl FnOnce() -> Result<Key>) -> Result<Option<Key>> {
        match self {
            Self::Whole => Ok(Some(key()?)),
            Self::Few => Ok(None),
        }
    }
}

/// What a Stable Diffusion model has besides the U-Net that is trained.
pub struct Latent {
    root: PathBuf,
    unet: Declarations,
    spec: LatentSpec,
    vae: AutoencoderKl,
    vae_weights: ParamStore,
    /// Height, width and channels of latents.
    shape: [usize; 3],
    inputs: Latents,
    /// How a walk from pure noise goes.
    pub ending: Ending,
}

/// Every example's latents and text.
#[derive(Debug)]
struct Latents {
    rows: BTreeMap<u64, u32>,
    /// Scaled means, [n, height, width, channels], on the CPU.
    mean: Tensor,
    /// Scaled standard deviations, where latents are drawn anew each time.
    deviation: Option<Tensor>,
    /// What the encoder made of every text, [texts, tokens, channels]; the last one is the empty text.
    texts: Tensor,
    /// Which text is whose.
    text_of: Vec<u32>,
    /// What is told of images that are drawn of each class.
    text_of_class: Vec<u32>,
    device: Device,
}

/// The system of the Stable Diffusion folder `root`, with the latents of `images`.
///
/// # Errors
/// Names the file, or the field of the protocol, that does not fit.
pub fn build(
    root: &Path,
    model: &ModelSpec,
    spec: &LatentSpec,
    images: &ImageSet,
    extent: Extent,
    device: &Device,
) -> Result<System> {
    expect_unused(model)?;
    folder::expect_family(root)?;
    let (config, mut unet, declared) = folder::read_unet_folder(&root.join("unet"))?;
    let encoder = vae::read(&root.join("vae"), DType::F32, device)?;
    let factor = encoder.config.factor();
    let reader = TextReader::open(root, device)?;
    expect_fitting(root, &config, &encoder.config, &reader)?;
    let shape = expect_shapes(&config, encoder.config.in_channels, factor, images)?;
    let inputs = inputs(root, spec, images, extent, &encoder, &reader, device)?;
    let (declarations, base) = match &spec.lora {
        None => (declared.clone(), None),
        Some(adapters) => {
            let adapted = lora::adapt(&mut unet, &declared, adapters)
                .map_err(|error| anyhow!("latent.{error}"))?;
            let loaded =
                folder::read_unet_weights(&root.join("unet"), &declared, DType::F32, device)?;
            (adapted, Some(Arc::new(loaded.store)))
        }
    };
    let latent = Latent {
        root: root.to_path_buf(),
        unet: declared,
        spec: spec.clone(),
        vae: encoder.vae,
        vae_weights: encoder.loaded.store,
        shape,
        inputs,
        ending: ending_of(root)?,
    };
    Ok(System {
        network: AnyNetwork::Latent(unet),
        declarations,
        base,
        kind: Kind::Latent(Box::new(latent)),
        pretrained: Some(root.to_path_buf()),
    })
}

/// What says how a network on pixels is made has no say here.
fn expect_unused(model: &ModelSpec) -> Result<()> {
    let plain = ModelSpec { pretrained: model.pretrained.clone(), ..ModelSpec::default() };
    ensure!(
        *model == plain,
        "model: a Stable Diffusion folder says itself what its network is; expected `pretrained` alone"
    );
    Ok(())
}

/// Height, width and channels of the latents of `images`.
fn expect_shapes(
    config: &UNet2dConditionConfig,
    channels: usize,
    factor: usize,
    images: &ImageSet,
) -> Result<[usize; 3]> {
    let (shape, divisor) = (images.shape(), factor * config.divisor());
    ensure!(
        shape.channels == channels,
        "data.colour: the model's autoencoder takes {channels} channels, the images have {}",
        shape.channels
    );
    ensure!(
        shape.height.is_multiple_of(divisor) && shape.width.is_multiple_of(divisor),
        "data.resolution: expected sides divisible by {divisor}, got {}x{}",
        shape.width,
        shape.height
    );
    Ok([shape.height / factor, shape.width / factor, config.in_channels])
}

/// Latents of all images and embeddings of all their texts.
fn inputs(
    root: &Path,
    spec: &LatentSpec,
    images: &ImageSet,
    extent: Extent,
    encoder: &vae::Pretrained,
    reader: &TextReader,
    device: &Device,
) -> Result<Latents> {
    let ids: Vec<u64> = images.iter().map(|example| example.id).collect();
    let (mean, deviation) = encoded(root, images, extent, encoder, device)?;
    let prompts = Prompts::new(&prompts::templates(spec, images), images);
    let texts = embedded(root, reader, &prompts.texts, extent, device)?;
    Ok(Latents {
        rows: ids.into_iter().zip(0..).collect(),
        mean,
        deviation: (spec.posterior == Posterior::Sample).then_some(deviation),
        texts,
        text_of: prompts.of_example,
        text_of_class: prompts.of_class,
        device: device.clone(),
    })
}

/// Scaled means and deviations of all images, in their order, on the CPU; kept by the shelf, so that who is stopped goes on.
fn encoded(
    root: &Path,
    images: &ImageSet,
    extent: Extent,
    encoder: &vae::Pretrained,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let key = extent.key(|| {
        let mut key = Key::new("latents");
        key.text(&images.digest());
        key.file(&root.join("vae").join(folder::CONFIG))?;
        for file in folder::weight_files(&root.join("vae"), folder::DIFFUSERS_STEM)? {
            key.file(&file)?;
        }
        Ok(key)
    })?;
    let (ids, shelf) = (images.ids(), SHELF * at_once(images));
    let meter = Meter::new(ids.len() as f64);
    let (mut means, mut deviations) = (Vec::new(), Vec::new());
    for (number, ids) in ids.chunks(shelf).enumerate() {
        let key = key.as_ref().map(|key| key.part(&format!("{number} of {shelf} images")));
        let mut is_new = false;
        let [mean, deviation] =
            cache::kept("latents", key.as_ref(), ["mean", "deviation"], || {
                is_new = true;
                encoded_shelf(root, images, ids, encoder, &meter, device)
            })?;
        if !is_new {
            meter.skip(ids.len() as f64);
        }
        means.push(mean);
        deviations.push(deviation);
    }
    meter.finish();
    Ok((Tensor::cat(&means, 0)?, Tensor::cat(&deviations, 0)?))
}

/// Batches of images whose latents are kept in one file.
const SHELF: usize = 16;

fn encoded_shelf(
    root: &Path,
    images: &ImageSet,
    ids: &[u64],
    encoder: &vae::Pretrained,
    meter: &Meter,
    device: &Device,
) -> Result<[Tensor; 2]> {
    let (mut means, mut deviations) = (Vec::new(), Vec::new());
    for ids in ids.chunks(at_once(images)) {
        let pixels = to_tensor(images, ids, &[], device)?;
        let (mean, deviation) = encoder.vae.latents(&encoder.loaded.store, &pixels)?;
        means.push(mean.to_device(&Device::Cpu)?);
        deviations.push(deviation.to_device(&Device::Cpu)?);
        meter.add(ids.len() as f64, "encoding images to latents, once");
    }
    let both = [Tensor::cat(&means, 0)?, Tensor::cat(&deviations, 0)?];
    let path = root.join("vae");
    for (what, tensor) in ["means", "deviations"].into_iter().zip(&both) {
        let name = format!("{}: the encoder's {what} of the images", path.display());
        ensure_finite(&name, tensor).map_err(|error| Fault::Untrustworthy.because(error))?;
    }
    Ok(both)
}

/// Images encoded at once: [`BATCH`] of 512x512, fewer of larger ones, as memory grows with their pixels.
fn at_once(images: &ImageSet) -> usize {
    let shape = images.shape();
    (BATCH * 512 * 512 / (shape.width * shape.height).max(1)).clamp(1, BATCH)
}

/// What the text encoder makes of `prompts`, [texts, tokens, channels].
fn embedded(
    root: &Path,
    reader: &TextReader,
    prompts: &[String],
    extent: Extent,
    device: &Device,
) -> Result<Tensor> {
    // All that the tokenizer reads.
    const TOKENIZER: [&str; 6] = [
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ];
    let key = extent.key(|| {
        let (places, stem) = ([root.join("tokenizer"), root.join("text_encoder")], "model");
        let mut key = Key::new("texts");
        for name in TOKENIZER {
            let path = places[0].join(name);
            if path.exists() {
                key.file(&path)?;
            }
        }
        key.file(&places[1].join(folder::CONFIG))?;
        for file in folder::weight_files(&places[1], stem)? {
            key.file(&file)?;
        }
        prompts.iter().for_each(|prompt| key.text(prompt));
        Ok(key)
    })?;
    reader.note_cuts(prompts);
    let [texts] = cache::kept("texts", key.as_ref(), ["texts"], || {
        Ok([reader.embed(prompts)?.to_device(&Device::Cpu)?])
    })?;
    Ok(texts.to_device(device)?)
}

/// Checks that the parts of the pipeline `root` fit together.
///
/// # Errors
/// Names the files and fields that do not.
pub fn expect_fitting(
    root: &Path,
    unet: &UNet2dConditionConfig,
    vae: &AutoencoderKlConfig,
    reader: &TextReader,
) -> Result<()> {
    for (field, expected, part, got) in [
        (
            "cross_attention_dim",
            unet.cross_attention_dim,
            "text_encoder: hidden_size",
            reader.channels(),
        ),
        ("in_channels", unet.in_channels, "vae: latent_channels", vae.latent_channels),
        ("out_channels", unet.out_channels, "unet: in_channels", unet.in_channels),
    ] {
        if expected != got {
            return Err(Fault::Untrustworthy.because(anyhow!(
                "{}: the parts do not fit: unet: {field} is {expected}, {part} is {got}",
                root.display()
            )));
        }
    }
    Ok(())
}

impl Latent {
    /// What training and measuring see.
    pub fn inputs(&self) -> &dyn Inputs {
        &self.inputs
    }

    /// Height, width and channels of latents.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Where it was read.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the protocol says of it.
    pub fn spec(&self) -> &LatentSpec {
        &self.spec
    }

    /// What the whole U-Net declares, whether or not it moves.
    pub fn unet_declarations(&self) -> &Declarations {
        &self.unet
    }

    /// The U-Net's numbers as the folder holds them.
    ///
    /// # Errors
    /// Everything that does not fit.
    pub fn unet_weights(&self, device: &Device) -> Result<ParamStore> {
        Ok(folder::read_unet_weights(&self.root.join("unet"), &self.unet, DType::F32, device)?
            .store)
    }

    /// Scaled means and standard deviations of the latents of `images` [n, height, width, channels].
    ///
    /// # Errors
    /// Those of candle.
    pub fn encode(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(self.vae.latents(&self.vae_weights, images)?)
    }

    /// The autoencoder's numbers.
    pub fn vae_weights(&self) -> &ParamStore {
        &self.vae_weights
    }

    /// Bytes that each text takes once it is encoded.
    pub fn bytes_of_text(&self) -> u64 {
        let texts = &self.inputs.texts;
        4 * (texts.elem_count() / texts.dims()[0].max(1)) as u64
    }

    /// Images of scaled latents, [n, height, width, channels] in about [−1, 1].
    ///
    /// # Errors
    /// Those of candle.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let mut images = Vec::new();
        for start in (0..latents.dim(0)?).step_by(BATCH) {
            let rows = latents.narrow(0, start, BATCH.min(latents.dim(0)? - start))?;
            images.push(self.vae.images(&self.vae_weights, &rows.contiguous()?)?);
        }
        Ok(Tensor::cat(&images, 0)?)
    }

    /// What is told of images that are drawn of `classes`.
    pub fn told_classes(&self, classes: &[u32]) -> Told {
        let of = classes.iter().map(|&class| self.inputs.text_of_class[class as usize]).collect();
        Told::Texts { embeddings: self.inputs.texts.clone(), of }
    }

    /// The embedding of the empty text, [1, tokens, channels].
    ///
    /// # Errors
    /// Those of candle.
    pub fn nothing(&self) -> Result<Tensor> {
        let texts = &self.inputs.texts;
        Ok(texts.narrow(0, texts.dim(0)? - 1, 1)?)
    }
}

impl Latents {
    fn rows(&self, ids: &[u64]) -> Result<Tensor, TrainError> {
        let row = |&id: &u64| self.rows.get(&id).copied().ok_or(TrainError::NoExample { id });
        let rows = ids.iter().map(row).collect::<Result<Vec<u32>, _>>()?;
        Ok(Tensor::new(rows, &Device::Cpu)?)
    }
}

impl Inputs for Latents {
    fn clean(&self, ids: &[u64], mirrored: &[bool]) -> Result<Tensor, TrainError> {
        debug_assert!(mirrored.is_empty(), "latents are of the images as they are");
        Ok(self.mean.index_select(&self.rows(ids)?, 0)?.to_device(&self.device)?)
    }

    fn deviation(&self, ids: &[u64]) -> Result<Option<Tensor>, TrainError> {
        let Some(deviation) = &self.deviation else { return Ok(None) };
        Ok(Some(deviation.index_select(&self.rows(ids)?, 0)?.to_device(&self.device)?))
    }

    fn told(&self, ids: &[u64]) -> Result<Told, TrainError> {
        let rows = self.rows(ids)?.to_vec1::<u32>()?;
        let of = rows.iter().map(|&row| self.text_of[row as usize]).collect();
        Ok(Told::Texts { embeddings: self.texts.clone(), of })
    }
}

/// Refuses what latents cannot have.
///
/// # Errors
/// Names the field.
pub fn expect_protocol(spec: &ProtocolSpec) -> Result<()> {
    if spec.training.flip {
        bail!("training.flip: latents are encoded once, of the images as they are; expected false");
    }
    let points = spec.probe.bound_points;
    ensure!(
        points == 0,
        "probe.bound_points: the bound is of 8-bit pixels, which latents are not; expected 0, got {points}"
    );
    Ok(())
}
