//! U-Nets: a training step as the trainer takes it, and sampling.

use crate::child::serve_rounds;
use crate::place::{Place, Rounded};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_candlex::tape::{Tape, Value};
use lethe_candlex::weights::serialize;
use lethe_continual::{Batch, ExampleId};
use lethe_data::{ImageSet, Shape};
use lethe_diffusion::denoiser::{Condition, Network, NetworkDenoiser, Pass};
use lethe_diffusion::objective::{Weighting, denoising_loss};
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::sampler::{Ddim, Spacing, walk};
use lethe_diffusion::schedule::{NoiseSchedule, ScheduleSpec};
use lethe_pixel::{UNet2d, UNet2dConfig, folder as disk};
use lethe_train::{Job, Pixels, Process, Trainer, TrainingSpec};
use std::path::Path;

const SIDE: usize = 32;
const SEED: Seed = Seed(1);

/// "small": 4,437,699 parameters; "cifar": the shape of google/ddpm-cifar10-32, 35,746,307.
fn config(name: &str, quick: bool) -> UNet2dConfig {
    let blocks = |place: &str, attends: &[bool]| {
        let kind = |&attends: &bool| format!("{}{place}Block2D", if attends { "Attn" } else { "" });
        attends.iter().map(kind).collect::<Vec<String>>()
    };
    let small = UNet2dConfig {
        sample_size: Some(SIDE),
        block_out_channels: vec![64, 128, 128],
        layers_per_block: 1,
        down_block_types: blocks("Down", &[false, false, true]),
        up_block_types: blocks("Up", &[true, false, false]),
        ..UNet2dConfig::default()
    };
    let mut config = match name {
        "small" => small,
        _ => UNet2dConfig {
            block_out_channels: vec![128, 256, 256, 256],
            layers_per_block: 2,
            down_block_types: blocks("Down", &[false, true, false, false]),
            up_block_types: blocks("Up", &[false, false, true, false]),
            downsample_padding: 0,
            flip_sin_to_cos: false,
            freq_shift: 1.,
            norm_eps: 1e-6,
            attention_head_dim: None,
            ..small
        },
    };
    if quick {
        config.block_out_channels.iter_mut().for_each(|channels| *channels /= 4);
        config.norm_num_groups = 8;
    }
    config
}

/// A network as it is measured.
struct Subject {
    unet: UNet2d,
    store: ParamStore,
    batch: usize,
}

impl Subject {
    /// Draws the weights and leaves them in `folder` with one batch and what it should give.
    fn new(place: &Place, name: &str, batch: usize, folder: &Path, quick: bool) -> Result<Self> {
        let (config, batch) = (config(name, quick), if quick { 2 } else { batch });
        let (unet, declarations) = UNet2d::new(&config)?;
        let store = ParamStore::initialised(&declarations, SEED, DType::F32, &place.device)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).with_context(|| path.display().to_string())
        };
        write(disk::CONFIG, disk::config_text(&config)?.as_bytes())?;
        let tensors: Vec<_> = store.iter().map(|(name, x)| (name, x.clone())).collect();
        write(disk::WEIGHTS, &serialize(&tensors, None)?)?;
        let subject = Self { unet, store, batch };
        write("expected.safetensors", &subject.expected()?)?;
        Ok(subject)
    }

    /// Noise [n, side, side, 3].
    fn noise(&self, name: &str, n: usize) -> Result<Tensor> {
        let rows: Vec<u64> = (0..n as u64).collect();
        Ok(SEED.stream(name).normal(0, &rows, &[SIDE, SIDE, 3], self.store.flat().device())?)
    }

    /// Output and gradients of mean((out − noise)²) on two images, and the first noise of sampling.
    fn expected(&self) -> Result<Vec<u8>> {
        let (x, noise) = (self.noise("x", 2)?, self.noise("noise", 2)?);
        let tape = Tape::recording(&self.store);
        let timesteps = [3., 700.];
        let pass = Pass::plain(Condition::Unconditional);
        let output = self.unet.forward(&tape, &Value::constant(x.clone()), &timesteps, &pass)?;
        let loss = denoising_loss(output.tensor(), &noise, &[1., 1.])?;
        let out = output.tensor().clone();
        let gradients = tape.backward(&output, loss.gradient)?;
        let mut tensors = vec![
            ("x", x),
            ("t", Tensor::new(&[3i64, 700], &Device::Cpu)?),
            ("noise", noise),
            ("out", out),
            ("start", self.noise("start", self.batch)?),
        ];
        let names: Vec<String> =
            self.store.iter().map(|(name, _)| format!("gradient.{name}")).collect();
        for (index, name) in names.iter().enumerate() {
            let gradient = gradients.parameter(index).context("a parameter without a gradient")?;
            tensors.push((name, gradient.clone()));
        }
        Ok(serialize(&tensors, None)?)
    }
}

