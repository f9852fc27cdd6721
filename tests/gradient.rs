//! Every trainable name receives the gradient that a difference quotient finds; and a gradient that is cut is found.

use crate::golden::{self, largest, numbers};
use candle_core::{D, DType, Device, Result, Tensor};
use lethe::candlex::params::{Declarations, Init, ParamStore};
use lethe::candlex::rng::{Seed, StepKey};
use lethe::candlex::tape::{Gradients, Tape, Value};
use lethe::continual::{Batch, ExampleId};
use lethe::data::{ImageSet, Shape};
use lethe::diffusion::denoiser::{Condition, Network, Pass};
use lethe::diffusion::objective::{Weighting, denoising_loss};
use lethe::diffusion::parameterization::Parameterization;
use lethe::diffusion::schedule::{NoiseSchedule, ScheduleSpec};
use lethe::train::{Job, Pixels, Process, TrainError, Trainer, TrainingSpec};

/// mean((output − noise)²) of one batch as a function of a network's parameters.
struct Objective<'a, N> {
    network: &'a N,
    declarations: &'a Declarations,
    /// Where the gradient is taken, [n_elements].
    parameters: &'a Tensor,
    x: Tensor,
    noise: Tensor,
    timesteps: &'a [f64],
    pass: Pass<'a>,
}

/// How differences are taken: in half the digits that the type has, and what rounding then leaves.
struct Quotient {
    step: f64,
    /// Relative to the largest gradient of the tensor.
    relative: f64,
    absolute: f64,
}

impl Quotient {
    fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self { step: 1e-5, relative: 1e-6, absolute: 1e-9 },
            _ => Self { step: 1e-2, relative: 1e-2, absolute: 1e-4 },
        }
    }
}

impl<N: Network> Objective<'_, N> {
    fn output(&self, tape: &Tape) -> Result<Value> {
        self.network.forward(tape, &Value::constant(self.x.clone()), self.timesteps, &self.pass)
    }

    fn loss(&self, parameters: Tensor) -> f64 {
        let store = ParamStore::from_flat(self.declarations, parameters).unwrap();
        let output = self.output(&Tape::inference(&store)).unwrap();
        self.compare(output.tensor()).0
    }

    fn compare(&self, output: &Tensor) -> (f64, Tensor) {
        let loss = denoising_loss(output, &self.noise, &vec![1.; self.timesteps.len()]).unwrap();
        (loss.mean, loss.gradient)
    }

    fn gradients(&self, store: &ParamStore) -> Gradients {
        let tape = Tape::recording(store);
        let output = self.output(&tape).unwrap();
        let (_, gradient) = self.compare(output.tensor());
        tape.backward(&output, gradient).unwrap()
    }

    /// The slope of the loss along `direction` [n_elements], by a central difference.
    fn slope(&self, direction: &Tensor, step: f64) -> f64 {
        let at = |step: f64| self.loss((self.parameters + (direction * step).unwrap()).unwrap());
        (at(step) - at(-step)) / (2. * step)
    }

    /// Compares two elements of every parameter, and one direction in which all of them move: "name: what is wrong".
    fn faults(&self) -> Vec<String> {
        let store = ParamStore::from_flat(self.declarations, self.parameters.clone()).unwrap();
        let gradients = self.gradients(&store);
        let (mut faults, mut flat) = (Vec::new(), Vec::new());
        for (index, (name, tensor)) in store.iter().enumerate() {
            let found = gradients.parameter(index).map(numbers);
            let is_right = |found: &Vec<f64>| self.is_right(index as u64, flat.len(), found);
            match &found {
                None => faults.push(format!("{name}: no gradient")),
                Some(found) if !is_right(found) => faults.push(format!("{name}: another gradient")),
                Some(_) => {}
            }
            flat.extend(found.unwrap_or_else(|| vec![0.; tensor.elem_count()]));
        }
        if !self.is_right_along_all(&flat) {
            faults.push("all parameters: another slope".into());
        }
        faults
    }

    /// Whether two elements of a parameter's gradient are slopes; its first is element `offset` of all.
    fn is_right(&self, index: u64, offset: usize, found: &[f64]) -> bool {
        let quotient = Quotient::of(self.parameters.dtype());
        let highest = largest(found.iter().map(|g| g.abs()));
        let mut draws = Seed(1).stream("elements").at(0, index);
        let elements = (0..2).map(|_| draws.below(found.len() as u32) as usize);
        let errors = elements.map(|element| {
            let slope = self.slope(&self.unit(offset + element), quotient.step);
            (slope - found[element]).abs()
        });
        largest(errors) <= quotient.relative * highest + quotient.absolute
    }

    /// Whether the slope is right where all parameters move at once.
    fn is_right_along_all(&self, flat: &[f64]) -> bool {
        let quotient = Quotient::of(self.parameters.dtype());
        let direction = self.direction();
        let pairs = flat.iter().zip(numbers(&direction));
        let expected: f64 = pairs.map(|(gradient, sign)| gradient * sign).sum();
        let size: f64 = flat.iter().map(|gradient| gradient.abs()).sum();
        // A shorter step: the loss bends more along so many elements.
        let slope = self.slope(&direction, 0.1 * quotient.step);
        (slope - expected).abs() <= quotient.relative * size + 10. * quotient.absolute
    }

    /// The `element`-th unit vector.
    fn unit(&self, element: usize) -> Tensor {
        let mut values = vec![0f64; self.parameters.elem_count()];
        values[element] = 1.;
        self.like_parameters(values)
    }

    /// ±1 for every element.
    fn direction(&self) -> Tensor {
        let mut draws = Seed(1).stream("direction").at(0, 0);
        let n = self.parameters.elem_count();
        self.like_parameters((0..n).map(|_| 1. - 2. * f64::from(draws.bits32() & 1)).collect())
    }

    fn like_parameters(&self, values: Vec<f64>) -> Tensor {
        let n = values.len();
        let tensor = Tensor::from_vec(values, n, &Device::Cpu).unwrap();
        tensor.to_dtype(self.parameters.dtype()).unwrap()
    }
}

