//! Stages of DDIM and DDPM, and walks of a real network, against diffusers.

use crate::golden::{self, Tensors, distance};
use candle_core::{DType, Device, Tensor};
use lethe::diffusion::denoiser::{Condition, NetworkDenoiser};
use lethe::diffusion::parameterization::Parameterization;
use lethe::diffusion::sampler::{Ddim, Ddpm, Sampler, Spacing, Stage, Variance, walk};
use lethe::diffusion::schedule::{NoiseSchedule, ScheduleSpec, Timestep};
use std::collections::BTreeSet;

/// Stages of every golden walk but the consecutive ones.
const STAGES: usize = 5;

/// One golden walk: its name, what the network's outputs mean, the rule, and the stages that diffusers makes of it.
struct Case {
    name: String,
    prediction: Parameterization,
    sampler: Box<dyn Sampler>,
    clip: bool,
    stages: Vec<Stage>,
}

const PREDICTIONS: [(&str, Parameterization); 3] = [
    ("epsilon", Parameterization::Epsilon),
    ("v_prediction", Parameterization::Velocity),
    ("sample", Parameterization::Clean),
];

fn linear() -> NoiseSchedule {
    NoiseSchedule::new(&ScheduleSpec::default()).unwrap()
}

/// diffusers' DDIM goes from t to t − T/n, whatever the list says, and from the last timestep to 1 or to the table's first.
fn ddim_stages(schedule: &NoiseSchedule, to_one: bool, offset: usize) -> Vec<Stage> {
    let total = schedule.timesteps();
    let last = if to_one { 1. } else { schedule.alpha_bar(Timestep(0)) };
    let next = |t: Timestep| {
        let before = t.0.checked_sub(total / STAGES);
        before.map_or(last, |t| schedule.alpha_bar(Timestep(t)))
    };
    let timesteps = Spacing::Leading.timesteps(total, STAGES, offset).into_iter();
    timesteps.map(|timestep| Stage { timestep, alpha_bar_next: next(timestep) }).collect()
}

/// diffusers' DDPM goes to the next timestep of the list, and from the last to 1.
fn ddpm_stages(schedule: &NoiseSchedule, timesteps: &[Timestep]) -> Vec<Stage> {
    let next = |i: usize| timesteps.get(i + 1).map_or(1., |&next| schedule.alpha_bar(next));
    let stages = timesteps.iter().enumerate();
    stages.map(|(i, &timestep)| Stage { timestep, alpha_bar_next: next(i) }).collect()
}

fn ddim_cases(schedule: &NoiseSchedule) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut push = |(name, prediction): (&str, _), eta: f64, clip, to_one, offset| {
        let clipping = if clip { "clip" } else { "free" };
        let last = if to_one { "one" } else { "first" };
        cases.push(Case {
            name: format!("ddim.{name}.eta{eta}.{clipping}.{last}.offset{offset}"),
            prediction,
            sampler: Box::new(Ddim { eta, clip }),
            clip,
            stages: ddim_stages(schedule, to_one, offset),
        });
    };
    for prediction in PREDICTIONS {
        for eta in [0., 0.5] {
            for clip in [true, false] {
                push(prediction, eta, clip, true, 0);
                push(prediction, eta, clip, false, 1);
            }
        }
    }
    push(PREDICTIONS[0], 0., false, true, 1);
    push(PREDICTIONS[0], 0., false, false, 0);
    cases
}

fn ddpm_cases(schedule: &NoiseSchedule) -> Vec<Case> {
    let spaced = Spacing::Leading.timesteps(schedule.timesteps(), STAGES, 0);
    let consecutive = [3, 2, 1, 0].map(Timestep);
    let mut cases = Vec::new();
    for (prediction_name, prediction) in PREDICTIONS {
        for (variance_name, variance) in
            [("fixed_small", Variance::Small), ("fixed_large", Variance::Large)]
        {
            for clip in [true, false] {
                let clipping = if clip { "clip" } else { "free" };
                let name = format!("ddpm.{prediction_name}.{variance_name}.{clipping}");
                let mut push = |name: String, timesteps: &[Timestep]| {
                    let sampler = Box::new(Ddpm { variance, clip });
                    let stages = ddpm_stages(schedule, timesteps);
                    cases.push(Case { name, prediction, sampler, clip, stages });
                };
                if prediction == Parameterization::Epsilon {
                    push(format!("{name}.consecutive"), &consecutive);
                }
                push(name, &spaced);
            }
        }
    }
    cases
}

