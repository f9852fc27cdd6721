//! Same seed, same bytes: in another process, and on any number of threads.

use crate::golden;
use candle_core::{DType, Device, Tensor};
use lethe::candlex::params::ParamStore;
use lethe::candlex::rng::{Seed, philox4x32};
use lethe::candlex::weights::serialize;
use lethe::continual::{Batch, ExampleId};
use lethe::data::{ImageSet, Shape};
use lethe::diffusion::objective::Weighting;
use lethe::diffusion::parameterization::Parameterization;
use lethe::diffusion::schedule::{NoiseSchedule, ScheduleSpec};
use lethe::hopfield::{HopfieldEnergy, Representation, temperature};
use lethe::pixel::{UNet2d, UNet2dConfig};
use lethe::train::{Job, Pixels, Precision, Process, Trainer, TrainingSpec};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a process that this law starts leaves its bytes, and the seed that it takes.
const FILE: &str = "LETHE_DETERMINISM_FILE";
const SEED: &str = "LETHE_DETERMINISM_SEED";

/// Wide enough that every kernel divides its work among threads.
fn config() -> UNet2dConfig {
    let names = |names: [&str; 2]| names.map(String::from).to_vec();
    UNet2dConfig {
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![32, 64],
        down_block_types: names(["DownBlock2D", "AttnDownBlock2D"]),
        up_block_types: names(["AttnUpBlock2D", "UpBlock2D"]),
        layers_per_block: 1,
        dropout: 0.1,
        ..Default::default()
    }
}

fn images() -> ImageSet {
    let shape = Shape { width: 16, height: 16, channels: 1 };
    let pixels = (0..24 * shape.bytes()).map(|i| (i * 37 % 251) as u8).collect();
    ImageSet::new(shape, vec!["a".into()], (0..24).collect(), vec![0; 24], pixels).unwrap()
}

/// Everything that two training steps leave: weights, their average, both moments, losses and gradient norms.
fn trained(seed: Seed) -> Vec<(String, Tensor)> {
    trained_on(&Device::Cpu, TrainingSpec { flip: true, ..TrainingSpec::default() }, seed)
}

/// Losses, gradient norms and the validation loss of two steps, one of them a number.
pub(crate) fn figures(device: &Device, precision: Precision) -> Vec<(String, Tensor)> {
    let spec = TrainingSpec { precision, ..TrainingSpec::default() };
    let mut all = trained_on(device, spec, Seed(5));
    let figures = all.pop().unwrap().1.to_vec1::<f64>().unwrap();
    let one = |(k, figure)| (format!("figure {k}"), Tensor::new(&[figure], &Device::Cpu).unwrap());
    figures.into_iter().enumerate().map(one).collect()
}

/// Standard normal patterns.
pub(crate) fn patterns(ids: &[u64]) -> Tensor {
    Seed(5).stream("patterns").normal(0, ids, &[24], &Device::Cpu).unwrap()
}

fn trained_on(device: &Device, spec: TrainingSpec, seed: Seed) -> Vec<(String, Tensor)> {
    let (network, declarations) = UNet2d::new(&config()).unwrap();
    let store = ParamStore::initialised(&declarations, seed, DType::F32, device).unwrap();
    let process = Process {
        schedule: NoiseSchedule::new(&ScheduleSpec::default()).unwrap(),
        parameterization: Parameterization::Epsilon,
        weighting: Weighting::MinSnr(5.),
    };
    let spec = TrainingSpec { warm_up: 1, ..spec };
    let images = images();
    let inputs = Pixels { images: &images, is_conditional: false, device };
    let job =
        Job { network: &network, process: &process, inputs: &inputs, spec: &spec, seed, task: 1 };
    let mut trainer = Trainer::start(job, store).unwrap();
    let mut figures = Vec::new();
    for step in 0..2 {
        let new = (0..10).map(|i| ExampleId(step * 10 + i)).collect();
        let report = trainer.step(&Batch { new, replayed: vec![ExampleId(20); 2] }).unwrap();
        figures.extend([report.loss, report.gradient_norm]);
    }
    figures.push(trainer.validate(&[21, 22, 23]).unwrap().unwrap());
    let mut all = trainer.optimizer().named(trainer.weights()).unwrap();
    for (what, store) in [("weights", trainer.weights()), ("average", trainer.average())] {
        all.extend(store.iter().map(|(name, tensor)| (format!("{what}.{name}"), tensor.clone())));
    }
    all.push(("figures".into(), Tensor::new(figures, &Device::Cpu).unwrap()));
    all
}

