//! A residual multilayer perceptron that denoises vectors.
//!
//! Law, in y = x_t/α_t and v = 1/SNR(t), with s the data's deviation in each dimension:
//! x̂₀ = s²/(v + s²)·y + √v·s/√(v + s²)·F(y/√(v + s²), s·y/(v + s²), log v).
//! Source: Karras et al. 2022, table 1: input, target and noise of F have unit variance at every level, and F alone is
//! learned. Unlike there F is told y in a second scale, in which the logits y·ξ/v of stored patterns are linear.
//!
//! F: in, then `blocks` times h ← h + W₂·silu((1 + a)·W₁h + b) with a, b linear in the embedded level, then out.

use crate::VectorError;
use candle_core::{DType, Device, Result, Tensor, bail};
use lethe_candlex::params::{Declarations, ParamStore};
use lethe_candlex::rng::Seed;
use lethe_candlex::tape::{Tape, Value};
use lethe_diffusion::denoiser::{Condition, Network, NetworkDenoiser, Pass};
use lethe_diffusion::parameterization::Parameterization;
use lethe_diffusion::schedule::{NoiseSchedule, Timestep};
use lethe_layers::activation::Activation;
use lethe_layers::conv::Linear;
use lethe_layers::operation;
use lethe_layers::time_embedding::{Sinusoids, TimestepEmbedding};
use serde::{Deserialize, Serialize};

/// log v is multiplied by this before its sinusoids: the fastest turns once in a factor of 5 of v.
const LEVEL_SCALE: f64 = 4.;

/// Sizes of a perceptron.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptronSpec {
    /// d.
    pub dimensions: usize,
    /// Hidden units.
    pub width: usize,
    /// Residual blocks.
    pub blocks: usize,
    /// Channels of the embedded level.
    pub level_channels: usize,
    /// s: the data's standard deviation in each dimension.
    pub data_deviation: f64,
}

/// The structure; the numbers live in a [`ParamStore`].
#[derive(Clone, Debug)]
pub struct Perceptron {
    spec: PerceptronSpec,
    schedule: NoiseSchedule,
    declarations: Declarations,
    sinusoids: Sinusoids,
    level: TimestepEmbedding,
    input: Linear,
    blocks: Vec<Block>,
    output: Linear,
}

#[derive(Clone, Debug)]
struct Block {
    scale: Linear,
    shift: Linear,
    first: Linear,
    second: Linear,
}

/// Factors of one level.
struct Preconditioning {
    /// Of x in the first input: 1/(α·√(v + s²)).
    unit: f64,
    /// Of x in the second input: s/(α·(v + s²)).
    logit: f64,
    /// Of x in x̂₀: s²/(α·(v + s²)).
    skip: f64,
    /// Of F in x̂₀: √v·s/√(v + s²).
    output: f64,
}

impl Perceptron {
    /// The network of `spec` at the levels of `schedule`.
    ///
    /// # Errors
    /// [`VectorError::Spec`] for sizes that make no network.
    pub fn new(
        spec: &PerceptronSpec,
        schedule: &NoiseSchedule,
    ) -> std::result::Result<Self, VectorError> {
        let PerceptronSpec { dimensions, width, blocks, level_channels, data_deviation } = *spec;
        for (field, size) in [("dimensions", dimensions), ("width", width)] {
            if size == 0 {
                return Err(VectorError::spec(field, "at least 1", size));
            }
        }
        if level_channels < 4 {
            return Err(VectorError::spec("level_channels", "at least 4", level_channels));
        }
        if !(data_deviation > 0. && data_deviation.is_finite()) {
            return Err(VectorError::spec("data_deviation", "a positive number", data_deviation));
        }
        let mut declared = Declarations::default();
        let level =
            TimestepEmbedding::declare(declared.at("level"), level_channels, level_channels);
        let input = Linear::declare(declared.at("input"), 2 * dimensions, width);
        let block = |index| {
            let mut scope = declared.at("blocks");
            let mut scope = scope.at(index);
            Block {
                scale: Linear::declare(scope.at("scale"), level_channels, width),
                shift: Linear::declare(scope.at("shift"), level_channels, width),
                first: Linear::declare(scope.at("first"), width, width),
                second: Linear::declare(scope.at("second"), width, width),
            }
        };
        let blocks = (0..blocks).map(block).collect();
        let output = Linear::declare(declared.at("output"), width, dimensions);
        Ok(Self {
            spec: spec.clone(),
            schedule: schedule.clone(),
            declarations: declared,
            sinusoids: Sinusoids {
                channels: level_channels,
                flip_sin_to_cos: false,
                freq_shift: 0.,
            },
            level,
            input,
            blocks,
            output,
        })
    }

    /// Its sizes.
    pub fn spec(&self) -> &PerceptronSpec {
        &self.spec
    }

