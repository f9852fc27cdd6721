//! `lethe sample`: images from a checkpoint.

use super::say;
use anyhow::{Result, anyhow, bail, ensure};
use candle_core::{DType, Tensor};
use clap::{Args, ValueEnum};
use lethe::candlex::rng::{Seed, Stream};
use lethe::diffusion::denoiser::{Condition, Denoiser, NetworkDenoiser};
use lethe::diffusion::sampler::{Ddim, Ddpm, Spacing, Variance, walk};
use lethe::exit::Fault;
use lethe::pipeline::{locate, scheduler_of};
use lethe::pixel::{UNet2d, UNet2dConfig, folder};
use lethe::sheet::Sheet;
use std::path::PathBuf;

/// Draw images from a checkpoint and write them as one PNG. The same seed always gives the same images: image i comes
/// from noise i, whatever the count.
///
/// FOLDER is a diffusers folder with a UNet2DModel, such as a checkpoint of `lethe run`; its scheduler, if it has one,
/// says the noise levels.
#[derive(Args)]
#[command(
    after_help = "Example:\n  lethe sample runs/fashion/seed-1/task-1/step-00001200 --count 40 --out samples.png"
)]
pub struct Arguments {
    /// The folder
    folder: PathBuf,
    /// How many images
    #[arg(long, default_value_t = 40)]
    count: usize,
    /// Network evaluations of one image
    #[arg(long, default_value_t = 50)]
    stages: usize,
    /// The way back
    #[arg(long, value_enum, default_value = "ddim")]
    sampler: SamplerName,
    /// Side of the images in pixels; the network's own by default
    #[arg(long)]
    size: Option<usize>,
    /// Class of the images, for a network that is told classes
    #[arg(long)]
    class: Option<u32>,
    /// Seed of the noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Images drawn at once
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Where to write
    #[arg(long, value_name = "FILE", default_value = "samples.png")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum SamplerName {
    /// Deterministic (Song et al. 2021)
    Ddim,
    /// Ancestral (Ho et al. 2020)
    Ddpm,
}

/// Tiles in a row.
const COLUMNS: usize = 10;

/// Draws, writes and names the file.
pub fn run(arguments: &Arguments) -> Result<()> {
    let device = lethe::device::named(&arguments.device)?;
    let located = locate(&arguments.folder)?;
    let network = folder::read(&located, DType::F32, &device)?;
    let (schedule, parameterization) = scheduler_of(&located)?;
    let size = arguments.size.or(network.config.sample_size);
    let size = size.ok_or_else(|| {
        Fault::Usage.because(anyhow!("--size: the network's configuration names none"))
    })?;
    check(arguments, &network.config, size, schedule.timesteps())
        .map_err(|error| Fault::Usage.because(error))?;
    let denoiser = NetworkDenoiser {
        network: &network.unet,
        store: &network.loaded.store,
        schedule: &schedule,
        parameterization,
    };
    let mut sheet =
        Sheet::blank((size, size), network.config.out_channels, COLUMNS, arguments.count);
    let shape = [size, size, network.config.in_channels];
    let numbers: Vec<u64> = (0..arguments.count as u64).collect();
    for numbers in numbers.chunks(arguments.batch.max(1)) {
        let images = draw(arguments, &denoiser, numbers, &shape, &device)?;
        sheet.place(&images, &numbers.iter().map(|&number| number as usize).collect::<Vec<_>>())?;
    }
    lethe::ledger::durable::write_file(&arguments.out, &sheet.png()?)?;
    say(&arguments.out.display().to_string());
    Ok(())
}

/// Refuses what cannot be drawn.
fn check(
    arguments: &Arguments,
    config: &UNet2dConfig,
    size: usize,
    timesteps: usize,
) -> Result<()> {
    let Arguments { count, stages, batch, class, .. } = arguments;
    ensure!(*count > 0, "--count: expected at least 1, got 0");
    ensure!(*batch > 0, "--batch: expected at least 1, got 0");
    ensure!(
        (1..=timesteps).contains(stages),
        "--stages: expected 1 to {timesteps}, the network's timesteps, got {stages}"
    );
    let divisor = config.divisor();
    ensure!(size.is_multiple_of(divisor), "--size: expected a multiple of {divisor}, got {size}");
    match (class, config.num_class_embeds) {
        (Some(_), None) => bail!("--class: the network is told no classes"),
        (None, Some(n)) => bail!("--class: the network wants one, from 0 to {}", n - 1),
        (Some(class), Some(n)) => {
            ensure!((*class as usize) < n, "--class: expected 0 to {}, got {class}", n - 1);
        }
        (None, None) => {}
    }
    Ok(())
}

fn draw(
    arguments: &Arguments,
    denoiser: &NetworkDenoiser<UNet2d>,
    numbers: &[u64],
    shape: &[usize],
    device: &candle_core::Device,
) -> Result<Tensor> {
    let stream = |name: &str| -> Stream { Seed(arguments.seed).stream(name) };
    let x = stream("samples").normal(0, numbers, shape, device)?;
    let timesteps =
        Spacing::Leading.timesteps(denoiser.schedule().timesteps(), arguments.stages, 0);
    let classes = arguments.class.map(|class| vec![class; numbers.len()]);
    let condition = classes.as_deref().map_or(Condition::Unconditional, Condition::Classes);
    Ok(match arguments.sampler {
        SamplerName::Ddim => {
            let sampler = Ddim { eta: 0., clip: true };
            walk(&sampler, denoiser, &timesteps, &x, condition, |_| Ok(x.clone()))?
        }
        SamplerName::Ddpm => {
            let sampler = Ddpm { variance: Variance::Small, clip: true };
            let noise =
                |stage: usize| stream("sampler noise").normal(stage as u32, numbers, shape, device);
            walk(&sampler, denoiser, &timesteps, &x, condition, noise)?
        }
    })
}
