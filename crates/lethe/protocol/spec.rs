//! The sections of a protocol file, field by field.

use lethe_continual::{ReplaySpec, StreamSpec};
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::schedule::{ScheduleKind, ScheduleSpec};
use lethe_latent::lora::LoraSpec;
use lethe_train::TrainingSpec;
use serde::{Deserialize, Serialize};

/// A protocol file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolSpec {
    /// Name of the run's folder and of its report.
    pub name: String,
    /// Seeds of the repetitions: each goes through the whole protocol.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// Which images.
    pub data: DataSpec,
    /// Which classes come in which task.
    pub stream: StreamSpec,
    /// Which network.
    #[serde(default)]
    pub model: ModelSpec,
    /// How a Stable Diffusion model is told of images, and fine-tuned; only where the model is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentSpec>,
    /// Which diffusion process.
    #[serde(default)]
    pub diffusion: DiffusionSpec,
    /// How a task is learned.
    #[serde(default)]
    pub training: TrainingSpec,
    /// What is kept and replayed, in which arms.
    #[serde(default)]
    pub replay: ReplaySpec,
    /// What is measured.
    #[serde(default)]
    pub probe: ProbeSpec,
}

impl ProtocolSpec {
    /// The model that is to be made before task 1, if there is one.
    pub fn making(&self) -> Option<&MakeSpec> {
        let make = self.latent.as_ref().and_then(|latent| latent.make.as_ref());
        make.filter(|_| self.model.pretrained.is_none())
    }
}

fn one_seed() -> Vec<u64> {
    vec![1]
}

/// `[data]`: which images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// "fashion-mnist" (embedded), "hub:OWNER/NAME" (with the feature `hub`), or "path": whatever lies at `path`.
    pub source: String,
    /// A folder of idx files, `cifar-10-batches-bin`, a Parquet file or a folder of them, images with their
    /// `metadata.jsonl` or `metadata.csv`, or a folder per class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of CIFAR-10's binary version: "training" (default), "test" or "both".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Side to which every image is brought, in pixels; as they are by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<usize>,
    /// "grey" or "rgb"; as they are by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<String>,
    /// The first so many images of each class; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_class: Option<usize>,
    /// Names of the classes, for data that do not name them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// The column of metadata and Parquet files that holds the captions, which must then be there; `text`, where that is
    /// there, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_column: Option<String>,
    /// "refuse" (default) or "skip".
    #[serde(default = "refuse")]
    pub bad_images: String,
    /// Share of every class that no network trains on.
    #[serde(default = "tenth")]
    pub held_out: f64,
}

fn refuse() -> String {
    "refuse".into()
}

fn tenth() -> f64 {
    0.1
}

/// `[model]`: which network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSpec {
    /// What task 1 starts from: a diffusers folder with a `UNet2DModel` or a whole Stable Diffusion model, a Stable
    /// Diffusion 1 in a single `.safetensors`, or "hub:OWNER/NAME@COMMIT"; what follows here is then not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
    /// A known network whose configuration is taken, from scratch: "google/ddpm-cifar10-32". Beside a single file in
    /// `pretrained`: the Stable Diffusion folder whose configurations and tokenizer it has; v1.5's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// Channels of each level.
    pub channels: Vec<usize>,
    /// Residual blocks of each level on the way down.
    pub layers_per_block: usize,
    /// Levels with attention, from 0; the middle always attends.
    pub attention_levels: Vec<usize>,
    /// Channels of one attention head; 0 makes one head over all channels.
    pub head_channels: usize,
    /// Groups of every norm.
    pub norm_groups: usize,
    /// Dropout rate inside residual blocks.
    pub dropout: f64,
    /// Whether the network is told each example's class.
    pub conditional: bool,
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            pretrained: None,
            like: None,
            channels: vec![64, 128, 128],
            layers_per_block: 2,
            attention_levels: vec![],
            head_channels: 0,
            norm_groups: 32,
            dropout: 0.,
            conditional: false,
        }
    }
}