    /// Its levels.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// Its parameters.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// Fresh numbers, f32.
    ///
    /// # Errors
    /// Those of candle.
    pub fn initialised(&self, seed: Seed) -> Result<ParamStore> {
        ParamStore::initialised(&self.declarations, seed, DType::F32, &Device::Cpu)
    }

    /// The network with its numbers, seen as a denoiser.
    pub fn denoiser<'a>(&'a self, store: &'a ParamStore) -> NetworkDenoiser<'a, Self> {
        NetworkDenoiser {
            network: self,
            store,
            schedule: &self.schedule,
            parameterization: Parameterization::Clean,
        }
    }

    /// (v + s²)/(v·s²): the weight of ‖x̂₀ − x₀‖² under which F's error has the same worth at every level.
    pub fn loss_weight(&self, t: Timestep) -> f64 {
        self.preconditioning(t).output.powi(-2)
    }

    fn preconditioning(&self, t: Timestep) -> Preconditioning {
        let (alpha, s) = (self.schedule.alpha(t), self.spec.data_deviation);
        let v = 1. / self.schedule.snr(t);
        let total = v + s * s;
        Preconditioning {
            unit: 1. / (alpha * total.sqrt()),
            logit: s / (alpha * total),
            skip: s * s / (alpha * total),
            output: s * (v / total).sqrt(),
        }
    }

    /// Timesteps that the schedule has.
    fn times(&self, timesteps: &[f64]) -> Result<Vec<Timestep>> {
        let last = self.schedule.timesteps() - 1;
        let time = |&t: &f64| {
            if !(t >= 0. && t <= last as f64 && t.fract() == 0.) {
                bail!("perceptron: expected timesteps 0 to {last}, got {t}");
            }
            Ok(Timestep(t as usize))
        };
        timesteps.iter().map(time).collect()
    }

    /// [batch, level_channels], its activation taken.
    fn embed(&self, tape: &Tape, x: &Tensor, times: &[Timestep]) -> Result<Value> {
        let heights: Vec<f64> =
            times.iter().map(|&t| -LEVEL_SCALE * self.schedule.snr(t).ln()).collect();
        let sinusoids = self.sinusoids.embed(&heights, x.dtype(), x.device())?;
        let level = self.level.forward(tape, &Value::constant(sinusoids))?;
        Activation::Silu.forward(tape, &level)
    }
}

impl Block {
    fn forward(&self, tape: &Tape, h: &Value, level: &Value) -> Result<Value> {
        let (scale, shift) = (self.scale.forward(tape, level)?, self.shift.forward(tape, level)?);
        let hidden = self.first.forward(tape, h)?;
        let hidden = operation::modulate(tape, &hidden, &scale, &shift)?;
        let hidden = Activation::Silu.forward(tape, &hidden)?;
        operation::add(tape, h, &self.second.forward(tape, &hidden)?)
    }
}