fn schedule() -> Result<NoiseSchedule> {
    Ok(NoiseSchedule::new(&ScheduleSpec::default())?)
}

/// A round is one step of the trainer: images to noise, forward, backward, clipping, AdamW, average.
pub fn train(place: &Place, name: &str, batch: usize, folder: &Path, quick: bool) -> Result<()> {
    let Subject { unet, store, batch } = Subject::new(place, name, batch, folder, quick)?;
    let pixels = (0..batch * SIDE * SIDE * 3).map(|i| (i * 7_919 % 251) as u8).collect();
    let ids: Vec<u64> = (0..batch as u64).collect();
    let shape = Shape { width: SIDE, height: SIDE, channels: 3 };
    let images = ImageSet::new(shape, vec!["any".into()], ids.clone(), vec![0; batch], pixels)?;
    let process = Process {
        schedule: schedule()?,
        parameterization: Parameterization::Epsilon,
        weighting: Weighting::Uniform,
    };
    let precision = place.precision;
    let spec = TrainingSpec { batch: batch as u64, precision, ..TrainingSpec::default() };
    let inputs = Pixels { images: &images, is_conditional: false, device: &place.device };
    let job = Job {
        network: &unet,
        process: &process,
        inputs: &inputs,
        spec: &spec,
        seed: SEED,
        task: 1,
    };
    let mut trainer = Trainer::start(job, store)?;
    let batch = Batch { new: ids.into_iter().map(ExampleId).collect(), replayed: Vec::new() };
    trainer.step(&batch)?;
    serve_rounds(place, || place.timed(|| Ok(trainer.step_before(&batch, Some(&batch))?)))
}

/// A round is a whole walk of DDIM from noise to images.
pub fn sample(
    place: &Place,
    (name, batch): (&str, usize),
    stages: usize,
    folder: &Path,
    quick: bool,
) -> Result<()> {
    let subject = Subject::new(place, name, batch, folder, quick)?;
    let schedule = schedule()?;
    let rounded = match place.dtype() {
        DType::F32 => None,
        dtype => Some(subject.store.rounded(dtype, None)?),
    };
    let denoiser = NetworkDenoiser {
        network: &Rounded { network: &subject.unet, dtype: place.dtype() },
        store: rounded.as_ref().unwrap_or(&subject.store),
        schedule: &schedule,
        parameterization: Parameterization::Epsilon,
    };
    let start = subject.noise("start", subject.batch)?;
    let sampler = Ddim { eta: 0., clip: true };
    let stages = if quick { 3 } else { stages };
    let draw = |stages: usize| {
        let timesteps = Spacing::Leading.timesteps(schedule.timesteps(), stages, 0);
        // A deterministic walk never looks at its noise.
        let noise = |_| Ok(start.clone());
        Ok(walk(&sampler, &denoiser, &timesteps, &start, Condition::Unconditional, noise)?)
    };
    draw(1)?;
    serve_rounds(place, || place.timed(|| draw(stages)))
}
