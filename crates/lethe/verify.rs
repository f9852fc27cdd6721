//! Proof that a folder's network is what it claims: every tensor there and finite, and, beside a reference made by the
//! Python original, the distance of outputs, gradients, training steps and sampling walks.
//!
//! Names in a reference, all optional; images are [batch, channels, height, width] as torch has them:
//! - `unet.x`, `unet.t` (and `unet.class_labels`) → `unet.out`; with `unet.noise`, `unet.grad.<parameter>` of mean((out − noise)²);
//! - with `adamw.learning_rate`, `adamw.betas`, `adamw.eps`, `adamw.weight_decay`, `adamw.clip`, `ema.decay` as well →
//!   `unet.after<k>.<parameter>` and `unet.ema<k>.<parameter>` after k steps on that batch, `unet.losses`, `unet.gradient_norms`;
//! - `ddim.x`, `ddim.timesteps` → `ddim.out` (η = 0); `ddpm.x`, `ddpm.timesteps`, `ddpm.noise` → `ddpm.out` (fixed_small);
//!   both clip to [−1, 1], linear schedule of Ho et al. unless the folder holds a scheduler.
//!
//! Of a network that is told texts, besides:
//! - `unet.context` [batch, tokens, channels], which every batch and walk wants;
//! - `unet.uncond` and `ddim.guidance` (7.5 by default) → `ddim.guided`; DDIM clips nothing and ends as the scheduler says;
//! - `text.ids` → `text.last_hidden_state`; `vae.image` → `vae.mean`, `vae.logvar`; `vae.decode_in` (not scaled) →
//!   `vae.decode_out`.

mod steps;
mod subject;
mod surroundings;
mod walks;

pub use subject::{Subject, Surroundings};

use crate::exit::Fault;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Tensor};
use lethe_candlex::tape::{Gradients, Tape, Value};
use lethe_candlex::weights::WeightFile;
use lethe_diffusion::denoiser::{Network, Pass, Told};
use lethe_diffusion::objective::denoising_loss;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Distance of one thing from its reference.
#[derive(Clone, Debug, Serialize)]
pub struct Distance {
    /// Its name in the reference.
    pub name: String,
    /// max |ours − reference| / max |reference|; for a bias whose gradient vanishes, over the largest gradient of the
    /// same layer's weight.
    pub relative_error: f64,
}

impl Distance {
    fn new(name: impl Into<String>, ours: &Tensor, reference: &Tensor) -> Result<Self> {
        let name = name.into();
        let relative_error =
            relative_error(ours, reference, reference).with_context(|| name.clone())?;
        Ok(Self { name, relative_error })
    }
}

/// A reference file, read by name.
pub struct Reference {
    file: WeightFile,
}

impl Reference {
    /// # Errors
    /// When the file cannot be read, or holds a name that none of the checks knows.
    pub fn open(path: &Path) -> Result<Self> {
        let file = WeightFile::open(path)?;
        if let Some(name) = file.names().find(|name| !is_known(name)) {
            return Err(Fault::Data.because(anyhow!(
                "{}: `{name}` is no name that verification knows (see `lethe models verify --help`)",
                path.display()
            )));
        }
        Ok(Self { file })
    }

    fn has(&self, name: &str) -> bool {
        self.file.info(name).is_ok()
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.file.names().filter(|name| name.starts_with(prefix)).map(String::from).collect()
    }

    fn get(&mut self, name: &str) -> Result<Tensor> {
        Ok(self.file.tensor(name)?)
    }

    /// [batch, channels, height, width] → [batch, height, width, channels], in `dtype`.
    fn image(&mut self, name: &str, dtype: DType) -> Result<Tensor> {
        let image = self.get(name)?;
        ensure!(
            image.rank() == 4,
            "{name}: expected [batch, channels, height, width], got {:?}",
            image.dims()
        );
        Ok(image.permute((0, 2, 3, 1))?.contiguous()?.to_dtype(dtype)?)
    }

    fn numbers(&mut self, name: &str) -> Result<Vec<f64>> {
        Ok(self.get(name)?.flatten_all()?.to_vec1()?)
    }
}

/// Whether `name` is one that the checks look for.
fn is_known(name: &str) -> bool {
    const NAMES: [&str; 31] = [
        "unet.x",
        "unet.t",
        "unet.noise",
        "unet.class_labels",
        "unet.context",
        "unet.uncond",
        "text.ids",
        "text.last_hidden_state",
        "vae.image",
        "vae.mean",
        "vae.logvar",
        "vae.decode_in",
        "vae.decode_out",
        "ddim.guidance",
        "ddim.guided",
        "unet.out",
        "unet.losses",
        "unet.gradient_norms",
        "adamw.learning_rate",
        "adamw.betas",
        "adamw.eps",
        "adamw.weight_decay",
        "adamw.clip",
        "ema.decay",
        "ddim.x",
        "ddim.timesteps",
        "ddim.out",
        "ddpm.x",
        "ddpm.timesteps",
        "ddpm.noise",
        "ddpm.out",
    ];
    let is_of = |prefix: &str| name.starts_with(prefix);
    NAMES.contains(&name) || is_of("unet.grad.") || is_of("unet.after") || is_of("unet.ema")
}