impl Network for Perceptron {
    /// [batch, d] → x̂₀ [batch, d].
    fn forward(&self, tape: &Tape, x: &Value, timesteps: &[f64], pass: &Pass) -> Result<Value> {
        let (batch, d) = x.tensor().dims2()?;
        if d != self.spec.dimensions || timesteps.len() != batch {
            bail!(
                "perceptron: expected [{}, {}], a row for each timestep, got {:?}",
                timesteps.len(),
                self.spec.dimensions,
                x.tensor().dims()
            );
        }
        if !matches!(pass.condition, Condition::Unconditional) {
            bail!("perceptron: this network takes no classes");
        }
        let times = self.times(timesteps)?;
        let factors: Vec<Preconditioning> =
            times.iter().map(|&t| self.preconditioning(t)).collect();
        let scaled = |value: &Value, factor: fn(&Preconditioning) -> f64| {
            operation::scale_rows(tape, value, &factors.iter().map(factor).collect::<Vec<_>>())
        };
        let level = self.embed(tape, x.tensor(), &times)?;
        let (unit, logit) = (scaled(x, |f| f.unit)?, scaled(x, |f| f.logit)?);
        let mut h = self.input.forward(tape, &operation::join(tape, &unit, &logit)?)?;
        for block in &self.blocks {
            h = block.forward(tape, &h, &level)?;
        }
        let learned = self.output.forward(tape, &Activation::Silu.forward(tape, &h)?)?;
        operation::add(tape, &scaled(x, |f| f.skip)?, &scaled(&learned, |f| f.output)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_diffusion::denoiser::Denoiser;
    use lethe_diffusion::objective::denoising_loss;
    use lethe_diffusion::schedule::ScheduleSpec;

    const TIMES: [f64; 4] = [0., 100., 400., 999.];

    fn network() -> Perceptron {
        let spec = PerceptronSpec {
            dimensions: 3,
            width: 5,
            blocks: 2,
            level_channels: 6,
            data_deviation: 0.4,
        };
        Perceptron::new(&spec, &NoiseSchedule::new(&ScheduleSpec::default()).unwrap()).unwrap()
    }

    fn doubled(network: &Perceptron) -> ParamStore {
        ParamStore::initialised(network.declarations(), Seed(2), DType::F64, &Device::Cpu).unwrap()
    }

    fn normal(name: &str, shape: &[usize]) -> Tensor {
        let ids: Vec<u64> = (0..shape[0] as u64).collect();
        let x = Seed(4).stream(name).normal(0, &ids, &shape[1..], &Device::Cpu).unwrap();
        x.to_dtype(DType::F64).unwrap()
    }

    /// The loss at x with the network's gradients in its parameters and in x.
    fn loss(network: &Perceptron, store: &ParamStore, x: &Tensor) -> (f64, Vec<Tensor>, Tensor) {
        let tape = Tape::recording(store);
        let leaf = tape.leaf(x.clone());
        let pass = Pass::plain(Condition::Unconditional);
        let output = network.forward(&tape, &leaf, &TIMES, &pass).unwrap();
        let target = normal("target", &[4, 3]);
        let loss = denoising_loss(output.tensor(), &target, &[1., 2., 3., 4.]).unwrap();
        let gradients = tape.backward(&output, loss.gradient).unwrap();
        let in_x = gradients.value(&leaf).unwrap().clone();
        let parameters = (0..store.len()).map(|i| gradients.parameter(i).unwrap().clone());
        (loss.mean, parameters.collect(), in_x)
    }

    fn dot(a: &Tensor, b: &Tensor) -> f64 {
        (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn every_gradient_equals_a_difference_quotient() {
        let (network, x) = (network(), normal("x", &[4, 3]));
        let store = doubled(&network);
        let (_, gradients, in_x) = loss(&network, &store, &x);
        for (index, (name, value)) in store.iter().enumerate() {
            let direction = normal(name, value.dims());
            let at = |step: f64| {
                let moved = doubled(&network);
                let there = (value + (&direction * step).unwrap()).unwrap();
                moved.tensor(index).slice_set(&there, 0, 0).unwrap();
                loss(&network, &moved, &x).0
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            let found = dot(&gradients[index], &direction);
            let allowed = 1e-6 * slope.abs() + 1e-9;
            assert!((found - slope).abs() <= allowed, "{name}: {found} {slope}");
            // The control: another parameter of the same name would have been found out.
            assert!(slope.abs() >= 1e-6 && (1.001 * found - slope).abs() > allowed, "{name}");
        }
        let direction = normal("direction", &[4, 3]);
        let at =
            |step: f64| loss(&network, &store, &(&x + (&direction * step).unwrap()).unwrap()).0;
        let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((dot(&in_x, &direction) - slope).abs() <= 1e-6 * slope.abs());
    }

    /// Before it has learned anything its error is of the data's size at every level, however noisy.
    #[test]
    fn the_output_is_well_scaled_at_all_levels() {
        let network = network();
        let store = network.initialised(Seed(1)).unwrap();
        let schedule = network.schedule();
        for t in [0, 10, 100, 500, 999].map(Timestep) {
            let clean = (normal("clean", &[50, 3]) * 0.4).unwrap();
            let noise = normal("noise", &[50, 3]);
            let x = ((&clean * schedule.alpha(t)).unwrap() + (noise * schedule.sigma(t)).unwrap())
                .unwrap();
            let denoiser = network.denoiser(&store);
            let x = x.to_dtype(DType::F32).unwrap();
            let found = denoiser.clean(&x, &[t; 50], Condition::Unconditional).unwrap();
            let missed = (found.to_dtype(DType::F64).unwrap() - clean).unwrap();
            let square = missed.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap();
            let weighed = square * network.loss_weight(t);
            assert!((0.5..2.).contains(&weighed), "{t:?}: {weighed}");
        }
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        let network = network();
        let store = doubled(&network);
        let pass = Pass::plain(Condition::Unconditional);
        let forward = |shape: &[usize], times: &[f64], pass: &Pass| {
            let x = Value::constant(normal("x", shape));
            let output = network.forward(&Tape::inference(&store), &x, times, pass);
            output.map(|_| ()).unwrap_err().to_string()
        };
        assert!(forward(&[1, 4], &[0.], &pass).contains("expected [1, 3]"));
        assert!(forward(&[1, 3], &[1000.], &pass).contains("timesteps 0 to 999, got 1000"));
        assert!(forward(&[1, 3], &[0.5], &pass).contains("got 0.5"));
        let classes = Pass::plain(Condition::Classes(&[1]));
        assert!(forward(&[1, 3], &[0.], &classes).contains("takes no classes"));
        let none = PerceptronSpec { width: 0, ..network.spec().clone() };
        let error = Perceptron::new(&none, network.schedule()).unwrap_err().to_string();
        assert!(error.contains("width: expected at least 1, got 0"), "{error}");
    }
}
