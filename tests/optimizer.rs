//! AdamW with clipping, and moving averages, against torch.

use crate::golden::{self, Tensors, distance, relative};
use candle_core::{DType, Device, Tensor};
use lethe::candlex::params::{Declarations, Init, ParamStore};
use lethe::candlex::tape::{Tape, Value};
use lethe::diffusion::denoiser::{Condition, Network, Pass};
use lethe::diffusion::objective::denoising_loss;
use lethe::kernels::adamw::AdamW;
use lethe::kernels::ema::{lerp, norm};
use lethe::pixel::folder::Pretrained;
use lethe::train::Optimizer;

/// The tensors of optimizer.safetensors, in the order of their declaration here.
const TENSORS: [&str; 3] = ["matrix", "vector", "single"];

/// The three golden tensors called `prefix.<tensor>`, one after another; of step `step` where they have steps.
fn flat(golden: &mut Tensors, prefix: &str, step: Option<usize>, dtype: DType) -> Tensor {
    let parts = TENSORS.map(|name| {
        let tensor = golden.get(&format!("{prefix}.{name}"));
        let tensor = step.map_or(tensor.clone(), |step| tensor.get(step).unwrap());
        tensor.flatten_all().unwrap().to_dtype(dtype).unwrap()
    });
    Tensor::cat(&parts, 0).unwrap()
}

fn store(golden: &mut Tensors, dtype: DType) -> ParamStore {
    let mut declarations = Declarations::default();
    for name in TENSORS {
        let shape = golden.get(&format!("initial.{name}")).dims().to_vec();
        declarations.declare(name, &shape, Init::Constant(0.));
    }
    ParamStore::from_flat(&declarations, flat(golden, "initial", None, dtype)).unwrap()
}

#[test]
fn five_steps_equal_torch() {
    let mut golden = Tensors::open("optimizer.safetensors");
    let rates = golden.numbers("learning_rates");
    let betas = golden.numbers("betas");
    let (clip, kept) = (golden.number("clip"), golden.number("ema.decay"));
    let half_life = golden.number("ema.half_life_images");
    assert_eq!(kept, 0.5f64.powf(golden.number("ema.batch_images") / half_life));
    for run in ["wd0.01", "wd0"] {
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-6)] {
            let store = store(&mut golden, dtype);
            let (average, mut optimizer) =
                (store.duplicate().unwrap(), Optimizer::new(&store).unwrap());
            let mut norms = Vec::new();
            for (step, &learning_rate) in rates.iter().enumerate() {
                let law = AdamW {
                    learning_rate,
                    first_decay: betas[0],
                    second_decay: betas[1],
                    epsilon: golden.number("eps"),
                    weight_decay: golden.number(&format!("{run}.weight_decay")),
                };
                let gradients = flat(&mut golden, "gradient", Some(step), dtype);
                norms.push(norm(&gradients).unwrap());
                optimizer.step(&law, &store, &gradients, norms[step], clip).unwrap();
                lerp(average.flat(), store.flat(), 1. - kept, 1.).unwrap();

                let moments = optimizer.named(&store).unwrap();
                let moments =
                    moments.iter().map(|(name, tensor)| (name.replace('.', "_moment."), tensor));
                let stores = [("parameter", &store), ("ema", &average)].into_iter();
                let parameters = stores.flat_map(|(what, store)| {
                    store.iter().map(move |(name, tensor)| (format!("{what}.{name}"), tensor))
                });
                for (name, found) in moments.chain(parameters) {
                    let name = format!("{run}.{name}");
                    let off = distance(found, &golden.get(&name).get(step).unwrap());
                    assert!(
                        off <= tolerance,
                        "{name} after step {step} in {dtype:?} is off by {off:e}"
                    );
                }
            }
            let off = relative(&norms, &golden.numbers(&format!("{run}.gradient_norms")));
            assert!(off <= tolerance, "{run}: norms in {dtype:?} are off by {off:e}");
        }
    }
}