/// `[latent]`: how a Stable Diffusion model is told of images, and fine-tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatentSpec {
    /// What an image's text is, `{class}` being its class and `{text}` its caption; of several, each image gets one by its
    /// id. `{text}` by default where the data have captions, "a photo of a {class}" where not.
    /// Images that are drawn of a class are told the first template, with the caption of the class's first image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<Vec<String>>,
    /// Whether every image may be told the same text, by templates without `{class}` and `{text}`.
    #[serde(skip_serializing_if = "is_no")]
    pub same_text: bool,
    /// "sample" (default, as diffusers' scripts train): latents are drawn from the encoder's answer at every visit;
    /// "mean": they are its mean. What is measured is always the mean.
    pub posterior: Posterior,
    /// Weight of classifier-free guidance in drawn images; 1 is none. Reconstructions are never guided.
    pub guidance: f64,
    /// Adapters that are trained instead of the whole U-Net.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSpec>,
    /// A small model that is made of the protocol's own images before task 1, where `model.pretrained` names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub make: Option<MakeSpec>,
}

/// Which latents training sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Posterior {
    /// Drawn from N(mean, deviation²), anew each time.
    #[default]
    Sample,
    /// The mean.
    Mean,
}

fn is_no(answer: &bool) -> bool {
    !answer
}

impl Default for LatentSpec {
    fn default() -> Self {
        Self {
            templates: None,
            same_text: false,
            posterior: Posterior::Sample,
            guidance: 7.5,
            lora: None,
            make: None,
        }
    }
}

impl LatentSpec {
    /// # Errors
    /// Names the first impossible field.
    pub fn validate(&self) -> anyhow::Result<()> {
        let templates = self.templates.as_deref();
        let is_some = templates.is_none_or(|templates| !templates.is_empty());
        anyhow::ensure!(is_some, "latent.templates: expected at least one");
        let weight = self.guidance;
        let is_weight = (0. ..=1e4).contains(&weight);
        anyhow::ensure!(
            is_weight,
            "latent.guidance: expected a number from 0 to 10000, got {weight}"
        );
        for template in templates.into_iter().flatten() {
            let rest = template.replace("{class}", "").replace("{text}", "");
            anyhow::ensure!(
                !rest.contains(['{', '}']),
                "latent.templates: expected no braces but those of {{class}} and {{text}}, got `{template}`"
            );
        }
        Ok(())
    }
}

/// `[latent.make]`: a Stable Diffusion model in small. Its autoencoder is trained on the images of all tasks, its text
/// encoder is drawn at random and stays so, and its U-Net starts from nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MakeSpec {
    /// Channels of each level of the autoencoder; latents are smaller by 2 for each level behind the first.
    pub vae_channels: Vec<usize>,
    /// Optimizer steps of the autoencoder.
    pub vae_steps: u64,
    /// Images in a batch of the autoencoder.
    pub vae_batch: usize,
    /// AdamW's η of the autoencoder.
    pub vae_rate: f64,
    /// Weight of KL(q | N(0, 1)) for each latent number, beside the mean absolute error of a pixel.
    pub vae_kl: f64,
    /// Channels of latents.
    pub latent_channels: usize,
    /// Channels of each level of the U-Net; the deepest attends in the middle alone.
    pub channels: Vec<usize>,
    /// Residual blocks of each level on the way down.
    pub layers_per_block: usize,
    /// Heads of every attention.
    pub heads: usize,
    /// Groups of every norm.
    pub norm_groups: usize,
    /// Channels of the text encoder.
    pub text_channels: usize,
    /// Layers of the text encoder.
    pub text_layers: usize,
}

