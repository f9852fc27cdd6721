//! `lethe sample`: images from a checkpoint.

use super::say;
use anyhow::{Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use clap::{Args, ValueEnum};
use lethe::candlex::rng::{Seed, Stream};
use lethe::destination;
use lethe::diffusion::denoiser::{Condition, Denoiser, NetworkDenoiser, Told};
use lethe::diffusion::sampler::{Ddim, Ddpm, Spacing, Variance, walk};
use lethe::exit::{Fault, otherwise};
use lethe::model::folder_of;
use lethe::painter::{Drawing, Painter};
use lethe::pipeline::{clips, locate, or_gone, scheduler_of};
use lethe::pixel::{UNet2d, UNet2dConfig, folder};
use lethe::sheet::Sheet;
use std::path::{Path, PathBuf};

/// Draw images from a checkpoint and write them as one PNG. The same seed always gives the same images: image i comes
/// from noise i, whatever the count.
///
/// FOLDER is a diffusers folder with a UNet2DModel or a whole Stable Diffusion model, such as a checkpoint of
/// `lethe run`; its scheduler, if it has one, says the noise levels. It may also be a Stable Diffusion 1 in a single
/// .safetensors, or hub:OWNER/NAME@COMMIT. Stable Diffusion wants at least one --prompt; of several, image i has prompt i,
/// and after the last comes the first again.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  lethe sample runs/fashion/seed-1/task-1/step-00001200 --count 40 --out samples.png\n  lethe sample --model stable-diffusion-v1-5 --prompt \"a photo of a cat\" --count 4 --stages 25"
)]
pub struct Arguments {
    /// The folder
    #[arg(required_unless_present = "model")]
    folder: Option<PathBuf>,
    /// The same, by name
    #[arg(long, value_name = "FOLDER", conflicts_with = "folder")]
    model: Option<PathBuf>,
    /// For a single file: the Stable Diffusion folder whose configurations and tokenizer it has; v1.5's by default
    #[arg(long, value_name = "FOLDER")]
    like: Option<PathBuf>,
    /// What Stable Diffusion draws; may be given several times
    #[arg(long = "prompt", value_name = "TEXT")]
    prompts: Vec<String>,
    /// What Stable Diffusion draws away from; the empty text by default
    #[arg(long, value_name = "TEXT")]
    negative_prompt: Option<String>,
    /// Weight of classifier-free guidance for Stable Diffusion; 1 is none, 7.5 is the default
    #[arg(long, value_name = "W")]
    guidance: Option<f64>,
    /// How many images
    #[arg(long, default_value_t = 40)]
    count: usize,
    /// Network evaluations of one image
    #[arg(long, default_value_t = 50)]
    stages: usize,
    /// The way back
    #[arg(long, value_enum, default_value = "ddim")]
    sampler: SamplerName,
    /// Side of the images in pixels; the model's own by default
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

/// Weight of guidance where none is given: diffusers' default.
const GUIDANCE: f64 = 7.5;
/// Tiles in a row.
const COLUMNS: usize = 10;

/// Draws, writes and names the file.
pub fn run(arguments: &Arguments) -> Result<()> {
    let device = lethe::device::named(&arguments.device)?;
    let folder = arguments.folder.as_ref().or(arguments.model.as_ref());
    let folder = folder.ok_or_else(|| Fault::Usage.because(anyhow!("expected a folder")))?;
    let out = place(&arguments.out)?;
    let located = locate(&folder_of(folder, arguments.like.as_deref())?)?;
    let sheet = if lethe::latent::folder::is_pipeline(&located) {
        draw_texts(arguments, &located, &device)
    } else {
        draw_pixels(arguments, &located, &device)
    };
    let sheet = sheet.map_err(or_gone(&located))?;
    lethe::ledger::durable::write_file(&out, &sheet.png()?)?;
    say(&arguments.out.display().to_string());
    Ok(())
}

/// Where the picture goes, whose name must be that of a PNG.
fn place(out: &Path) -> Result<PathBuf> {
    let is_png = out.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
    if !is_png || out.is_dir() {
        let why = "expected the name of a file that ends in .png";
        return Err(Fault::Usage.because(anyhow!("--out: {}: {why}", out.display())));
    }
    destination::of(out)
}

/// Numbers of the images, batch by batch.
fn batches(arguments: &Arguments) -> Vec<Vec<u64>> {
    let numbers: Vec<u64> = (0..arguments.count as u64).collect();
    numbers.chunks(arguments.batch.max(1)).map(<[u64]>::to_vec).collect()
}

fn positions(numbers: &[u64]) -> Vec<usize> {
    numbers.iter().map(|&number| number as usize).collect()
}

fn draw_pixels(arguments: &Arguments, located: &Path, device: &Device) -> Result<Sheet> {
    let network = folder::read(located, DType::F32, device)?;
    let (schedule, parameterization) = scheduler_of(located)?;
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
    let (channels, clip) = (network.config.out_channels, clips(located)?);
    expect_room(arguments, size, network.config.block_out_channels.first().copied())?;
    let mut sheet =
        Sheet::blank((size, size), channels, COLUMNS.min(arguments.count), arguments.count);
    let shape = [size, size, network.config.in_channels];
    for numbers in batches(arguments) {
        let images = draw(arguments, &denoiser, &numbers, &shape, clip)?;
        sheet.place(&images, &positions(&numbers))?;
    }
    Ok(sheet)
}

fn draw_texts(arguments: &Arguments, located: &Path, device: &Device) -> Result<Sheet> {
    let painter = Painter::open(located, device).map_err(otherwise(Fault::Untrustworthy))?;
    let size = arguments.size.unwrap_or(painter.size());
    check_texts(arguments, &painter, size).map_err(|error| Fault::Usage.because(error))?;
    expect_room(arguments, size, painter.width())?;
    let mut texts = arguments.prompts.clone();
    texts.push(arguments.negative_prompt.clone().unwrap_or_default());
    let (embeddings, n) = (painter.embed(&texts)?, arguments.prompts.len());
    let nothing = embeddings.narrow(0, n, 1)?;
    let mut sheet = Sheet::blank(
        (size, size),
        painter.channels(),
        COLUMNS.min(arguments.count),
        arguments.count,
    );
    for numbers in batches(arguments) {
        let of: Vec<u32> = numbers.iter().map(|&number| (number % n as u64) as u32).collect();
        let drawing = Drawing {
            told: Told::Texts { embeddings: embeddings.clone(), of },
            nothing: &nothing,
            guidance: arguments.guidance.unwrap_or(GUIDANCE),
            stages: arguments.stages,
            seed: Seed(arguments.seed),
        };
        sheet.place(&painter.draw(&drawing, &numbers, size)?, &positions(&numbers))?;
    }
    Ok(sheet)
}

fn check_texts(arguments: &Arguments, painter: &Painter, size: usize) -> Result<()> {
    check_counts(arguments, painter.timesteps())?;
    ensure!(!arguments.prompts.is_empty(), "--prompt: this model draws what a text says; give one");
    ensure!(arguments.class.is_none(), "--class: this model is told texts; use --prompt");
    ensure!(
        matches!(arguments.sampler, SamplerName::Ddim),
        "--sampler: expected ddim for Stable Diffusion"
    );
    check_size(arguments, size, painter.channels())?;
    let divisor = painter.divisor();
    let fits = size > 0 && size.is_multiple_of(divisor);
    ensure!(fits, "--size: expected a multiple of {divisor} above 0, got {size}");
    Ok(())
}

/// Numbers in all images together, at most: what needs more wants several calls.
const MOST_NUMBERS: usize = 1 << 31;

/// Refuses, before anything is computed, what cannot fit: of the widest features of a batch three lie in memory at once.
fn expect_room(arguments: &Arguments, size: usize, channels: Option<usize>) -> Result<()> {
    let numbers = [3, 4, size, size, channels.unwrap_or(1), arguments.batch.min(arguments.count)];
    let needed = numbers.into_iter().map(|n| n as u64).fold(1, u64::saturating_mul);
    match lethe::plan::machine::available_memory() {
        Some(free) if needed > free && arguments.device == "cpu" => {
            let (needed, free) = (lethe::plan::bytes(needed), lethe::plan::bytes(free));
            Err(Fault::Held.because(anyhow!(
                "--size, --batch: {needed} of memory at least, {free} are free; give a smaller --size or --batch"
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses a sheet that no memory would hold.
fn check_size(arguments: &Arguments, size: usize, channels: usize) -> Result<()> {
    let n = size.checked_mul(size).and_then(|n| n.checked_mul(channels));
    let n = n.and_then(|n| n.checked_mul(arguments.count));
    ensure!(
        n.is_some_and(|n| n <= MOST_NUMBERS),
        "--count, --size: expected at most {MOST_NUMBERS} numbers in all images, got {} of {size}x{size}x{channels}",
        arguments.count
    );
    Ok(())
}

fn check_counts(arguments: &Arguments, timesteps: usize) -> Result<()> {
    let Arguments { count, stages, batch, .. } = arguments;
    let weight = arguments.guidance.unwrap_or(GUIDANCE);
    ensure!(weight.abs() <= 1e4, "--guidance: expected a number up to 10000, got {weight}");
    ensure!(*count > 0, "--count: expected at least 1, got 0");
    ensure!(*batch > 0, "--batch: expected at least 1, got 0");
    ensure!(
        (1..=timesteps).contains(stages),
        "--stages: expected 1 to {timesteps}, the network's timesteps, got {stages}"
    );
    Ok(())
}

/// Refuses what cannot be drawn.
fn check(
    arguments: &Arguments,
    config: &UNet2dConfig,
    size: usize,
    timesteps: usize,
) -> Result<()> {
    check_counts(arguments, timesteps)?;
    check_size(arguments, size, config.out_channels)?;
    let class = &arguments.class;
    let options = [
        ("--prompt", !arguments.prompts.is_empty()),
        ("--negative-prompt", arguments.negative_prompt.is_some()),
        ("--guidance", arguments.guidance.is_some()),
    ];
    if let Some((option, _)) = options.iter().find(|(_, is_given)| *is_given) {
        bail!("{option}: this network is told no texts");
    }
    let divisor = config.divisor();
    ensure!(
        size > 0 && size.is_multiple_of(divisor),
        "--size: expected a multiple of {divisor} above 0, got {size}"
    );
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
    clip: bool,
) -> Result<Tensor> {
    let device = denoiser.store.flat().device();
    let stream = |name: &str| -> Stream { Seed(arguments.seed).stream(name) };
    let x = stream("samples").normal(0, numbers, shape, device)?;
    let timesteps =
        Spacing::Leading.timesteps(denoiser.schedule().timesteps(), arguments.stages, 0);
    let classes = arguments.class.map(|class| vec![class; numbers.len()]);
    let condition = classes.as_deref().map_or(Condition::Unconditional, Condition::Classes);
    Ok(match arguments.sampler {
        SamplerName::Ddim => {
            let sampler = Ddim { eta: 0., clip };
            walk(&sampler, denoiser, &timesteps, &x, condition, |_| Ok(x.clone()))?
        }
        SamplerName::Ddpm => {
            let sampler = Ddpm { variance: Variance::Small, clip };
            let noise =
                |stage: usize| stream("sampler noise").normal(stage as u32, numbers, shape, device);
            walk(&sampler, denoiser, &timesteps, &x, condition, noise)?
        }
    })
}
