//! Stable Diffusion's U-Net: reading it, one evaluation, and a training step of adapters and of the whole.

use crate::child::serve_rounds;
use crate::place::Place;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_candlex::tape::{Tape, Value};
use lethe_candlex::weights::serialize;
use lethe_continual::{Batch, ExampleId};
use lethe_diffusion::denoiser::{Network, Pass, Told};
use lethe_diffusion::objective::{Weighting, denoising_loss};
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::schedule::{NoiseSchedule, ScheduleKind, ScheduleSpec};
use lethe_latent::lora::{self, LoraSpec};
use lethe_latent::{UNet2dCondition, UNet2dConditionConfig, folder as disk};
use lethe_train::checkpoint::Content;
use lethe_train::{Inputs, Job, Process, TrainError, Trainer, TrainingSpec};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

const SEED: Seed = Seed(1);
/// Tokens of a text.
const TOKENS: usize = 77;
/// Of adapters, in front of nothing: drawn so that every gradient is there to be compared.
const SPREAD: f64 = 0.02;

/// What is done with the network.
#[derive(Clone, Copy)]
pub enum Task {
    /// Reads it from its folder.
    Load,
    /// One evaluation.
    Forward,
    /// A step of rank-4 adapters over it.
    Lora,
    /// A step of all its parameters.
    Full,
    /// The same, keeping each block's input alone.
    Recomputed,
}

/// A network and the sizes of what it sees.
#[derive(Clone, Copy)]
pub struct Size {
    /// Widths are those of v1.5, divided by this.
    pub divisor: usize,
    /// Side of the latents; the image's is eight times that.
    pub side: usize,
    /// Images of a batch.
    pub batch: usize,
}

impl Size {
    /// The same in small, but no smaller: with one channel to a group, or one token, gradients vanish.
    pub fn quick(self) -> Self {
        Self { divisor: 5, side: 16, batch: 2 }
    }

    fn config(self) -> UNet2dConditionConfig {
        let mut config =
            UNet2dConditionConfig { cross_attention_dim: 768, ..UNet2dConditionConfig::default() };
        config.block_out_channels.iter_mut().for_each(|channels| *channels /= self.divisor);
        config
    }
}

/// One round of `task` after another.
pub fn serve(place: &Place, task: Task, size: Size, folder: &Path) -> Result<()> {
    match task {
        Task::Load => load(place, size, folder),
        Task::Forward => forward(place, size, folder),
        Task::Lora => Subject::adapted(place, size, folder)?.train(place, false),
        Task::Full => Subject::whole(place, size, folder)?.train(place, false),
        Task::Recomputed => Subject::whole(place, size, folder)?.train(place, true),
    }
}

/// A round reads every number of the folder and finds it finite.
fn load(place: &Place, size: Size, folder: &Path) -> Result<()> {
    drop(Subject::whole(place, size, folder)?);
    let read = || {
        let (_, _, declarations) = disk::read_unet_folder(folder)?;
        Ok(disk::read_unet_weights(folder, &declarations, DType::F32, &place.device)?)
    };
    serve_rounds(place, || place.timed(read))
}

fn forward(place: &Place, size: Size, folder: &Path) -> Result<()> {
    let subject = Subject::whole(place, size, folder)?;
    let batch = subject.inputs.batch(size.batch)?;
    serve_rounds(place, || place.timed(|| subject.output(&Tape::inference(&subject.store), &batch)))
}

/// A network as it is measured.
struct Subject {
    unet: UNet2dCondition,
    store: ParamStore,
    inputs: Drawn,
    size: Size,
}

impl Subject {
    /// The network drawn at random; `folder` then holds it as diffusers reads it, and what it should compute.
    fn whole(place: &Place, size: Size, folder: &Path) -> Result<Self> {
        let (unet, declarations) = UNet2dCondition::new(&size.config())?;
        let store = ParamStore::initialised(&declarations, SEED, DType::F32, &place.device)?;
        let path = folder.join(format!("{}.safetensors", disk::DIFFUSERS_STEM));
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        Content::store(&store).write(&mut file)?;
        let config = serde_json::to_value(size.config())?;
        let serde_json::Value::Object(mut config) = config else {
            anyhow::bail!("a configuration that is no object");
        };
        config.insert("_class_name".into(), "UNet2DConditionModel".into());
        config.retain(|_, value| !value.is_null());
        write(folder, disk::CONFIG, serde_json::to_string(&config)?.as_bytes())?;
        let subject = Self {
            unet,
            store,
            inputs: Drawn { side: size.side, device: place.device.clone() },
            size,
        };
        subject.expect(folder, size.divisor > 1)?;
        Ok(subject)
    }

    /// The same under adapters.
    fn adapted(place: &Place, size: Size, folder: &Path) -> Result<Self> {
        let Self { mut unet, store, inputs, .. } = Self::whole(place, size, folder)?;
        let (_, declarations) = UNet2dCondition::new(&size.config())?;
        let adapters = lora::adapt(&mut unet, &declarations, &LoraSpec::default())?;
        let n = adapters.n_elements();
        let flat = (SEED.stream("adapters").normal(0, &[0], &[n], &place.device)? * SPREAD)?;
        let store = ParamStore::from_flat(&adapters, flat.flatten_all()?)?.over(Arc::new(store));
        let subject = Self { unet, store, inputs, size };
        subject.expect(folder, true)?;
        Ok(subject)
    }