impl MakeSpec {
    /// # Errors
    /// Names the first impossible field; what the networks themselves refuse, they say.
    pub fn validate(&self) -> anyhow::Result<()> {
        let require = |field: &str, holds: bool, expected: &str, got: String| {
            anyhow::ensure!(holds, "latent.make.{field}: expected {expected}, got {got}");
            Ok(())
        };
        let levels = |n: usize| (1..=8).contains(&n);
        let n = self.channels.len();
        require("channels", levels(n), "1 to 8 levels", n.to_string())?;
        let n = self.vae_channels.len();
        require("vae_channels", levels(n), "1 to 8 levels", n.to_string())?;
        require("vae_steps", self.vae_steps > 0, "at least 1", "0".into())?;
        let most = u64::from(u32::MAX);
        let steps = self.vae_steps;
        require("vae_steps", steps <= most, "at most 4294967295", steps.to_string())?;
        require("vae_batch", self.vae_batch > 0, "at least 1", "0".into())?;
        for (field, value, most) in [
            ("vae_batch", self.vae_batch, 1 << 14),
            ("latent_channels", self.latent_channels, 64),
            ("layers_per_block", self.layers_per_block, 64),
            ("heads", self.heads, 1 << 10),
            ("norm_groups", self.norm_groups, 1 << 16),
            ("text_channels", self.text_channels, 1 << 14),
            ("text_layers", self.text_layers, 64),
        ] {
            let expected = format!("1 to {most}");
            require(field, (1..=most).contains(&value), &expected, value.to_string())?;
        }
        let rate = self.vae_rate;
        let holds = (f64::from(f32::MIN_POSITIVE)..=1e3).contains(&rate);
        require("vae_rate", holds, "a positive number up to 1000", rate.to_string())?;
        let weight = self.vae_kl;
        require("vae_kl", (0. ..=1e6).contains(&weight), "0 to a million", weight.to_string())
    }
}

impl Default for MakeSpec {
    fn default() -> Self {
        Self {
            vae_channels: vec![16, 32, 32],
            vae_steps: 600,
            vae_batch: 32,
            vae_rate: 2e-3,
            vae_kl: 1e-4,
            latent_channels: 4,
            channels: vec![64, 64],
            layers_per_block: 1,
            heads: 4,
            norm_groups: 8,
            text_channels: 64,
            text_layers: 2,
        }
    }
}

/// `[diffusion]`: which diffusion process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionSpec {
    /// "linear" (default; Ho et al. 2020), "scaled-linear" or "cosine".
    pub schedule: ScheduleKind,
    /// T.
    pub timesteps: usize,
    /// β of the first timestep.
    pub beta_start: f64,
    /// β of the last timestep.
    pub beta_end: f64,
    /// What the network predicts: "epsilon" (default), "velocity" or "clean".
    pub parameterization: Parameterization,
}

impl std::fmt::Display for DiffusionSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = |value: serde_json::Result<serde_json::Value>| match value {
            Ok(serde_json::Value::String(word)) => word,
            _ => "unknown".into(),
        };
        let schedule = word(serde_json::to_value(self.schedule));
        let predicted = word(serde_json::to_value(self.parameterization));
        let Self { timesteps, beta_start, beta_end, .. } = self;
        write!(
            f,
            "{schedule} noise, beta {beta_start} to {beta_end} over {timesteps} timesteps; the network predicts {predicted}"
        )
    }
}

impl Default for DiffusionSpec {
    fn default() -> Self {
        let ScheduleSpec { schedule, timesteps, beta_start, beta_end } = ScheduleSpec::default();
        Self {
            schedule,
            timesteps,
            beta_start,
            beta_end,
            parameterization: Parameterization::Epsilon,
        }
    }
}

impl DiffusionSpec {
    /// The schedule alone.
    pub fn schedule(&self) -> ScheduleSpec {
        let Self { schedule, timesteps, beta_start, beta_end, .. } = *self;
        ScheduleSpec { schedule, timesteps, beta_start, beta_end }
    }
}

