//! Training in bfloat16: gradients near those in 32 bits, and weights that move by less than a bfloat16 can tell.

use crate::golden;
use candle_core::{DType, Device, Tensor};
use lethe::candlex::params::ParamStore;
use lethe::candlex::rng::Seed;
use lethe::continual::{Batch, ExampleId};
use lethe::diffusion::denoiser::Told;
use lethe::diffusion::objective::Weighting;
use lethe::diffusion::parameterization::Parameterization;
use lethe::diffusion::schedule::{NoiseSchedule, ScheduleSpec};
use lethe::latent::lora::{self, LoraSpec};
use lethe::latent::{UNet2dCondition, folder};
use lethe::train::{Inputs, Job, Precision, Process, TrainError, Trainer, TrainingSpec};
use std::sync::Arc;

/// Latents and texts drawn at random.
#[derive(Debug)]
struct Drawn {
    channels: usize,
}

impl Drawn {
    fn normal(name: &str, n: usize, shape: &[usize]) -> Tensor {
        let rows: Vec<u64> = (0..n as u64).collect();
        Seed(3).stream(name).normal(0, &rows, shape, &Device::Cpu).unwrap()
    }
}

impl Inputs for Drawn {
    fn clean(&self, ids: &[u64], _mirrored: &[bool]) -> Result<Tensor, TrainError> {
        Ok(Self::normal("clean", ids.len(), &[8, 8, 4]))
    }

    fn told(&self, ids: &[u64]) -> Result<Told, TrainError> {
        let embeddings = Self::normal("texts", ids.len(), &[9, self.channels]);
        Ok(Told::Texts { embeddings, of: (0..ids.len() as u32).collect() })
    }
}

/// Loss and norm of the first steps in `precision`, and how far the weights went: (report, largest move).
fn trained(precision: Precision, with_adapters: bool) -> Vec<(f64, f64, f64)> {
    let root = golden::path("latent/unet");
    let (config, mut unet, declared) = folder::read_unet_folder(&root).unwrap();
    let loaded = folder::read_unet_weights(&root, &declared, DType::F32, &Device::Cpu).unwrap();
    let store = match with_adapters {
        false => loaded.store,
        true => over(&mut unet, loaded.store, &declared),
    };
    let process = Process {
        schedule: NoiseSchedule::new(&ScheduleSpec::default()).unwrap(),
        parameterization: Parameterization::Epsilon,
        weighting: Weighting::Uniform,
    };
    let spec =
        TrainingSpec { precision, learning_rate: 1e-6, warm_up: 0, ..TrainingSpec::default() };
    let inputs = Drawn { channels: config.cross_attention_dim };
    let job = Job {
        network: &unet,
        process: &process,
        inputs: &inputs,
        spec: &spec,
        seed: Seed(1),
        task: 1,
    };
    let start = store.duplicate().unwrap();
    let mut trainer = Trainer::start(job, store).unwrap();
    let batch = Batch { new: (0..2).map(ExampleId).collect(), replayed: Vec::new() };
    let step = |_| {
        let report = trainer.step(&batch).unwrap();
        let moved = (trainer.weights().flat() - start.flat()).unwrap().abs().unwrap();
        let moved = moved.max(0).unwrap().to_scalar::<f32>().unwrap();
        (report.loss, report.gradient_norm, f64::from(moved))
    };
    (0..2).map(step).collect()
}

fn over(
    unet: &mut UNet2dCondition,
    store: ParamStore,
    declared: &lethe::candlex::params::Declarations,
) -> ParamStore {
    let adapters = lora::adapt(unet, declared, &LoraSpec::default()).unwrap();
    let own = ParamStore::initialised(&adapters, Seed(5), DType::F32, &Device::Cpu).unwrap();
    own.over(Arc::new(store))
}

#[test]
fn tf32_is_32_bits_on_a_processor() {
    assert_eq!(trained(Precision::Tf32, false), trained(Precision::F32, false));
}

#[test]
fn bfloat16_takes_nearly_the_same_steps_on_weights_of_32_bits() {
    for with_adapters in [false, true] {
        let exact = trained(Precision::F32, with_adapters);
        let found = trained(Precision::Bf16, with_adapters);
        for ((loss, norm, moved), (loss16, norm16, moved16)) in exact.into_iter().zip(found) {
            assert!((loss - loss16).abs() <= 0.01 * loss, "{with_adapters}: {loss} {loss16}");
            assert!((norm - norm16).abs() <= 0.05 * norm, "{with_adapters}: {norm} {norm16}");
            // A bfloat16 near 0.1 moves by 4e-4 or not at all.
            assert!(moved16 > 0. && moved16 <= 1.5 * moved, "{with_adapters}: {moved} {moved16}");
            assert_ne!(loss, loss16, "it was not computed in other numbers");
        }
    }
}
