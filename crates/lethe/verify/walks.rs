//! Sampling walks from the reference's noise.

use super::{Distance, Process, Reference};
use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor};
use lethe_diffusion::denoiser::{Condition, NetworkDenoiser};
use lethe_diffusion::sampler::{Ddim, Ddpm, Sampler, Variance, walk};
use lethe_diffusion::schedule::Timestep;
use lethe_pixel::UNet2d;
use lethe_pixel::folder::Pretrained;

/// Walks as the reference did; does nothing where it holds no walk.
pub(super) fn compare(
    network: &Pretrained,
    process: &Process,
    reference: &mut Reference,
) -> Result<Vec<Distance>> {
    let denoiser = NetworkDenoiser {
        network: &network.unet,
        store: &network.loaded.store,
        schedule: &process.schedule,
        parameterization: process.parameterization,
    };
    let mut distances = Vec::new();
    if reference.has("ddim.x") {
        let sampler = Ddim { eta: 0., clip: true };
        distances.push(compare_one("ddim", &sampler, &denoiser, reference, None)?);
    }
    if reference.has("ddpm.x") {
        let sampler = Ddpm { variance: Variance::Small, clip: true };
        let noise = reference.get("ddpm.noise")?; // [stage, batch, channels, height, width]
        ensure!(
            noise.rank() == 5,
            "ddpm.noise: expected [stage, batch, channels, height, width], got {:?}",
            noise.dims()
        );
        let noise = noise.permute((0, 1, 3, 4, 2))?.to_dtype(DType::F32)?.contiguous()?;
        distances.push(compare_one("ddpm", &sampler, &denoiser, reference, Some(noise))?);
    }
    Ok(distances)
}

fn compare_one(
    kind: &str,
    sampler: &impl Sampler,
    denoiser: &NetworkDenoiser<UNet2d>,
    reference: &mut Reference,
    noise: Option<Tensor>,
) -> Result<Distance> {
    let x = reference.image(&format!("{kind}.x"), DType::F32)?;
    let timesteps = reference.numbers(&format!("{kind}.timesteps"))?;
    let total = denoiser.schedule.timesteps();
    if let Some(t) = timesteps.iter().find(|&&t| !(0. ..total as f64).contains(&t)) {
        bail!("{kind}.timesteps: expected timesteps from 0 to {}, got {t}", total - 1);
    }
    let timesteps: Vec<Timestep> = timesteps.iter().map(|&t| Timestep(t as usize)).collect();
    let noise_of = |stage: usize| match &noise {
        Some(noise) => noise.get(stage),
        None => Ok(x.clone()),
    };
    let walked = walk(sampler, denoiser, &timesteps, &x, Condition::Unconditional, noise_of)?;
    let name = format!("{kind}.out");
    let expected = reference.image(&name, DType::F64)?;
    Distance::new(name, &walked, &expected)
}
