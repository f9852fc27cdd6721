//! A network as a diffusers pipeline: a folder that `from_pretrained` of the Python library loads.

use crate::exit::Fault;
use crate::latent_system::Latent;
use crate::learn::expect_left_or_note;
use crate::protocol::DiffusionSpec;
use crate::study::Study;
use crate::system::Kind;
use anyhow::{Context, Result, anyhow};
use candle_core::Tensor;
use lethe_candlex::params::ParamStore;
use lethe_diffusion::denoiser::{Condition, Denoiser};
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::sampler::{Ddim, Spacing, walk_to};
use lethe_diffusion::schedule::{NoiseSchedule, ScheduleKind, ScheduleSpec, Timestep};
use lethe_pixel::{UNet2dConfig, folder};
use lethe_train::checkpoint::{self, Content, Files};
use serde::Deserialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Where diffusers looks for adapters.
const ADAPTERS: &str = "lora/pytorch_lora_weights.safetensors";

/// A task's result as a pipeline: `model_index.json`, `scheduler/`, `unet/` with the numbers of `store`, and whatever else
/// the pipeline that it started from holds. Adapters lie beside it by themselves, and are added into its U-Net.
///
/// # Errors
/// When a file of the model that it started from cannot be listed.
pub fn files(study: &Study, store: &ParamStore, is_whole: bool) -> Result<Files> {
    match &study.system.kind {
        Kind::Pixel(config) => pixel_files(study, config, store),
        Kind::Latent(_) if !is_whole => {
            Ok(vec![(study.system.result_file().into(), Content::store(store))])
        }
        Kind::Latent(latent) => latent_files(study, latent, store),
    }
}

