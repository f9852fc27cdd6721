//! A Stable Diffusion model in small, made of a protocol's own images: the same folder, the same parts, fewer numbers.
//!
//! Its autoencoder is trained; its text encoder is drawn at random and stays so, which tells texts apart well enough;
//! its tokenizer knows single bytes; its U-Net starts from nothing, and learns in task 1.

use crate::exit::Fault;
use crate::interrupt::Interrupt;
use crate::meter::Meter;
use crate::protocol::{DiffusionSpec, MakeSpec};
use anyhow::{Result, anyhow, ensure};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::params::{Declarations, ParamStore};
use lethe_candlex::rng::Seed;
use lethe_data::ImageSet;
use lethe_diffusion::schedule::ScheduleKind;
use lethe_kernels::adamw::AdamW;
use lethe_latent::vae::objective;
use lethe_latent::{
    AutoencoderKl, AutoencoderKlConfig, ClipTextConfig, ClipTextEncoder, POSITIONS,
    UNet2dCondition, Vocabulary,
};
use lethe_train::checkpoint::{self, Content, Files};
use lethe_train::{Optimizer, TrainError, flatten, to_tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// Images over which the spread of latents is taken.
const SPREAD: usize = 512;
/// Steps over which the autoencoder's η rises.
const WARM_UP: f64 = 50.;
/// Norm to which the autoencoder's gradients are scaled back.
const CLIP: f64 = 1.;

/// What a model is made of.
pub struct Making<'a> {
    /// `[latent.make]`.
    pub spec: &'a MakeSpec,
    /// `[diffusion]`.
    pub diffusion: &'a DiffusionSpec,
    /// The protocol's images.
    pub images: &'a ImageSet,
    /// Ids that the autoencoder learns from.
    pub ids: &'a [u64],
    /// The seed of everything drawn.
    pub seed: Seed,
    /// Where tensors live.
    pub device: &'a Device,
}

/// What the folder remembers of how it was made.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Origin {
    make: MakeSpec,
    diffusion: DiffusionSpec,
    data: String,
    /// Digest of the ids that the autoencoder learned from.
    examples: String,
    seed: u64,
    /// Mean absolute error of a pixel over the last steps, in [−1, 1].
    absolute_error: f64,
}

/// What lies there without a checkpoint's list is somebody else's.
fn expect_nothing(folder: &Path) -> Result<()> {
    let is_empty = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty || folder.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Fault::Held.because(anyhow!(
        "{}: it is there already, and no model that was made here; give another --out",
        folder.display()
    )))
}

fn digest_of(ids: &[u64]) -> String {
    let mut hasher = blake3::Hasher::new();
    ids.iter().for_each(|id| _ = hasher.update(&id.to_le_bytes()));
    hasher.finalize().to_hex().to_string()
}