/// `[probe]`: what is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeSpec {
    /// Training examples of each task that are measured, evenly over its classes.
    pub train_examples: usize,
    /// Held-out examples of each task that are measured, evenly over its classes.
    pub held_out_examples: usize,
    /// Noise levels t/T of the reconstruction error.
    pub levels: Vec<f64>,
    /// The level at which the report's headline speaks.
    pub headline: f64,
    /// Network evaluations of one way back.
    pub stages: usize,
    /// Noises over which reconstruction errors are averaged.
    pub draws: usize,
    /// Stretches of the schedule at which the variational bound is taken; 0 takes none.
    pub bound_points: usize,
    /// Pairs of opposite noises at each.
    pub bound_pairs: usize,
    /// Median number of neighbours at which the inverse temperature of the energies is chosen.
    pub perplexity: f64,
    /// Steps between two points of the forgetting curve; 0 measures at boundaries alone.
    pub curve_every: u64,
    /// Training examples of task 1 on the curve.
    pub curve_examples: usize,
    /// Images drawn from the network after each task; 0 draws none.
    pub samples: usize,
    /// Network evaluations of one drawn image.
    pub sample_stages: usize,
    /// Examples denoised at once.
    pub batch: usize,
}

impl Default for ProbeSpec {
    fn default() -> Self {
        Self {
            train_examples: 1_000,
            held_out_examples: 500,
            levels: vec![0.1, 0.2, 0.3, 0.4, 0.5],
            headline: 0.3,
            stages: 25,
            draws: 4,
            bound_points: 32,
            bound_pairs: 1,
            perplexity: 10.,
            curve_every: 500,
            curve_examples: 200,
            samples: 40,
            sample_stages: 50,
            batch: 64,
        }
    }
}

/// Of whatever a probe counts: beyond that a number is a mistake, and products of several have no end.
const MOST: usize = 1 << 24;

impl ProbeSpec {
    /// # Errors
    /// Names the first impossible field.
    pub fn validate(&self) -> anyhow::Result<()> {
        let require = |field: &str, holds: bool, expected: &str, got: String| {
            anyhow::ensure!(holds, "probe.{field}: expected {expected}, got {got}");
            Ok(())
        };
        let at_least_one =
            |field: &str, value: usize| require(field, value > 0, "at least 1", value.to_string());
        at_least_one("train_examples", self.train_examples)?;
        at_least_one("stages", self.stages)?;
        at_least_one("draws", self.draws)?;
        at_least_one("batch", self.batch)?;
        at_least_one("bound_pairs", self.bound_pairs)?;
        at_least_one("sample_stages", self.sample_stages)?;
        if self.curve_every > 0 {
            at_least_one("curve_examples", self.curve_examples)?;
        }
        for (field, value) in [
            ("train_examples", self.train_examples),
            ("held_out_examples", self.held_out_examples),
            ("stages", self.stages),
            ("draws", self.draws),
            ("bound_points", self.bound_points),
            ("bound_pairs", self.bound_pairs),
            ("curve_examples", self.curve_examples),
            ("samples", self.samples),
            ("sample_stages", self.sample_stages),
            ("batch", self.batch),
        ] {
            require(field, value <= MOST, &format!("at most {MOST}"), value.to_string())?;
        }
        require("levels", !self.levels.is_empty(), "at least one level", "none".into())?;
        for level in &self.levels {
            require(
                "levels",
                (0. ..=1.).contains(level),
                "shares of T from 0 to 1",
                level.to_string(),
            )?;
        }
        let sorted = self.levels.windows(2).all(|pair| pair[0] < pair[1]);
        require("levels", sorted, "rising levels", format!("{:?}", self.levels))?;
        require(
            "headline",
            self.levels.contains(&self.headline),
            "one of probe.levels",
            self.headline.to_string(),
        )?;
        require("perplexity", self.perplexity > 1., "a number above 1", self.perplexity.to_string())
    }
}