fn normal(name: &str, shape: &[usize], dtype: DType) -> Tensor {
    let ids: Vec<u64> = (0..shape[0] as u64).collect();
    let noise = Seed(1).stream(name).normal(0, &ids, &shape[1..], &Device::Cpu).unwrap();
    noise.to_dtype(dtype).unwrap()
}

/// Faults of the golden U-Net `name`, with dropout where it has some.
fn faults_of(name: &str) -> Vec<String> {
    let folder = golden::path(&format!("unet/{name}"));
    let read = lethe::pixel::folder::read(&folder, DType::F64, &Device::Cpu).unwrap();
    let side = 2 * read.config.divisor();
    let shape = |channels| [2, side, side, channels];
    let classes = [3, 7];
    let condition = match read.config.num_class_embeds {
        Some(_) => Condition::Classes(&classes),
        None => Condition::Unconditional,
    };
    let key = StepKey { seed: Seed(1), task: 1, step: 0, examples: &[10, 11] };
    let objective = Objective {
        network: &read.unet,
        declarations: &read.declarations,
        parameters: read.loaded.store.flat(),
        x: normal("x", &shape(read.config.in_channels), DType::F64),
        noise: normal("noise", &shape(read.config.out_channels), DType::F64),
        timesteps: &[3., 700.],
        pass: Pass { condition, dropout: Some(key), recomputes: false },
    };
    objective.faults()
}

const NONE: [&str; 0] = [];

#[test]
fn the_default_network_receives_every_gradient() {
    assert_eq!(faults_of("defaults-like"), NONE);
}

#[test]
fn scaled_and_shifted_blocks_receive_every_gradient() {
    assert_eq!(faults_of("scale-shift"), NONE);
}

#[test]
fn class_embeddings_and_dropout_receive_every_gradient() {
    assert_eq!(faults_of("class-conditional"), NONE);
}

#[test]
fn blocks_that_resample_receive_every_gradient() {
    assert_eq!(faults_of("resnet-sampling"), NONE);
}

/// out.bias + norm(x · in.weight), channel by channel, the norm being one of candle's.
struct Stock {
    norm: fn(&[Tensor]) -> Result<Tensor>,
}

/// What candle_nn offers for training: correct and slow.
fn slow_layer_norm(t: &[Tensor]) -> Result<Tensor> {
    candle_nn::ops::layer_norm_slow(&t[0], &t[1], &t[2], 1e-5)
}

#[allow(clippy::disallowed_methods, reason = "the fault that this law must find")]
fn fused_layer_norm(t: &[Tensor]) -> Result<Tensor> {
    candle_nn::ops::layer_norm(&t[0], &t[1], &t[2], 1e-5)
}