/// What each block computes a second time is what it computed first, its dropout's masks as well; but sums of gradients may be
/// taken in another order.
#[test]
fn recomputing_is_the_same_step() {
    let figures = |recompute| {
        let spec = TrainingSpec { recompute, ..TrainingSpec::default() };
        let (_, figures) = trained_on(&Device::Cpu, spec, Seed(5)).pop().unwrap();
        figures.to_vec1::<f64>().unwrap()
    };
    for (found, expected) in figures(true).into_iter().zip(figures(false)) {
        assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{found} {expected}");
    }
}

/// Energies of more patterns than one block holds, and the temperature that they choose.
fn energies(seed: Seed) -> Vec<(String, Tensor)> {
    let ids: Vec<u64> = (0..1500).collect();
    let x = seed.stream("patterns").normal(0, &ids, &[24], &Device::Cpu).unwrap();
    let stored = HopfieldEnergy::new(Representation::Distance, &x, &ids).unwrap();
    let beta = temperature::at_perplexity(&stored, 10.).unwrap();
    let energies = stored.leave_one_out(&x, &ids, beta).unwrap();
    let tensor = |values: Vec<f64>| Tensor::new(values, &Device::Cpu).unwrap();
    vec![("beta".into(), tensor(vec![beta])), ("energies".into(), tensor(energies))]
}

fn bytes(seed: Seed) -> Vec<u8> {
    let all: Vec<_> = trained(seed).into_iter().chain(energies(seed)).collect();
    let named: Vec<(&str, Tensor)> =
        all.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    serialize(&named, None).unwrap()
}

/// The bytes that a fresh process computes.
fn in_a_process(threads: usize, seed: u64) -> Vec<u8> {
    let file: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("determinism-{}-{threads}-{seed}", std::process::id()));
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "determinism::the_seed_alone_decides_every_byte"])
        .env("RAYON_NUM_THREADS", threads.to_string())
        .env(FILE, &file)
        .env(SEED, seed.to_string())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    bytes
}

/// Runs itself again in other processes, where this law's variables tell it to leave its bytes and go.
#[test]
fn the_seed_alone_decides_every_byte() {
    if let (Some(file), Ok(seed)) = (std::env::var_os(FILE), std::env::var(SEED)) {
        std::fs::write(file, bytes(Seed(seed.parse().unwrap()))).unwrap();
        return;
    }
    let here = bytes(Seed(1));
    assert!(here == in_a_process(1, 1), "one thread gives other bytes");
    assert!(here == in_a_process(3, 1), "three threads give other bytes");
    assert!(here == bytes(Seed(1)), "a second time gives other bytes");
    assert!(here != in_a_process(3, 2), "another seed gives the same bytes");
}

#[derive(Deserialize)]
struct Golden {
    published: Vec<Published>,
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Published {
    rounds: usize,
    counter: [u32; 4],
    key: [u32; 2],
    answer: [u32; 4],
}

#[derive(Deserialize)]
struct Stream {
    key: [u32; 2],
    counters: Vec<[u32; 4]>,
    answers: Vec<[u32; 4]>,
}

#[test]
fn philox_gives_its_published_and_golden_words() {
    let Golden { published, streams } = golden::json("philox.json");
    let ten_rounds: Vec<Published> =
        published.into_iter().filter(|case| case.rounds == 10).collect();
    assert_eq!((ten_rounds.len(), streams.len()), (3, 8));
    for Published { counter, key, answer, .. } in ten_rounds {
        assert_eq!(philox4x32(counter, key), answer);
    }
    for Stream { key, counters, answers } in streams {
        assert_eq!(counters.len(), answers.len());
        for (counter, answer) in counters.into_iter().zip(answers) {
            assert_eq!(philox4x32(counter, key), answer, "{counter:?} under {key:?}");
        }
    }
}