fn pixel_files(study: &Study, config: &UNet2dConfig, store: &ParamStore) -> Result<Files> {
    let index = json!({
        "_class_name": "DDPMPipeline",
        "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    });
    Ok(vec![
        ("model_index.json".into(), pretty(&index)?.into()),
        ("scheduler/scheduler_config.json".into(), pretty(&scheduler(study))?.into()),
        (format!("unet/{}", folder::CONFIG), folder::config_text(config)?.into_bytes().into()),
        (format!("unet/{}", folder::WEIGHTS), Content::store(store)),
    ])
}

fn latent_files(study: &Study, latent: &Latent, store: &ParamStore) -> Result<Files> {
    let mut files = Files::new();
    for (name, path) in lethe_latent::folder::other_files(latent.root())? {
        let content = match name == lethe_latent::folder::INDEX {
            true => pretty(&index_of_written(&path)?)?.into(),
            false => Content::Copy(path),
        };
        files.push((name, content));
    }
    let unet = match &latent.spec().lora {
        None => Content::store(store),
        Some(spec) => {
            files.push((study.system.result_file().into(), Content::store(store)));
            files.push((
                ADAPTERS.into(),
                Content::Tensors(lethe_latent::lora::exported(store, spec)?),
            ));
            Content::Tensors(lethe_latent::lora::merged(store, spec)?)
        }
    };
    files.push((format!("unet/{}", folder::WEIGHTS), unet));
    Ok(files)
}

/// The `model_index.json` at `path`, without the parts that no task's result holds, such as a safety checker:
/// `from_pretrained` would look for their folders.
fn index_of_written(path: &Path) -> Result<serde_json::Value> {
    let text = lethe_ledger::durable::read_text(path)?;
    let mut index: serde_json::Value =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let fields = index.as_object_mut().with_context(|| format!("{}: no object", path.display()))?;
    for (name, value) in fields.iter_mut() {
        let is_written =
            name == "unet" || lethe_latent::folder::FROZEN_PARTS.contains(&name.as_str());
        if value.is_array() && !is_written {
            *value = json!([null, null]);
        }
        if name == "requires_safety_checker" {
            *value = json!(false);
        }
    }
    Ok(index)
}

fn scheduler(study: &Study) -> serde_json::Value {
    let spec = &study.spec.diffusion;
    json!({
        "_class_name": "DDPMScheduler",
        "_diffusers_version": "0.42.1",
        "beta_schedule": match spec.schedule {
            ScheduleKind::Linear => "linear",
            ScheduleKind::ScaledLinear => "scaled_linear",
            ScheduleKind::Cosine => "squaredcos_cap_v2",
        },
        "beta_start": spec.beta_start,
        "beta_end": spec.beta_end,
        "clip_sample": true,
        "num_train_timesteps": spec.timesteps,
        "prediction_type": match spec.parameterization {
            Parameterization::Epsilon => "epsilon",
            Parameterization::Velocity => "v_prediction",
            Parameterization::Clean => "sample",
        },
        "variance_type": "fixed_small",
    })
}

fn pretty(value: &serde_json::Value) -> Result<Vec<u8>> {
    Ok((serde_json::to_string_pretty(value)? + "\n").into_bytes())
}

/// The diffusers folder that `path` means: itself, or the furthest checkpoint of a task's folder.
///
/// # Errors
/// When that checkpoint is damaged, or not the one that its task left.
pub fn locate(path: &Path) -> Result<PathBuf> {
    let Some(found) = checkpoint::furthest(path)? else { return Ok(path.to_path_buf()) };
    let networks = [folder::CONFIG, "unet", lethe_latent::folder::INDEX];
    if let Some(name) = networks.iter().find(|name| path.join(name).exists()) {
        return Err(Fault::Untrustworthy.because(anyhow!(
            "{}: it holds {name} of a network, and checkpoints of a task; name the checkpoint, {}, or move one of them away",
            path.display(),
            found.path().display()
        )));
    }
    expect_left_or_note(path, &found)?;
    Ok(found.path().to_path_buf())
}

/// What went wrong with a `located` folder that is gone meanwhile: a run keeps its newest checkpoint alone.
pub fn or_gone(located: &Path) -> impl Fn(anyhow::Error) -> anyhow::Error {
    move |error| match located.exists() {
        true => error,
        false => Fault::Missing.because(anyhow!(
            "{}: its run has let go of it while it was read; the same command takes the next one",
            located.display()
        )),
    }
}

/// The schedulers of diffusers whose noise levels follow from betas.
const SCHEDULERS: [&str; 16] = [
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverSDEScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "DDIMInverseScheduler",
    "LCMScheduler",
];

/// The fields of diffusers' `scheduler_config.json` that say the noise levels.
#[derive(Deserialize)]
#[serde(default)]
struct SchedulerConfig {
    #[serde(rename = "_class_name")]
    class: Option<String>,
    beta_schedule: String,
    beta_start: f64,
    beta_end: f64,
    num_train_timesteps: usize,
    prediction_type: String,
    trained_betas: Option<Vec<f64>>,
    rescale_betas_zero_snr: bool,
    steps_offset: usize,
    set_alpha_to_one: bool,
    timestep_spacing: String,
    clip_sample: Option<bool>,
    clip_sample_range: f64,
    thresholding: bool,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        let ScheduleSpec { timesteps, beta_start, beta_end, .. } = ScheduleSpec::default();
        let (beta_schedule, prediction_type) = ("linear".into(), "epsilon".into());
        Self {
            class: None,
            beta_schedule,
            beta_start,
            beta_end,
            num_train_timesteps: timesteps,
            prediction_type,
            trained_betas: None,
            rescale_betas_zero_snr: false,
            steps_offset: 0,
            set_alpha_to_one: true,
            timestep_spacing: "leading".into(),
            clip_sample: None,
            clip_sample_range: 1.,
            thresholding: false,
        }
    }
}

/// The noise levels of a diffusers folder and what its network predicts; those of Ho et al. 2020 where it does not say.
///
/// # Errors
/// When its scheduler is unreadable, or of a kind that is not known.
pub fn scheduler_of(path: &Path) -> Result<(NoiseSchedule, Parameterization)> {
    let spec = diffusion_of(path)?.unwrap_or_default();
    Ok((NoiseSchedule::new(&spec.schedule())?, spec.parameterization))
}

/// Whether the scheduler of a network on pixels holds predicted images within [−1, 1], as diffusers' DDPM and DDIM do unless
/// they are told otherwise.
///
/// # Errors
/// When it is unreadable, or holds them otherwise.
pub fn clips(path: &Path) -> Result<bool> {
    let Some((file, config)) = config_of(path)? else { return Ok(true) };
    let clips = config.clip_sample.unwrap_or(true);
    if config.thresholding || (clips && config.clip_sample_range != 1.) {
        return Err(Fault::Untrustworthy.because(anyhow!(
            "{}: expected thresholding false and clip_sample_range 1, got {} and {}",
            file.display(),
            config.thresholding,
            config.clip_sample_range
        )));
    }
    Ok(clips)
}

/// How a walk from pure noise is laid out: diffusers' `steps_offset` and `set_alpha_to_one`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ending {
    /// What is added to every timestep.
    pub offset: usize,
    /// Whether the last stage goes to clean data, rather than to the first timestep's level.
    pub is_clean: bool,
}

impl Ending {
    /// DDIM from pure noise `x` in `stages` evaluations, nothing clipped: the way of Stable Diffusion.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn walk(
        &self,
        denoiser: &(impl Denoiser + ?Sized),
        stages: usize,
        x: &Tensor,
        condition: Condition,
    ) -> Result<Tensor> {
        let schedule = denoiser.schedule();
        let timesteps = Spacing::Leading.timesteps(schedule.timesteps(), stages, self.offset);
        let end = if self.is_clean { 1. } else { schedule.alpha_bar(Timestep(0)) };
        let sampler = Ddim::default();
        Ok(walk_to(end, &sampler, denoiser, &timesteps, x, condition, |_| Ok(x.clone()))?)
    }
}

