//! Sampling walks from the reference's noise.

use super::{Distance, Reference, Subject, told};
use crate::system::AnyNetwork;
use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor};
use lethe_diffusion::denoiser::{Denoiser, NetworkDenoiser};
use lethe_diffusion::guidance::Guided;
use lethe_diffusion::sampler::{Ddim, Ddpm, Sampler, Variance, walk_to};
use lethe_diffusion::schedule::Timestep;

/// Weight of guidance where the reference does not say: diffusers' default for Stable Diffusion.
const GUIDANCE: f64 = 7.5;

/// Walks as the reference did; does nothing where it holds no walk.
pub(super) fn compare(network: &Subject, reference: &mut Reference) -> Result<Vec<Distance>> {
    let denoiser = NetworkDenoiser {
        network: &network.network,
        store: &network.store,
        schedule: &network.schedule,
        parameterization: network.parameterization,
    };
    // Latents are not held within [−1, 1], and their walks end where the scheduler says.
    let is_pixel = matches!(network.network, AnyNetwork::Pixel(_));
    let first = network.schedule.alpha_bar(Timestep(0));
    let end = if is_pixel || network.ending.is_clean { 1. } else { first };
    let mut distances = Vec::new();
    if reference.has("ddim.x") {
        let sampler = Ddim { eta: 0., clip: is_pixel };
        if reference.has("ddim.out") {
            let found = walked("ddim", end, &sampler, &denoiser, reference, None)?;
            distances.push(beside("ddim.out", &found, reference)?);
        }
        if reference.has("ddim.guided") {
            let nothing = reference.get("unet.uncond")?.narrow(0, 0, 1)?.to_dtype(DType::F32)?;
            let weight = match reference.has("ddim.guidance") {
                true => reference.numbers("ddim.guidance")?.first().copied().unwrap_or(1.),
                false => GUIDANCE,
            };
            let guided = Guided { denoiser: &denoiser, nothing: &nothing, weight };
            let found = walked("ddim", end, &sampler, &guided, reference, None)?;
            distances.push(beside("ddim.guided", &found, reference)?);
        }
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
        let found = walked("ddpm", 1., &sampler, &denoiser, reference, Some(noise))?;
        distances.push(beside("ddpm.out", &found, reference)?);
    }
    Ok(distances)
}

fn beside(name: &str, found: &Tensor, reference: &mut Reference) -> Result<Distance> {
    let expected = reference.image(name, DType::F64)?;
    Distance::new(name, found, &expected)
}

fn walked(
    kind: &str,
    end: f64,
    sampler: &impl Sampler,
    denoiser: &impl Denoiser,
    reference: &mut Reference,
    noise: Option<Tensor>,
) -> Result<Tensor> {
    let x = reference.image(&format!("{kind}.x"), DType::F32)?;
    let timesteps = reference.numbers(&format!("{kind}.timesteps"))?;
    let total = denoiser.schedule().timesteps();
    if let Some(t) = timesteps.iter().find(|&&t| !(0. ..total as f64).contains(&t)) {
        bail!("{kind}.timesteps: expected timesteps from 0 to {}, got {t}", total - 1);
    }
    let timesteps: Vec<Timestep> = timesteps.iter().map(|&t| Timestep(t as usize)).collect();
    let noise_of = |stage: usize| match &noise {
        Some(noise) => noise.get(stage),
        None => Ok(x.clone()),
    };
    let told = told(reference, x.dim(0)?, DType::F32)?;
    Ok(walk_to(end, sampler, denoiser, &timesteps, &x, told.condition(), noise_of)?)
}
