//! `lethe models`: what a checkpoint is, and the proof that it computes what the original computes.

use super::say;
use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use lethe::exit::{Fault, otherwise};
use lethe::pixel::folder::Pretrained;
use lethe::verify::{Distance, Reference, compare, read};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    Verify(Verify),
}

/// Say what a checkpoint folder is and whether every tensor is there, in its shape, and finite.
///
/// FOLDER is a diffusers folder with a UNet2DModel (config.json and diffusion_pytorch_model.safetensors), or a pipeline
/// that holds one under unet/; both generations of attention names are read.
///
/// With --reference, compare what the network computes with what the Python original computed, thing by thing:
///   unet.x, unet.t, unet.noise (unet.class_labels)    → unet.out
///   unet.grad.<parameter> of mean((out - noise)^2)
///   adamw.learning_rate, .betas, .eps, .weight_decay, .clip, ema.decay
///     → unet.after<k>.<parameter>, unet.ema<k>.<parameter> after k steps on that batch, unet.losses, unet.gradient_norms
///   ddim.x, ddim.timesteps → ddim.out (eta 0);  ddpm.x, ddpm.timesteps, ddpm.noise → ddpm.out (fixed_small)
/// Images are [batch, channels, height, width]; samplers clip to [-1, 1] and follow the folder's scheduler, or the
/// linear schedule of Ho et al. where it holds none. The error of a thing is max |ours - reference| / max |reference|;
/// for the bias of attention's keys, whose gradient vanishes, over the largest gradient of the same layer's weight.
///
/// Exits with 77 if anything is missing, unexpected, mis-shaped, mis-typed or not finite, or an error is above --tolerance.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  lethe models verify ddpm-cifar10-32 --reference reference.safetensors --tolerance 1e-3"
)]
pub struct Verify {
    /// The folder
    folder: PathBuf,
    /// A safetensors file with inputs and what the original made of them
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// The largest relative error that passes; by default every finite one
    #[arg(long, value_name = "ERROR", requires = "reference")]
    tolerance: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Finding {
    folder: String,
    kind: &'static str,
    /// Name of the known network whose tensors it has.
    known_as: Option<String>,
    tensors: usize,
    parameters: usize,
    file_type: String,
    /// Relative error of everything that the reference holds.
    errors: Option<Vec<Distance>>,
    /// The largest of them.
    worst: Option<Distance>,
}

/// Looks and tells.
pub fn run(command: &Command) -> Result<()> {
    let Command::Verify(arguments) = command;
    let (network, process) = read(&arguments.folder)?;
    let mut finding = finding(arguments, &network)?;
    if let Some(path) = &arguments.reference {
        let errors = compare(&network, &process, &mut Reference::open(path)?)
            .map_err(otherwise(Fault::Data))?;
        finding.worst = worst(&errors);
        finding.errors = Some(errors);
    }
    if arguments.json {
        say(&serde_json::to_string_pretty(&finding)?);
    } else {
        tell(&finding);
    }
    judge(&finding, arguments.tolerance.unwrap_or(f64::MAX))
}

fn judge(finding: &Finding, tolerance: f64) -> Result<()> {
    let Some(worst) = &finding.worst else { return Ok(()) };
    // Asked so that a NaN fails.
    if worst.relative_error <= tolerance {
        return Ok(());
    }
    Err(Fault::Untrustworthy.because(anyhow!(
        "{}: relative error {:.2e} in {}, expected at most {tolerance:.2e}",
        finding.folder,
        worst.relative_error,
        worst.name
    )))
}

/// The largest error; a NaN is the worst of all.
fn worst(errors: &[Distance]) -> Option<Distance> {
    let size = |distance: &Distance| match distance.relative_error {
        error if error.is_nan() => f64::INFINITY,
        error => error,
    };
    errors.iter().max_by(|a, b| size(a).total_cmp(&size(b))).cloned()
}

fn finding(arguments: &Verify, network: &Pretrained) -> Result<Finding> {
    let store = &network.loaded.store;
    let shapes = store.iter().map(|(name, tensor)| (name, tensor.dims())).collect();
    let known = lethe::models::known()?;
    let known_as = known.iter().find(|manifest| manifest.shapes() == shapes);
    Ok(Finding {
        folder: arguments.folder.display().to_string(),
        kind: "UNet2DModel",
        known_as: known_as.map(|manifest| manifest.id.clone()),
        tensors: store.len(),
        parameters: store.flat().elem_count(),
        file_type: network.loaded.file_type.clone(),
        errors: None,
        worst: None,
    })
}

fn tell(finding: &Finding) {
    let name = finding
        .known_as
        .as_ref()
        .map(|name| format!(", the tensors of {name}"))
        .unwrap_or_default();
    say(&format!("{}: a {}{name}", finding.folder, finding.kind));
    let (tensors, parameters) = (finding.tensors, finding.parameters);
    say(&format!(
        "all {tensors} tensors are there and finite: {parameters} parameters in {}",
        finding.file_type
    ));
    let Some(errors) = &finding.errors else { return };
    for Distance { name, relative_error } in errors {
        say(&format!("{relative_error:9.2e}  {name}"));
    }
    if let Some(Distance { name, relative_error }) = &finding.worst {
        say(&format!("worst of {}: {relative_error:.2e} in {name}", errors.len()));
    }
}