    /// Leaves inputs, output and gradients of mean((out − noise)²) for two images in `folder`.
    fn expect(&self, folder: &Path, with_gradients: bool) -> Result<()> {
        let (batch, noise) = (self.inputs.batch(2)?, self.inputs.draw("noise", 2)?);
        let tape = match with_gradients {
            true => Tape::recording(&self.store),
            false => Tape::inference(&self.store),
        };
        let output = self.output(&tape, &batch)?;
        let mut tensors = vec![
            ("x".to_string(), batch.x),
            ("t".to_string(), Tensor::new(&[3i64, 700], &Device::Cpu)?),
            ("context".to_string(), self.inputs.context(2)?),
            ("noise".to_string(), noise.clone()),
            ("out".to_string(), output.tensor().clone()),
        ];
        if with_gradients {
            let loss = denoising_loss(output.tensor(), &noise, &[1., 1.])?;
            let gradients = tape.backward(&output, loss.gradient)?;
            for index in self.store.own() {
                let gradient =
                    gradients.parameter(index).context("a parameter without a gradient")?;
                tensors.push((format!("gradient.{}", self.store.name(index)), gradient.clone()));
            }
            let adapters = self.store.base().map_or(0, |_| self.store.len());
            for (name, tensor) in self.store.iter().take(adapters) {
                tensors.push((format!("adapter.{name}"), tensor.clone()));
            }
        }
        let tensors: Vec<_> = tensors.iter().map(|(name, x)| (name.as_str(), x.clone())).collect();
        write(folder, "expected.safetensors", &serialize(&tensors, None)?)
    }

    fn output(&self, tape: &Tape, batch: &Seen) -> Result<Value> {
        let pass = Pass::plain(batch.told.condition());
        Ok(self.unet.forward(tape, &Value::constant(batch.x.clone()), &batch.levels, &pass)?)
    }

    /// A round is one step of the trainer: latents to noise, forward, backward, clipping, AdamW, average.
    fn train(self, place: &Place, recompute: bool) -> Result<()> {
        let schedule = ScheduleSpec {
            schedule: ScheduleKind::ScaledLinear,
            beta_start: 0.00085,
            beta_end: 0.012,
            ..ScheduleSpec::default()
        };
        let process = Process {
            schedule: NoiseSchedule::new(&schedule)?,
            parameterization: Parameterization::Epsilon,
            weighting: Weighting::Uniform,
        };
        let (batch, precision) = (self.size.batch as u64, place.precision);
        let spec = TrainingSpec { batch, precision, recompute, ..TrainingSpec::default() };
        let job = Job {
            network: &self.unet,
            process: &process,
            inputs: &self.inputs,
            spec: &spec,
            seed: SEED,
            task: 1,
        };
        let mut trainer = Trainer::start(job, self.store)?;
        let new = (0..self.size.batch as u64).map(ExampleId).collect();
        let batch = Batch { new, replayed: Vec::new() };
        trainer.step(&batch)?;
        serve_rounds(place, || place.timed(|| Ok(trainer.step_before(&batch, Some(&batch))?)))
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).with_context(|| path.display().to_string())
}

/// One batch.
struct Seen {
    x: Tensor,
    levels: Vec<f64>,
    told: Told,
}

/// Latents and texts drawn at random.
#[derive(Debug)]
struct Drawn {
    side: usize,
    device: Device,
}

impl Drawn {
    fn batch(&self, n: usize) -> Result<Seen> {
        let levels = [3., 700.].into_iter().cycle().take(n).collect();
        Ok(Seen { x: self.draw("x", n)?, levels, told: self.texts(n)? })
    }

    /// [n, side, side, 4].
    fn draw(&self, name: &str, n: usize) -> candle_core::Result<Tensor> {
        self.normal(name, n, &[self.side, self.side, 4])
    }

    /// [n, tokens, 768].
    fn context(&self, n: usize) -> candle_core::Result<Tensor> {
        self.normal("context", n, &[TOKENS, 768])
    }

    fn normal(&self, name: &str, n: usize, shape: &[usize]) -> candle_core::Result<Tensor> {
        let rows: Vec<u64> = (0..n as u64).collect();
        SEED.stream(name).normal(0, &rows, shape, &self.device)
    }

    fn texts(&self, n: usize) -> candle_core::Result<Told> {
        Ok(Told::Texts { embeddings: self.context(n)?, of: (0..n as u32).collect() })
    }
}

impl Inputs for Drawn {
    fn clean(&self, ids: &[u64], _mirrored: &[bool]) -> Result<Tensor, TrainError> {
        Ok(self.draw("x", ids.len())?)
    }

    fn told(&self, ids: &[u64]) -> Result<Told, TrainError> {
        Ok(self.texts(ids.len())?)
    }
}