/// The ending that the scheduler of a whole Stable Diffusion model says, which must be there.
///
/// Whatever sampler it is made for, DDIM is walked; what DDIM would have to do otherwise is refused.
///
/// # Errors
/// When there is no scheduler, it is unreadable, or it asks for what is not known.
pub fn ending_of(root: &Path) -> Result<Ending> {
    let Some((file, config)) = config_of(root)? else {
        let file = root.join("scheduler/scheduler_config.json");
        let error = anyhow!("{}: a whole model wants its noise levels there", file.display());
        return Err(Fault::Missing.because(error));
    };
    let refuse = |field: &str, expected: String, got: String| {
        let error = anyhow!("{}: {field}: expected {expected}, got {got}", file.display());
        Err(Fault::Untrustworthy.because(error))
    };
    let total = config.num_train_timesteps;
    if config.timestep_spacing != "leading" {
        return refuse("timestep_spacing", "leading".into(), config.timestep_spacing);
    }
    let clips = config.clip_sample.unwrap_or(false);
    if clips || config.thresholding {
        let got = format!("{clips} and {}", config.thresholding);
        return refuse("clip_sample and thresholding", "false for latents".into(), got);
    }
    if config.steps_offset >= total.max(1) {
        let expected = format!("less than {total} timesteps");
        return refuse("steps_offset", expected, config.steps_offset.to_string());
    }
    Ok(Ending { offset: config.steps_offset, is_clean: config.set_alpha_to_one })
}

/// The scheduler's configuration of a diffusers folder, and the file that it lies in.
fn config_of(path: &Path) -> Result<Option<(PathBuf, SchedulerConfig)>> {
    let root = if path.ends_with("unet") { path.parent().unwrap_or(path) } else { path };
    // Beside the network in the oldest folders, google/ddpm-cifar10-32 among them.
    let beside = root.join("scheduler_config.json");
    let file = if beside.exists() { beside } else { root.join("scheduler/scheduler_config.json") };
    let fault =
        |reason: String| Fault::Untrustworthy.because(anyhow!("{}: {reason}", file.display()));
    if file.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let text = lethe_latent::folder::read_text(&file)
        .map_err(|error| Fault::Untrustworthy.because(error))?;
    let config = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    Ok(Some((file, config)))
}

/// The diffusion process that a diffusers folder says, if it holds a scheduler.
///
/// # Errors
/// When its scheduler is unreadable, or of a kind that is not known.
pub fn diffusion_of(path: &Path) -> Result<Option<DiffusionSpec>> {
    let Some((file, config)) = config_of(path)? else { return Ok(None) };
    let fault =
        |reason: String| Fault::Untrustworthy.because(anyhow!("{}: {reason}", file.display()));
    if let Some(class) = config.class.as_deref().filter(|class| !SCHEDULERS.contains(class)) {
        let expected = SCHEDULERS.join(", ");
        return Err(fault(format!("_class_name: expected one of {expected}, got {class}")));
    }
    if config.trained_betas.is_some() || config.rescale_betas_zero_snr {
        let reason = "trained_betas and rescale_betas_zero_snr are not known; expected neither";
        return Err(fault(reason.into()));
    }
    let schedule = match config.beta_schedule.as_str() {
        "linear" => ScheduleKind::Linear,
        "scaled_linear" => ScheduleKind::ScaledLinear,
        "squaredcos_cap_v2" => ScheduleKind::Cosine,
        other => {
            return Err(fault(format!(
                "beta_schedule: expected linear, scaled_linear or squaredcos_cap_v2, got {other}"
            )));
        }
    };
    let parameterization = match config.prediction_type.as_str() {
        "epsilon" => Parameterization::Epsilon,
        "v_prediction" => Parameterization::Velocity,
        "sample" => Parameterization::Clean,
        other => {
            return Err(fault(format!(
                "prediction_type: expected epsilon, v_prediction or sample, got {other}"
            )));
        }
    };
    let SchedulerConfig { beta_start, beta_end, num_train_timesteps: timesteps, .. } = config;
    let spec = DiffusionSpec { schedule, timesteps, beta_start, beta_end, parameterization };
    NoiseSchedule::new(&spec.schedule()).map_err(|error| fault(error.to_string()))?;
    Ok(Some(spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_no_part_that_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model_index.json");
        let index = json!({
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "requires_safety_checker": true,
        });
        std::fs::write(&path, index.to_string()).unwrap();
        let written = index_of_written(&path).unwrap();
        for kept in ["_class_name", "unet", "vae"] {
            assert_eq!(written[kept], index[kept]);
        }
        assert_eq!(written["safety_checker"], json!([null, null]));
        assert_eq!(written["feature_extractor"], json!([null, null]));
        assert_eq!(written["requires_safety_checker"], json!(false));
    }

    #[test]
    fn only_schedulers_with_betas_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let of_class = |class: &str| {
            let config = json!({ "_class_name": class }).to_string();
            std::fs::write(folder.path().join("scheduler_config.json"), config).unwrap();
            diffusion_of(folder.path())
        };
        assert!(of_class("PNDMScheduler").unwrap().is_some());
        let refused = of_class("FlowMatchEulerDiscreteScheduler").unwrap_err().to_string();
        assert!(refused.contains("_class_name"), "{refused}");
    }
}
