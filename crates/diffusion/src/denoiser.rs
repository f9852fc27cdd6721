//! The only face of a network that a sampler or a probe sees.

use crate::parameterization::{Parameterization, combine, per_example};
use crate::schedule::{NoiseSchedule, Timestep};
use candle_core::{Result, Tensor};
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::StepKey;
use lethe_candlex::tape::{Tape, Value};

/// What a network is told besides the noisy data and its timestep.
#[derive(Clone, Copy, Debug)]
pub enum Condition<'a> {
    /// Nothing.
    Unconditional,
    /// Each example's class.
    Classes(&'a [u32]),
}

impl Condition<'_> {
    /// The condition of some of the examples.
    pub fn of(&self, examples: std::ops::Range<usize>) -> Self {
        match self {
            Self::Unconditional => Self::Unconditional,
            Self::Classes(classes) => Self::Classes(&classes[examples]),
        }
    }
}

/// ε̂(x_t, t): any model of the noise, trained or exact.
///
/// `x`: [batch, ..data], noisy at each example's own timestep.
pub trait Denoiser {
    /// The levels at which it works.
    fn schedule(&self) -> &NoiseSchedule;

    /// ε̂, shaped as `x`.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn noise(&self, x: &Tensor, timesteps: &[Timestep], condition: Condition) -> Result<Tensor>;

    /// x̂₀ = (x_t − σ_t·ε̂) / α_t, shaped as `x`.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn clean(&self, x: &Tensor, timesteps: &[Timestep], condition: Condition) -> Result<Tensor> {
        let noise = self.noise(x, timesteps, condition)?;
        Parameterization::Epsilon.clean(self.schedule(), x, &noise, timesteps)
    }

    /// ∇ log p_t(x) = −ε̂ / σ_t, shaped as `x`.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn score(&self, x: &Tensor, timesteps: &[Timestep], condition: Condition) -> Result<Tensor> {
        let noise = self.noise(x, timesteps, condition)?;
        noise.broadcast_mul(&per_example(
            x,
            timesteps.iter().map(|&t| -1. / self.schedule().sigma(t)),
        )?)
    }
}

/// A differentiable network: structure alone; the numbers are the tape's.
pub trait Network {
    /// Output shaped as `x` [batch, height, width, channels], each example at its own timestep.
    ///
    /// # Errors
    /// When shapes or the condition do not fit.
    fn forward(&self, tape: &Tape, x: &Value, timesteps: &[f64], pass: &Pass) -> Result<Value>;
}

/// What varies from one forward pass to the next besides the data.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// What the network is told.
    pub condition: Condition<'a>,
    /// Where dropout masks come from; `None` outside training.
    pub dropout: Option<StepKey<'a>>,
}

impl<'a> Pass<'a> {
    /// A pass without dropout.
    pub fn plain(condition: Condition<'a>) -> Self {
        Self { condition, dropout: None }
    }
}

/// A network with its numbers, seen as a denoiser.
pub struct NetworkDenoiser<'a, N> {
    /// Structure.
    pub network: &'a N,
    /// Numbers.
    pub store: &'a ParamStore,
    /// Levels.
    pub schedule: &'a NoiseSchedule,
    /// What the output means.
    pub parameterization: Parameterization,
}

impl<N: Network> Denoiser for NetworkDenoiser<'_, N> {
    fn schedule(&self) -> &NoiseSchedule {
        self.schedule
    }

    fn noise(&self, x: &Tensor, timesteps: &[Timestep], condition: Condition) -> Result<Tensor> {
        let tape = Tape::inference(self.store);
        let levels: Vec<f64> = timesteps.iter().map(|t| t.0 as f64).collect();
        let output = self.network.forward(
            &tape,
            &Value::constant(x.clone()),
            &levels,
            &Pass::plain(condition),
        )?;
        self.parameterization.noise(self.schedule, x, output.tensor(), timesteps)
    }
}

/// The exact denoiser of a finite set of examples: what a network that memorised them would say.
///
/// Law: E[x₀ | x_t] = Σ_μ r_μ ξ_μ, r = softmax_μ(−‖x_t − α_t ξ_μ‖² / (2σ_t²)), ε̂ = (x_t − α_t E[x₀ | x_t]) / σ_t.
/// The reference against which estimators are proved.
#[derive(Debug)]
pub struct ExactDenoiser {
    /// [n, d], 64-bit.
    patterns: Tensor,
    schedule: NoiseSchedule,
}

impl ExactDenoiser {
    /// `patterns`: [n, ..data].
    ///
    /// # Errors
    /// When they cannot be held as 64-bit floats.
    pub fn new(patterns: &Tensor, schedule: NoiseSchedule) -> Result<Self> {
        Ok(Self {
            patterns: patterns.flatten_from(1)?.to_dtype(candle_core::DType::F64)?,
            schedule,
        })
    }
}

impl Denoiser for ExactDenoiser {
    fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    fn noise(&self, x: &Tensor, timesteps: &[Timestep], _: Condition) -> Result<Tensor> {
        let flat = x.flatten_from(1)?.to_dtype(candle_core::DType::F64)?; // [batch, d]
        let alpha: Vec<f64> = timesteps.iter().map(|&t| self.schedule.alpha(t)).collect();
        let sigma: Vec<f64> = timesteps.iter().map(|&t| self.schedule.sigma(t)).collect();
        let half_norms = (self.patterns.sqr()?.sum(1)? * 0.5)?.unsqueeze(0)?; // [1, n]
        let overlaps = flat.matmul(&self.patterns.t()?)?; // [batch, n]
        // −‖x − αξ‖²/(2σ²) without the term in x alone.
        let pairs = || alpha.iter().zip(&sigma);
        let first = per_example(&overlaps, pairs().map(|(a, s)| a / (s * s)))?;
        let second = per_example(&overlaps, pairs().map(|(a, s)| -a * a / (s * s)))?;
        let logits = (overlaps.broadcast_mul(&first)? + second.broadcast_mul(&half_norms)?)?;
        let weights = logits.broadcast_sub(&logits.max_keepdim(1)?)?.exp()?;
        let mean = weights.broadcast_div(&weights.sum_keepdim(1)?)?.matmul(&self.patterns)?;
        let noise =
            combine(&flat, sigma.iter().map(|s| 1. / s), &mean, pairs().map(|(a, s)| -a / s))?;
        noise.reshape(x.dims())?.to_dtype(x.dtype())
    }
}