/// max |a − b| over max of `scale` (b itself, as a rule).
fn relative_error(a: &Tensor, b: &Tensor, scale: &Tensor) -> Result<f64> {
    ensure!(
        a.dims() == b.dims(),
        "shapes differ: ours {:?}, the reference's {:?}",
        a.dims(),
        b.dims()
    );
    let largest = |t: &Tensor| -> Result<f64> {
        Ok(t.to_dtype(DType::F64)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?)
    };
    let difference = largest(&(a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?)?;
    let scale = largest(scale)?;
    Ok(if difference == 0. { 0. } else { difference / scale })
}

/// One batch as the reference gives it.
struct Batch {
    x: Tensor,
    noise: Tensor,
    timesteps: Vec<f64>,
    told: Told,
}

/// What the reference tells the network of a batch of `n`.
fn told(reference: &mut Reference, n: usize, dtype: DType) -> Result<Told> {
    if reference.has("unet.class_labels") {
        let labels = reference.numbers("unet.class_labels")?;
        return Ok(Told::Classes(labels.iter().map(|&class| class as u32).collect()));
    }
    if reference.has("unet.context") {
        let embeddings = reference.get("unet.context")?.to_dtype(dtype)?;
        return Ok(Told::Texts { embeddings, of: (0..n as u32).collect() });
    }
    Ok(Told::Nothing)
}

impl Batch {
    fn read(reference: &mut Reference, dtype: DType) -> Result<Self> {
        let timesteps = reference.numbers("unet.t")?;
        let x = reference.image("unet.x", dtype)?;
        // Without what follows from a gradient, the output alone is compared.
        let has_steps = reference.file.names().any(|name| {
            ["unet.grad.", "unet.after", "unet.ema", "unet.losses", "unet.gradient_norms"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
        let noise = match reference.has("unet.noise") || has_steps {
            true => reference.image("unet.noise", dtype)?,
            false => x.zeros_like()?,
        };
        Ok(Self { noise, told: told(reference, timesteps.len(), dtype)?, x, timesteps })
    }

    fn pass(&self) -> Pass<'_> {
        Pass::plain(self.told.condition())
    }

    /// Output, loss and gradients of mean((out − noise)²).
    fn step(&self, network: &Subject) -> Result<(Tensor, f64, Gradients)> {
        let tape = Tape::recording(&network.store);
        let x = Value::constant(self.x.clone());
        let output = network.network.forward(&tape, &x, &self.timesteps, &self.pass());
        let output = output.with_context(|| {
            format!(
                "the network does not take unet.x (as [batch, height, width, channels] {:?}) with {} numbers in unet.t and what it is told",
                self.x.dims(),
                self.timesteps.len()
            )
        })?;
        let tensor = output.tensor().clone();
        let loss = denoising_loss(&tensor, &self.noise, &vec![1.; self.timesteps.len()])?;
        let gradients = tape.backward(&output, loss.gradient)?;
        Ok((tensor, loss.mean, gradients))
    }
}

/// Compares everything that `reference` holds with what `network` computes.
///
/// Training steps move the network: it is not the one that was read afterwards.
///
/// # Errors
/// When the reference lacks an input, or a tensor has another shape than ours.
pub fn compare(network: &Subject, reference: &mut Reference) -> Result<Vec<Distance>> {
    let mut distances = match &network.surroundings {
        Some(parts) => surroundings::compare(parts, reference)?,
        None => Vec::new(),
    };
    distances.extend(walks::compare(network, reference)?);
    if reference.has("unet.x") {
        let batch = Batch::read(reference, network.store.flat().dtype())?;
        let (output, _, gradients) = batch.step(network)?;
        if reference.has("unet.out") {
            let expected = reference.image("unet.out", DType::F64)?;
            distances.push(Distance::new("unet.out", &output, &expected)?);
        }
        distances.extend(compare_gradients(network, &gradients, reference)?);
        drop(gradients);
        distances.extend(steps::compare(network, &batch, reference)?);
    }
    Ok(distances)
}

/// What an error in the gradient `name` is measured by: the gradient itself, or that of the same layer's weight where a
/// bias has none but rounding, as that of attention's keys, or one before a norm over its own channel.
fn scale(name: &str, expected: &Tensor, reference: &mut Reference) -> Result<Tensor> {
    const VANISHING: f64 = 1e-5;
    let weight = name.strip_suffix("bias").map(|layer| format!("{layer}weight"));
    let Some(weight) = weight.filter(|weight| reference.has(weight)) else {
        return Ok(expected.clone());
    };
    let weight = reference.get(&weight)?;
    let size = |t: &Tensor| -> Result<f64> {
        Ok(t.to_dtype(DType::F64)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?)
    };
    let vanishes = size(expected)? <= VANISHING * size(&weight)?;
    Ok(if vanishes { weight } else { expected.clone() })
}

fn compare_gradients(
    network: &Subject,
    gradients: &Gradients,
    reference: &mut Reference,
) -> Result<Vec<Distance>> {
    let store = &network.store;
    let indices: BTreeMap<&str, usize> =
        store.iter().enumerate().map(|(index, (name, _))| (name, index)).collect();
    let mut distances = Vec::new();
    for name in reference.names("unet.grad.") {
        let parameter = lethe_pixel::folder::todays_name(&name["unet.grad.".len()..]);
        let index = *indices
            .get(parameter.as_str())
            .with_context(|| format!("{name}: no such parameter"))?;
        let zeros = store.tensor(index).zeros_like()?;
        let ours = gradients.parameter(index).unwrap_or(&zeros);
        let expected = reference.get(&name)?;
        let scale = scale(&name, &expected, reference)?;
        let relative_error =
            relative_error(ours, &expected, &scale).with_context(|| name.clone())?;
        distances.push(Distance { name, relative_error });
    }
    Ok(distances)
}
