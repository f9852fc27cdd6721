//! A network as a diffusers pipeline: a folder that `DDPMPipeline.from_pretrained` of the Python library loads.

use crate::exit::Fault;
use crate::protocol::DiffusionSpec;
use crate::study::Study;
use anyhow::{Result, anyhow};
use lethe_candlex::params::ParamStore;
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::schedule::{NoiseSchedule, ScheduleKind, ScheduleSpec};
use lethe_pixel::folder;
use lethe_train::checkpoint::{self, Files};
use serde::Deserialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// `model_index.json`, `scheduler/`, `unet/` with the numbers of `store`.
///
/// # Errors
/// When a tensor cannot be written.
pub fn files(study: &Study, store: &ParamStore) -> Result<Files> {
    let index = json!({
        "_class_name": "DDPMPipeline",
        "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    });
    Ok(vec![
        ("model_index.json".into(), pretty(&index)?),
        ("scheduler/scheduler_config.json".into(), pretty(&scheduler(study))?),
        (format!("unet/{}", folder::CONFIG), folder::config_text(&study.config)?.into_bytes()),
        (format!("unet/{}", folder::WEIGHTS), folder::weight_bytes(store)?),
    ])
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
/// When that checkpoint is damaged.
pub fn locate(path: &Path) -> Result<PathBuf> {
    let is_network = path.join(folder::CONFIG).exists() || path.join("unet").exists();
    match checkpoint::latest(path)? {
        Some(found) if !is_network => Ok(found.path().to_path_buf()),
        _ => Ok(path.to_path_buf()),
    }
}

/// The fields of diffusers' `scheduler_config.json` that say the noise levels.
#[derive(Deserialize)]
#[serde(default)]
struct SchedulerConfig {
    beta_schedule: String,
    beta_start: f64,
    beta_end: f64,
    num_train_timesteps: usize,
    prediction_type: String,
    trained_betas: Option<Vec<f64>>,
    rescale_betas_zero_snr: bool,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        let ScheduleSpec { timesteps, beta_start, beta_end, .. } = ScheduleSpec::default();
        let (beta_schedule, prediction_type) = ("linear".into(), "epsilon".into());
        Self {
            beta_schedule,
            beta_start,
            beta_end,
            num_train_timesteps: timesteps,
            prediction_type,
            trained_betas: None,
            rescale_betas_zero_snr: false,
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

/// The diffusion process that a diffusers folder says, if it holds a scheduler.
///
/// # Errors
/// When its scheduler is unreadable, or of a kind that is not known.
pub fn diffusion_of(path: &Path) -> Result<Option<DiffusionSpec>> {
    let root = if path.ends_with("unet") { path.parent().unwrap_or(path) } else { path };
    // Beside the network in the oldest folders, google/ddpm-cifar10-32 among them.
    let beside = root.join("scheduler_config.json");
    let file = if beside.exists() { beside } else { root.join("scheduler/scheduler_config.json") };
    let fault =
        |reason: String| Fault::Untrustworthy.because(anyhow!("{}: {reason}", file.display()));
    let config = match std::fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str::<SchedulerConfig>(&text)
            .map_err(|error| fault(error.to_string()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error.to_string())),
    };
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
    Ok(Some(DiffusionSpec { schedule, timesteps, beta_start, beta_end, parameterization }))
}
