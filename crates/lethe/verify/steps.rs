//! Training steps on the reference's batch: gradient, clipping, AdamW, moving average.

use super::{Batch, Distance, Reference, Subject};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use lethe_kernels::adamw::AdamW;
use lethe_kernels::ema::lerp;
use lethe_pixel::folder::todays_name;
use lethe_train::{Optimizer, flatten};

/// The settings that a reference of training steps holds.
struct Setting {
    law: AdamW,
    clip: f64,
    decay: f64,
}

impl Setting {
    fn read(reference: &mut Reference) -> Result<Self> {
        let mut number = |name: &str| -> Result<f64> {
            reference.numbers(name)?.first().copied().with_context(|| format!("{name}: empty"))
        };
        let (learning_rate, epsilon) = (number("adamw.learning_rate")?, number("adamw.eps")?);
        let (weight_decay, clip, decay) =
            (number("adamw.weight_decay")?, number("adamw.clip")?, number("ema.decay")?);
        let betas = reference.numbers("adamw.betas")?;
        let [first_decay, second_decay] = betas[..] else {
            anyhow::bail!("adamw.betas: expected two numbers")
        };
        Ok(Self {
            law: AdamW { learning_rate, first_decay, second_decay, epsilon, weight_decay },
            clip,
            decay,
        })
    }
}

/// Steps that are taken again.
const MOST_STEPS: usize = 100;

/// Takes as many steps as the reference speaks of; does nothing where it speaks of none.
pub(super) fn compare(
    network: &Subject,
    batch: &Batch,
    reference: &mut Reference,
) -> Result<Vec<Distance>> {
    let last = (1..=MOST_STEPS).rev().find(|k| {
        ["after", "ema"].iter().any(|kind| !reference.names(&format!("unet.{kind}{k}.")).is_empty())
    });
    let steps = last.unwrap_or(0).max(if reference.has("unet.losses") {
        reference.numbers("unet.losses")?.len()
    } else {
        0
    });
    if steps == 0 {
        return Ok(Vec::new());
    }
    ensure!(steps <= MOST_STEPS, "unet.losses: expected at most {MOST_STEPS} steps, got {steps}");
    let setting = Setting::read(reference)?;
    let store = &network.store;
    let (average, mut optimizer) = (store.duplicate()?, Optimizer::new(store)?);
    let (mut losses, mut norms, mut distances) = (Vec::new(), Vec::new(), Vec::new());
    for k in 1..=steps {
        let (_, loss, gradients) = batch.step(network)?;
        let (flat, norm) = flatten(store, gradients)?;
        losses.push(loss);
        norms.push(norm);
        optimizer.step(&setting.law, store, &flat, norm, setting.clip)?;
        lerp(average.flat(), store.flat(), 1. - setting.decay, 1.)?;
        for (kind, store) in [("after", store), ("ema", &average)] {
            let prefix = format!("unet.{kind}{k}.");
            for name in reference.names(&prefix) {
                let parameter = todays_name(&name[prefix.len()..]);
                let ours = store.iter().find(|(own, _)| **own == parameter);
                let (_, ours) = ours.with_context(|| format!("{name}: no such parameter"))?;
                let expected = reference.get(&name)?;
                distances.push(Distance::new(name, ours, &expected)?);
            }
        }
    }
    for (name, ours) in [("unet.losses", losses), ("unet.gradient_norms", norms)] {
        if reference.has(name) {
            let expected = reference.get(name)?.flatten_all()?;
            let ours = Tensor::new(&ours[..expected.elem_count().min(ours.len())], &Device::Cpu)?;
            distances.push(Distance::new(name, &ours, &expected)?);
        }
    }
    Ok(distances)
}
