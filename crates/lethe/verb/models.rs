//! `lethe models`: what a checkpoint is, the proof that it computes what the original computes, and single files unpacked.

use super::say;
use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use lethe::candlex::params::ParamStore;
use lethe::candlex::rng::Seed;
use lethe::candlex::weights::Loaded;
use lethe::destination;
use lethe::exit::{Fault, otherwise};
use lethe::model::folder_of;
use lethe::models::Manifest;
use lethe::pipeline::diffusion_of;
use lethe::protocol::DiffusionSpec;
use lethe::verify::{Distance, Reference, Subject, compare};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Command {
    Verify(Verify),
    Unpack(Unpack),
    Random(Random),
}

/// Write a single .safetensors in the original layout of Stable Diffusion 1, such as v1-5-pruned-emaonly.safetensors, as a
/// diffusers folder: unet, vae, text_encoder, tokenizer, scheduler and model_index.json.
///
/// Every tensor must be there, in its shape, and finite; the numbers are copied as they are, F32, F16 or BF16. Moving
/// averages, tables of the schedule and position numbers are left out, and counted. The folder is there whole, or not at
/// all. A .ckpt is a pickle, and refused.
#[derive(Args)]
#[command(
    after_help = "Example:\n  lethe models unpack v1-5-pruned-emaonly.safetensors stable-diffusion-v1-5"
)]
pub struct Unpack {
    /// The single file
    file: PathBuf,
    /// Where to write; there must be nothing yet
    folder: PathBuf,
    /// A Stable Diffusion folder whose configurations, tokenizer and scheduler are taken; v1.5's by default
    #[arg(long, value_name = "FOLDER")]
    like: Option<PathBuf>,
}

/// Write a Stable Diffusion v1.5 with random numbers, in its full size (4.3 GB): for trying out memory and time of a
/// protocol before the weights are there. What it draws is noise.
#[derive(Args)]
#[command(
    after_help = "Example:\n  lethe models random random-sd && lethe models verify random-sd"
)]
pub struct Random {
    /// Where to write; there must be nothing yet
    folder: PathBuf,
    /// Seed of the numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Say what a checkpoint folder is and whether every tensor is there, in its shape, and finite.
///
/// FOLDER is a diffusers folder with a UNet2DModel or a UNet2DConditionModel (config.json and
/// diffusion_pytorch_model.safetensors, whole or in shards), a pipeline that holds one under unet/, or a whole Stable
/// Diffusion model; both generations of attention names are read. It may also be a Stable Diffusion 1 in a single
/// .safetensors, which is unpacked into the cache once, or hub:OWNER/NAME@COMMIT.
///
/// With --reference, compare what the network computes with what the Python original computed, thing by thing:
///   unet.x, unet.t (unet.class_labels), and unet.noise for all that follows from gradients → unet.out
///   unet.grad.<parameter> of mean((out - noise)^2)
///   adamw.learning_rate, .betas, .eps, .weight_decay, .clip, ema.decay
///     → unet.after<k>.<parameter>, unet.ema<k>.<parameter> after k steps on that batch, unet.losses, unet.gradient_norms
///   ddim.x, ddim.timesteps → ddim.out (eta 0);  ddpm.x, ddpm.timesteps, ddpm.noise → ddpm.out (fixed_small)
/// of a network that is told texts: unet.context, which every batch and walk wants;
///   unet.uncond, ddim.guidance (7.5 by default) → ddim.guided; text.ids → text.last_hidden_state;
///   vae.image → vae.mean, vae.logvar; vae.decode_in (not scaled) → vae.decode_out
/// Images are [batch, channels, height, width]; samplers on pixels clip to [-1, 1] and follow the folder's scheduler, or the
/// linear schedule of Ho et al. where it holds none. The error of a thing is max |ours - reference| / max |reference|;
/// for a bias whose gradient vanishes, as that of attention's keys, over the largest gradient of the same layer's weight.
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
    /// For a single file: the Stable Diffusion folder whose configurations and tokenizer it has; v1.5's by default
    #[arg(long, value_name = "FOLDER")]
    like: Option<PathBuf>,
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
    /// The noise levels that its scheduler says, and what the network predicts.
    process: Option<DiffusionSpec>,
    /// What lies around the network in a whole pipeline.
    parts: Vec<Part>,
    /// Relative error of everything that the reference holds.
    errors: Option<Vec<Distance>>,
    /// The largest of them.
    worst: Option<Distance>,
}