/// Samples after every stage, and the predictions of x₀ within, [stage, ..] both.
fn run(schedule: &NoiseSchedule, case: &Case, golden: &mut Tensors, dtype: DType) -> [Tensor; 2] {
    let mut input = |name: &str| golden.get(name).to_dtype(dtype).unwrap();
    let (mut x, outputs, noises) = (input("x"), input("model_output"), input("noise"));
    let (mut samples, mut cleans) = (Vec::new(), Vec::new());
    for (k, &stage) in case.stages.iter().enumerate() {
        let (output, noise) = (outputs.get(k).unwrap(), noises.get(k).unwrap());
        let times = vec![stage.timestep; x.dim(0).unwrap()];
        let clean = case.prediction.clean(schedule, &x, &output, &times).unwrap();
        cleans.push(if case.clip { clean.clamp(-1., 1.).unwrap() } else { clean });
        let predicted = case.prediction.noise(schedule, &x, &output, &times).unwrap();
        x = case.sampler.step(schedule, stage, &x, &predicted, &noise).unwrap();
        samples.push(x.clone());
    }
    [samples, cleans].map(|stages| Tensor::stack(&stages, 0).unwrap())
}

#[test]
fn every_stage_equals_diffusers() {
    let (schedule, mut golden) = (linear(), Tensors::open("samplers.safetensors"));
    let cases: Vec<Case> = ddim_cases(&schedule).into_iter().chain(ddpm_cases(&schedule)).collect();
    let stored = golden.names();
    let walks: BTreeSet<&str> =
        stored.iter().filter_map(|name| name.strip_suffix(".samples")).collect();
    assert_eq!(walks, cases.iter().map(|case| case.name.as_str()).collect());
    assert_eq!(cases.len(), 42);
    for case in &cases {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6)] {
            let found = run(&schedule, case, &mut golden, dtype);
            for (found, what) in found.iter().zip(["samples", "clean"]) {
                let name = format!("{}.{what}", case.name);
                let off = distance(found, &golden.get(&name));
                assert!(off <= tolerance, "{name} in {dtype:?} is off by {off:e}");
            }
        }
    }
}

#[test]
fn walks_of_a_network_equal_diffusers() {
    let schedule = linear();
    let folder = golden::path("unet/ddpm-cifar10-like");
    let read = lethe::pixel::folder::read(&folder, DType::F32, &Device::Cpu).unwrap();
    let denoiser = NetworkDenoiser {
        network: &read.unet,
        store: &read.loaded.store,
        schedule: &schedule,
        parameterization: Parameterization::Epsilon,
    };
    let mut golden = Tensors::open("unet/ddpm-cifar10-like/sampling.safetensors");
    let timesteps = |golden: &mut Tensors, name: &str| -> Vec<Timestep> {
        golden.numbers(name).into_iter().map(|t| Timestep(t as usize)).collect()
    };
    let plain = Condition::Unconditional;

    let (times, x) = (timesteps(&mut golden, "ddim.timesteps"), golden.image("ddim.x", DType::F32));
    let unseen = |_| x.zeros_like();
    let found = walk(&Ddim { eta: 0., clip: true }, &denoiser, &times, &x, plain, unseen).unwrap();
    let off = distance(&found, &golden.image("ddim.out", DType::F64));
    assert!(off <= 1e-4, "DDIM is off by {off:e}");

    let (times, x) = (timesteps(&mut golden, "ddpm.timesteps"), golden.image("ddpm.x", DType::F32));
    let noises = golden.get("ddpm.noise").permute((0, 1, 3, 4, 2)).unwrap();
    let noise = |stage: usize| noises.get(stage)?.contiguous()?.to_dtype(DType::F32);
    let ancestral = Ddpm { variance: Variance::Small, clip: true };
    let found = walk(&ancestral, &denoiser, &times, &x, plain, noise).unwrap();
    let off = distance(&found, &golden.image("ddpm.out", DType::F64));
    assert!(off <= 2e-5, "DDPM is off by {off:e}");
}