fn slow_softmax(t: &[Tensor]) -> Result<Tensor> {
    candle_nn::ops::softmax(&t[0], D::Minus1)?.broadcast_mul(&t[1])?.broadcast_add(&t[2])
}

#[allow(clippy::disallowed_methods, reason = "the fault that this law must find")]
fn fused_softmax(t: &[Tensor]) -> Result<Tensor> {
    candle_nn::ops::softmax_last_dim(&t[0])?.broadcast_mul(&t[1])?.broadcast_add(&t[2])
}

const NAMES: [&str; 4] = ["in.weight", "norm.weight", "norm.bias", "out.bias"];

impl Network for Stock {
    fn forward(&self, tape: &Tape, x: &Value, _: &[f64], _: &Pass) -> Result<Value> {
        let [weight, scale, shift, bias] = [0, 1, 2, 3].map(|index| tape.parameter(index));
        let hidden = tape.composed(&[x, &weight], |t| t[0].broadcast_mul(&t[1])?.contiguous())?;
        let normed = tape.composed(&[&hidden, &scale, &shift], self.norm)?;
        tape.composed(&[&normed, &bias], |t| t[0].broadcast_add(&t[1]))
    }
}

fn stock_declarations() -> Declarations {
    let mut declarations = Declarations::default();
    for name in NAMES {
        declarations.declare(name, &[3], Init::Normal { deviation: 1. });
    }
    declarations
}

fn stock_store(dtype: DType) -> ParamStore {
    ParamStore::initialised(&stock_declarations(), Seed(2), dtype, &Device::Cpu).unwrap()
}

/// Faults of the network that `norm` makes.
fn stock_faults(norm: fn(&[Tensor]) -> Result<Tensor>, dtype: DType) -> Vec<String> {
    let store = stock_store(dtype);
    let objective = Objective {
        network: &Stock { norm },
        declarations: &stock_declarations(),
        parameters: store.flat(),
        x: normal("x", &[2, 2, 2, 3], dtype),
        noise: normal("noise", &[2, 2, 2, 3], dtype),
        timesteps: &[0., 0.],
        pass: Pass::plain(Condition::Unconditional),
    };
    objective.faults()
}

/// The control of the laws above: they find a gradient that candle cuts, and nothing where it does not.
#[test]
fn a_gradient_that_is_cut_is_found() {
    assert_eq!(stock_faults(slow_layer_norm, DType::F32), NONE);
    let cut = ["in.weight: no gradient", "norm.weight: no gradient", "norm.bias: no gradient"];
    let slope = ["all parameters: another slope"];
    assert_eq!(stock_faults(fused_layer_norm, DType::F32), [&cut[..], &slope].concat());
    assert_eq!(stock_faults(slow_softmax, DType::F64), NONE);
    // Behind the cut softmax, the product and the sum still reach their operands.
    assert_eq!(stock_faults(fused_softmax, DType::F64), [&cut[..1], &slope].concat());
}

#[test]
fn training_refuses_what_receives_no_gradient() {
    let pixels: Vec<u8> = (0..4 * 2 * 2 * 3u32).map(|i| (i * 37 % 251) as u8).collect();
    let shape = Shape { width: 2, height: 2, channels: 3 };
    let images =
        ImageSet::new(shape, vec!["a".into()], vec![0, 1, 2, 3], vec![0; 4], pixels).unwrap();
    let process = Process {
        schedule: NoiseSchedule::new(&ScheduleSpec::default()).unwrap(),
        parameterization: Parameterization::Epsilon,
        weighting: Weighting::Uniform,
    };
    let step = |norm, store| {
        let inputs = Pixels { images: &images, is_conditional: false, device: &Device::Cpu };
        let job = Job {
            network: &Stock { norm },
            process: &process,
            inputs: &inputs,
            spec: &TrainingSpec::default(),
            seed: Seed(1),
            task: 1,
        };
        let batch = Batch { new: (0..4).map(ExampleId).collect(), replayed: Vec::new() };
        Trainer::start(job, store).unwrap().step(&batch)
    };
    step(slow_layer_norm, stock_store(DType::F32)).unwrap();
    match step(fused_layer_norm, stock_store(DType::F32)).unwrap_err() {
        TrainError::NoGradient { expected: 4, names } => assert_eq!(names, NAMES[..3]),
        other => panic!("{other}"),
    }
    // What is frozen needs none.
    let mut frozen = stock_store(DType::F32);
    frozen.freeze(|name| name != "out.bias");
    step(fused_layer_norm, frozen).unwrap();
}