/// A frozen part of a pipeline.
#[derive(Serialize)]
struct Part {
    name: &'static str,
    known_as: Option<String>,
    tensors: usize,
    parameters: usize,
    file_type: String,
}

impl Part {
    fn new(name: &'static str, loaded: &Loaded, known: &[Manifest]) -> Self {
        let Loaded { store, file_type } = loaded;
        Self {
            name,
            known_as: known_as(store, known),
            tensors: store.len(),
            parameters: store.flat().elem_count(),
            file_type: file_type.clone(),
        }
    }
}

/// The known network whose tensors `store` has; buffers that a file holds besides do not count.
fn known_as(store: &ParamStore, known: &[Manifest]) -> Option<String> {
    let shapes: BTreeMap<&str, &[usize]> =
        store.iter().map(|(name, tensor)| (name, tensor.dims())).collect();
    let is_it = |manifest: &&Manifest| {
        let mut its = manifest.shapes();
        its.retain(|name, _| !name.ends_with("position_ids"));
        its == shapes
    };
    known.iter().find(is_it).map(|manifest| manifest.id.clone())
}

/// Looks and tells.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Verify(arguments) => verify(arguments),
        Command::Unpack(arguments) => unpack(arguments),
        Command::Random(Random { folder, seed }) => {
            destination::expect_outside_runs(folder)?;
            lethe::random::write(folder, Seed(*seed))?;
            say(&folder.display().to_string());
            Ok(())
        }
    }
}

fn unpack(arguments: &Unpack) -> Result<()> {
    let Unpack { file, folder, like } = arguments;
    destination::expect_outside_runs(folder)?;
    let left_out = lethe::unpack::unpack(file, like.as_deref(), folder)?;
    for (kind, count) in left_out {
        say(&format!("left out: {kind}, {count} tensors"));
    }
    say(&folder.display().to_string());
    Ok(())
}

fn verify(arguments: &Verify) -> Result<()> {
    let folder = folder_of(&arguments.folder, arguments.like.as_deref())?;
    let network = Subject::read(&folder).map_err(otherwise(Fault::Untrustworthy))?;
    let mut finding = finding(arguments, &folder, &network)?;
    if let Some(path) = &arguments.reference {
        let errors =
            compare(&network, &mut Reference::open(path)?).map_err(otherwise(Fault::Data))?;
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

fn finding(arguments: &Verify, located: &Path, network: &Subject) -> Result<Finding> {
    let (store, known) = (&network.store, lethe::models::known()?);
    let mut parts = Vec::new();
    if let Some(around) = &network.surroundings {
        parts.push(Part::new("vae", &around.vae.loaded, &known));
        parts.push(Part::new("text_encoder", around.reader.loaded(), &known));
    }
    Ok(Finding {
        folder: arguments.folder.display().to_string(),
        kind: network.kind(),
        known_as: known_as(store, &known),
        tensors: store.len(),
        parameters: store.flat().elem_count(),
        file_type: network.file_type.clone(),
        process: diffusion_of(located)?,
        parts,
        errors: None,
        worst: None,
    })
}

fn tell(finding: &Finding) {
    let name = finding
        .known_as
        .as_ref()
        .map(|name| format!(", of the shape of {name}"))
        .unwrap_or_default();
    say(&format!("{}: a {}{name}", finding.folder, finding.kind));
    let (tensors, parameters) = (finding.tensors, finding.parameters);
    let part = if finding.parts.is_empty() { "" } else { "unet: " };
    say(&format!(
        "{part}all {tensors} tensors are there and finite: {parameters} parameters in {}",
        finding.file_type
    ));
    for Part { name, known_as, tensors, parameters, file_type } in &finding.parts {
        let known = known_as.as_ref().map(|name| format!(", of the shape of {name}"));
        let known = known.unwrap_or_default();
        say(&format!(
            "{name}: all {tensors} tensors are there and finite: {parameters} parameters in {file_type}{known}"
        ));
    }
    if let Some(process) = &finding.process {
        say(&format!("scheduler: {process}"));
    }
    let Some(errors) = &finding.errors else { return };
    for Distance { name, relative_error } in errors {
        say(&format!("{relative_error:9.2e}  {name}"));
    }
    if let Some(Distance { name, relative_error }) = &finding.worst {
        say(&format!("worst of {}: {relative_error:.2e} in {name}", errors.len()));
    }
}