impl Making<'_> {
    /// Makes the model in `folder`, unless it lies there whole.
    ///
    /// # Errors
    /// When another model lies there, a number is not finite, or the disk refuses.
    pub fn make(&self, folder: &Path, interrupt: &Interrupt) -> Result<()> {
        if folder.join(checkpoint::MANIFEST).exists() {
            return self.expect_same(folder);
        }
        expect_nothing(folder)?;
        // What is small comes first: what does not fit is refused before anything is trained.
        let (vae_config, vae, declarations) = self.autoencoder()?;
        let mut files = self.text_files()?;
        files.extend(self.unet_files()?);
        let (store, absolute_error) = self.train(&vae, &declarations, interrupt)?;
        let scale = self.scaling_factor(&vae, &store)?;
        files.extend(part(
            "vae",
            &class("AutoencoderKL", &AutoencoderKlConfig { scaling_factor: scale, ..vae_config })?,
            "diffusion_pytorch_model",
            &store,
        )?);
        files.push(("scheduler/scheduler_config.json".into(), text(&self.scheduler())?.into()));
        files.push(("model_index.json".into(), text(&index("DDIMScheduler"))?.into()));
        let origin = self.origin(absolute_error);
        checkpoint::save(folder, &files, &origin)?;
        Ok(())
    }

    fn origin(&self, absolute_error: f64) -> Origin {
        Origin {
            make: self.spec.clone(),
            diffusion: self.diffusion.clone(),
            data: self.images.digest(),
            examples: digest_of(self.ids),
            seed: self.seed.0,
            absolute_error,
        }
    }

    fn expect_same(&self, folder: &Path) -> Result<()> {
        let found: Origin = checkpoint::Checkpoint::open(folder)?.state()?;
        let expected = self.origin(found.absolute_error);
        if found == expected {
            return Ok(());
        }
        Err(Fault::Usage.because(anyhow!(
            "{}: made of another protocol's images or [latent.make]; begin anew with another --out",
            folder.display()
        )))
    }

    fn autoencoder(&self) -> Result<(AutoencoderKlConfig, AutoencoderKl, Declarations)> {
        let (spec, shape) = (self.spec, self.images.shape());
        let levels = spec.vae_channels.len();
        let config = AutoencoderKlConfig {
            in_channels: shape.channels,
            out_channels: shape.channels,
            down_block_types: vec!["DownEncoderBlock2D".into(); levels],
            up_block_types: vec!["UpDecoderBlock2D".into(); levels],
            block_out_channels: spec.vae_channels.clone(),
            latent_channels: spec.latent_channels,
            norm_num_groups: spec.norm_groups,
            sample_size: shape.height,
            ..AutoencoderKlConfig::default()
        };
        let (vae, declarations) =
            AutoencoderKl::new(&config).map_err(|error| anyhow!("latent.make: vae: {error}"))?;
        let divisor = config.factor() << (spec.channels.len() - 1);
        ensure!(
            shape.height.is_multiple_of(divisor) && shape.width.is_multiple_of(divisor),
            "data.resolution: expected sides divisible by {divisor}, for the levels of latent.make, got {}x{}",
            shape.width,
            shape.height
        );
        Ok((config, vae, declarations))
    }

    /// The trained autoencoder, and the mean absolute error of its last steps.
    fn train(
        &self,
        vae: &AutoencoderKl,
        declarations: &Declarations,
        interrupt: &Interrupt,
    ) -> Result<(ParamStore, f64)> {
        let spec = self.spec;
        let store = ParamStore::initialised(declarations, self.seed, DType::F32, self.device)?;
        let mut optimizer = Optimizer::new(&store)?;
        let meter = Meter::new(spec.vae_steps as f64);
        let (mut recent, mut weight) = (0., 0.);
        for step in 0..spec.vae_steps {
            interrupt.check()?;
            let error = self.step(vae, &store, &mut optimizer, step)?;
            (recent, weight) = (0.98 * recent + error, 0.98 * weight + 1.);
            let label = format!("autoencoder · mean error of a pixel {:.4}", recent / weight);
            meter.add(1., &label);
        }
        meter.finish();
        Ok((store, recent / weight.max(1.)))
    }

    /// One step of the autoencoder, and the mean absolute error that it found.
    fn step(
        &self,
        vae: &AutoencoderKl,
        store: &ParamStore,
        optimizer: &mut Optimizer,
        step: u64,
    ) -> Result<f64> {
        let ids = self.batch(step);
        let images = to_tensor(self.images, &ids, &[], self.device)?;
        let sides = [images.dim(1)? / self.factor(), images.dim(2)? / self.factor()];
        let shape = [sides[0], sides[1], self.spec.latent_channels];
        let keys: Vec<u64> = (0..ids.len() as u64).collect();
        let noise = self.seed.stream("autoencoder noise");
        let noise = noise.normal(step as u32, &keys, &shape, self.device)?;
        let found = objective(vae, store, &images, &noise, self.spec.vae_kl)?;
        let (flat, norm) = flatten(store, found.gradients)?;
        if !(found.absolute_error.is_finite() && norm.is_finite()) {
            let what = "the autoencoder's loss";
            let (task, examples) = (0, ids.iter().map(|&id| (id, 0)).collect());
            return Err(TrainError::Diverged { task, step, what, examples }.into());
        }
        optimizer.step(&self.law(step), store, &flat, norm, CLIP)?;
        Ok(found.absolute_error)
    }

    /// What does one more step of an autoencoder that starts from nothing, each time that it is called.
    ///
    /// # Errors
    /// As [`Making::make`].
    pub fn trial(&self) -> Result<impl FnMut() -> Result<()>> {
        let (_, vae, declarations) = self.autoencoder()?;
        let store = ParamStore::initialised(&declarations, self.seed, DType::F32, self.device)?;
        let (mut optimizer, mut step) = (Optimizer::new(&store)?, 0);
        Ok(move || {
            self.step(&vae, &store, &mut optimizer, step)?;
            step += 1;
            Ok(())
        })
    }

    /// η rises over the first steps and falls in a straight line to 0.
    fn law(&self, step: u64) -> AdamW {
        let left = 1. - step as f64 / self.spec.vae_steps.max(1) as f64;
        let height = ((step + 1) as f64 / WARM_UP).min(left);
        AdamW {
            learning_rate: self.spec.vae_rate * height,
            first_decay: 0.9,
            second_decay: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.,
        }
    }

    fn factor(&self) -> usize {
        1 << (self.spec.vae_channels.len().max(1) - 1)
    }

    /// Ids of a step, drawn with replacement.
    fn batch(&self, step: u64) -> Vec<u64> {
        let mut draws = self.seed.stream("autoencoder batch").at(step as u32, 0);
        let n = self.ids.len() as u32;
        (0..self.spec.vae_batch).map(|_| self.ids[draws.below(n) as usize]).collect()
    }

    /// 1 / standard deviation of the latents' means, as Rombach et al. 2022 choose it.
    fn scaling_factor(&self, vae: &AutoencoderKl, store: &ParamStore) -> Result<f64> {
        let ids = &self.ids[..self.ids.len().min(SPREAD)];
        let mut means = Vec::new();
        for ids in ids.chunks(32) {
            // The factor of a model that has none yet is 0.18215, diffusers' own.
            let (mean, _) = vae.latents(store, &to_tensor(self.images, ids, &[], self.device)?)?;
            means.push((mean / AutoencoderKlConfig::default().scaling_factor)?);
        }
        let means = Tensor::cat(&means, 0)?.flatten_all()?.to_dtype(DType::F64)?;
        let spread = means.var(0)?.to_scalar::<f64>()?.sqrt();
        ensure!(spread > 0., "latent.make: all images have the same latents; train it longer");
        Ok(1. / spread)
    }

    fn text_files(&self) -> Result<Files> {
        let vocabulary = Vocabulary::of_bytes();
        let n = vocabulary.n_tokens();
        let config = ClipTextConfig {
            vocab_size: n,
            hidden_size: self.spec.text_channels,
            intermediate_size: 4 * self.spec.text_channels,
            num_hidden_layers: self.spec.text_layers,
            num_attention_heads: self.spec.heads,
            max_position_embeddings: POSITIONS,
            ..ClipTextConfig::default()
        };
        let (_, declarations) = ClipTextEncoder::new(&config)
            .map_err(|error| anyhow!("latent.make: text encoder: {error}"))?;
        let store = ParamStore::initialised(&declarations, self.seed, DType::F32, self.device)?;
        let mut config = serde_json::to_value(&config)?;
        config["architectures"] = json!(["CLIPTextModel"]);
        config["model_type"] = json!("clip_text_model");
        (config["bos_token_id"], config["eos_token_id"]) = (json!(n - 2), json!(n - 1));
        config["pad_token_id"] = json!(n - 1);
        let mut files = part("text_encoder", &config, "model", &store)?;
        files.extend(tokenizer_files(&vocabulary));
        Ok(files)
    }

    fn unet_files(&self) -> Result<Files> {
        let (spec, shape) = (self.spec, self.images.shape());
        let levels = spec.channels.len();
        let kinds = |with: &str, without: &str, plain: usize| -> Vec<String> {
            (0..levels)
                .map(|k| if k == plain && levels > 1 { without } else { with }.into())
                .collect()
        };
        let config = json!({
            "_class_name": "UNet2DConditionModel",
            "_diffusers_version": "0.42.1",
            "sample_size": shape.height / self.factor(),
            "in_channels": spec.latent_channels,
            "out_channels": spec.latent_channels,
            "down_block_types": kinds("CrossAttnDownBlock2D", "DownBlock2D", levels - 1),
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "up_block_types": kinds("CrossAttnUpBlock2D", "UpBlock2D", 0),
            "block_out_channels": spec.channels,
            "layers_per_block": spec.layers_per_block,
            "norm_num_groups": spec.norm_groups,
            "cross_attention_dim": spec.text_channels,
            "attention_head_dim": spec.heads,
        });
        let parsed = lethe_latent::UNet2dConditionConfig::parse(&config.to_string())
            .map_err(|error| anyhow!("latent.make: unet: {error}"))?;
        let (_, declarations) =
            UNet2dCondition::new(&parsed).map_err(|error| anyhow!("latent.make: unet: {error}"))?;
        let store = ParamStore::initialised(&declarations, self.seed, DType::F32, self.device)?;
        part("unet", &config, "diffusion_pytorch_model", &store)
    }

    fn scheduler(&self) -> Value {
        let DiffusionSpec { timesteps, beta_start, beta_end, .. } = *self.diffusion;
        json!({
            "_class_name": "DDIMScheduler",
            "_diffusers_version": "0.42.1",
            "beta_schedule": match self.diffusion.schedule {
                ScheduleKind::Linear => "linear",
                ScheduleKind::ScaledLinear => "scaled_linear",
                ScheduleKind::Cosine => "squaredcos_cap_v2",
            },
            "beta_start": beta_start,
            "beta_end": beta_end,
            "num_train_timesteps": timesteps,
            "clip_sample": false,
            "set_alpha_to_one": false,
            "steps_offset": 1,
            "prediction_type": "epsilon",
        })
    }
}