/// Loss, gradient of every parameter one after another, and its norm.
fn differentiate(
    read: &Pretrained,
    x: &Tensor,
    noise: &Tensor,
    timesteps: &[f64],
) -> (f64, Tensor, f64) {
    let store = &read.loaded.store;
    let tape = Tape::recording(store);
    let pass = Pass::plain(Condition::Unconditional);
    let output = read.unet.forward(&tape, &Value::constant(x.clone()), timesteps, &pass).unwrap();
    let loss = denoising_loss(output.tensor(), noise, &vec![1.; timesteps.len()]).unwrap();
    let gradients = tape.backward(&output, loss.gradient).unwrap();
    let parts: Vec<Tensor> = (0..store.len())
        .map(|index| gradients.parameter(index).unwrap().flatten_all().unwrap())
        .collect();
    let flat = Tensor::cat(&parts, 0).unwrap();
    let length = norm(&flat).unwrap();
    (loss.mean, flat, length)
}

/// Largest and median distance of a store's parameters from the golden ones; key biases have no gradient but rounding.
fn spread(store: &ParamStore, golden: &mut Tensors, prefix: &str) -> (f64, f64) {
    let judged = store.iter().filter(|(name, _)| !name.ends_with("to_k.bias"));
    let mut all: Vec<f64> = judged
        .map(|(name, found)| distance(found, &golden.get(&format!("{prefix}.{name}"))))
        .collect();
    all.sort_by(f64::total_cmp);
    (all[all.len() - 1], all[all.len() / 2])
}

#[test]
fn three_steps_of_a_network_equal_torch() {
    let folder = golden::path("unet/defaults-like");
    let read = lethe::pixel::folder::read(&folder, DType::F32, &Device::Cpu).unwrap();
    let mut golden = Tensors::open("unet/defaults-like/training.safetensors");
    let store = &read.loaded.store;
    let prefixed = golden.names().iter().filter(|name| name.starts_with("unet.after3.")).count();
    assert_eq!(prefixed, store.len());
    let (average, mut optimizer) = (store.duplicate().unwrap(), Optimizer::new(store).unwrap());
    let betas = golden.numbers("adamw.betas");
    let law = AdamW {
        learning_rate: golden.number("adamw.learning_rate"),
        first_decay: betas[0],
        second_decay: betas[1],
        epsilon: golden.number("adamw.eps"),
        weight_decay: golden.number("adamw.weight_decay"),
    };
    let (clip, kept) = (golden.number("adamw.clip"), golden.number("ema.decay"));
    let (x, noise) = (golden.image("unet.x", DType::F32), golden.image("unet.noise", DType::F32));
    let timesteps = golden.numbers("unet.t");
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (loss, gradients, norm) = differentiate(&read, &x, &noise, &timesteps);
        losses.push(loss);
        norms.push(norm);
        optimizer.step(&law, store, &gradients, norm, clip).unwrap();
        lerp(average.flat(), store.flat(), 1. - kept, 1.).unwrap();
    }
    let off = relative(&losses, &golden.numbers("unet.losses"));
    assert!(off <= 1e-6, "losses are off by {off:e}");
    let off = relative(&norms, &golden.numbers("unet.gradient_norms"));
    assert!(off <= 1e-6, "gradient norms are off by {off:e}");
    let (worst, median) = spread(store, &mut golden, "unet.after3");
    assert!(worst <= 4e-4 && median <= 6e-7, "weights are off by {worst:e}, the median {median:e}");
    let (worst, median) = spread(&average, &mut golden, "unet.ema3");
    assert!(
        worst <= 1e-4 && median <= 3e-7,
        "the average is off by {worst:e}, the median {median:e}"
    );
    let biases = store.iter().filter(|(name, _)| name.ends_with("to_k.bias"));
    let start = lethe::pixel::folder::read(&folder, DType::F32, &Device::Cpu).unwrap().loaded.store;
    let start: std::collections::BTreeMap<_, _> =
        start.iter().map(|(n, t)| (n.to_string(), t.clone())).collect();
    for (name, found) in biases {
        let moved = golden::absolute(found, &start[name]);
        assert!(moved <= 4. * law.learning_rate, "{name} moved by {moved:e}");
    }
}