/// `model_index.json` of a Stable Diffusion pipeline with this kind of scheduler, without a safety checker.
pub fn index(scheduler: &str) -> Value {
    json!({
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", scheduler],
        "safety_checker": [null, null],
        "feature_extractor": [null, null],
        "requires_safety_checker": false,
    })
}

/// A pipeline's files of a tokenizer.
pub fn tokenizer_files(vocabulary: &Vocabulary) -> Files {
    let placed = |(name, bytes): (String, Vec<u8>)| (format!("tokenizer/{name}"), bytes.into());
    vocabulary.files().into_iter().map(placed).collect()
}

fn class(name: &str, config: &impl Serialize) -> Result<Value> {
    let mut value = serde_json::to_value(config)?;
    value["_class_name"] = json!(name);
    value["_diffusers_version"] = json!("0.42.1");
    Ok(value)
}

/// A part's configuration and weights.
///
/// # Errors
/// When a tensor cannot be written.
pub fn part(name: &str, config: &Value, stem: &str, store: &ParamStore) -> Result<Files> {
    Ok(vec![
        (format!("{name}/config.json"), text(config)?.into()),
        (format!("{name}/{stem}.safetensors"), Content::store(store)),
    ])
}

/// Readable JSON.
///
/// # Errors
/// None in practice: it is plain data.
pub fn text(value: &Value) -> Result<Vec<u8>> {
    Ok((serde_json::to_string_pretty(value)? + "\n").into_bytes())
}
