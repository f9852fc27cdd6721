//! The only face of a network that a sampler or a probe sees.

use crate::parameterization::{Parameterization, combine, per_example};
use crate::schedule::{NoiseSchedule, Timestep};
use candle_core::{DType, Result, Tensor, bail};
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
    /// Each example's text.
    Texts {
        /// What the text encoder made of every text: [texts, tokens, channels].
        embeddings: &'a Tensor,
        /// Which text is whose.
        of: &'a [u32],
    },
}

impl Condition<'_> {
    /// The condition of some of the examples.
    pub fn of(&self, examples: std::ops::Range<usize>) -> Self {
        match self {
            Self::Unconditional => Self::Unconditional,
            Self::Classes(classes) => Self::Classes(&classes[examples]),
            Self::Texts { embeddings, of } => Self::Texts { embeddings, of: &of[examples] },
        }
    }
}

/// What each of some examples is told, for keeping.
#[derive(Clone, Debug, Default)]
pub enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// Each example's class.
    Classes(Vec<u32>),
    /// Each example's text, as in [`Condition::Texts`].
    Texts {
        /// [texts, tokens, channels].
        embeddings: Tensor,
        /// Which text is whose.
        of: Vec<u32>,
    },
}

impl Told {
    /// The same, lent.
    pub fn condition(&self) -> Condition<'_> {
        match self {
            Self::Nothing => Condition::Unconditional,
            Self::Classes(classes) => Condition::Classes(classes),
            Self::Texts { embeddings, of } => Condition::Texts { embeddings, of },
        }
    }

    /// What some of the examples are told.
    pub fn of(&self, examples: std::ops::Range<usize>) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Classes(classes) => Self::Classes(classes[examples].to_vec()),
            Self::Texts { embeddings, of } => {
                Self::Texts { embeddings: embeddings.clone(), of: of[examples].to_vec() }
            }
        }
    }

    /// Whether it is there for each of `n` examples.
    pub fn fits(&self, n: usize) -> bool {
        match self {
            Self::Nothing => true,
            Self::Classes(of) | Self::Texts { of, .. } => of.len() == n,
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

/// A denoiser whose derivative in the data can be taken: what divergences are made of.
pub trait DifferentiableDenoiser: Denoiser {
    /// (ε̂, Jᵀ·cotangent) with J = ∂ε̂/∂x of each example by itself, both shaped as `x`, as `cotangent` is.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn noise_and_pullback(
        &self,
        x: &Tensor,
        timesteps: &[Timestep],
        condition: Condition,
        cotangent: &Tensor,
    ) -> Result<(Tensor, Tensor)>;
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
    /// Whether each block keeps its input alone for the backward pass, and computes the rest of it a second time.
    pub recomputes: bool,
}

impl<'a> Pass<'a> {
    /// A pass without dropout, everything kept.
    pub fn plain(condition: Condition<'a>) -> Self {
        Self { condition, dropout: None, recomputes: false }
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

impl<N: Network> NetworkDenoiser<'_, N> {
    fn output(
        &self,
        tape: &Tape,
        x: &Value,
        timesteps: &[Timestep],
        condition: Condition,
    ) -> Result<Value> {
        let levels: Vec<f64> = timesteps.iter().map(|t| t.0 as f64).collect();
        self.network.forward(tape, x, &levels, &Pass::plain(condition))
    }
}

impl<N: Network> Denoiser for NetworkDenoiser<'_, N> {
    fn schedule(&self) -> &NoiseSchedule {
        self.schedule
    }

    fn noise(&self, x: &Tensor, timesteps: &[Timestep], condition: Condition) -> Result<Tensor> {
        let tape = Tape::inference(self.store);
        let output = self.output(&tape, &Value::constant(x.clone()), timesteps, condition)?;
        self.parameterization.noise(self.schedule, x, output.tensor(), timesteps)
    }
}

impl<N: Network> DifferentiableDenoiser for NetworkDenoiser<'_, N> {
    fn noise_and_pullback(
        &self,
        x: &Tensor,
        timesteps: &[Timestep],
        condition: Condition,
        cotangent: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let tape = Tape::of_inputs(self.store);
        let leaf = tape.leaf(x.clone());
        let output = self.output(&tape, &leaf, timesteps, condition)?;
        let noise = self.parameterization.noise(self.schedule, x, output.tensor(), timesteps)?;
        let gradients = tape.backward(&output, cotangent.clone())?;
        let Some(pulled) = gradients.value(&leaf) else {
            bail!("denoiser: no gradient reaches the data: the network's output ignores its input");
        };
        // ε̂ = a·x + b·output with factors for each example, and so is Jᵀ·c = a·c + b·(∂output/∂x)ᵀ·c.
        let pullback = self.parameterization.noise(self.schedule, cotangent, pulled, timesteps)?;
        Ok((noise, pullback))
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
        Ok(Self { patterns: patterns.flatten_from(1)?.to_dtype(DType::F64)?, schedule })
    }
}

/// What the exact denoiser finds at noisy data: all [batch, ..] in 64 bits.
struct Posterior {
    /// x, [batch, d].
    x: Tensor,
    alpha: Vec<f64>,
    sigma: Vec<f64>,
    /// r, [batch, n].
    weights: Tensor,
    /// E[x₀ | x], [batch, d].
    mean: Tensor,
}

impl ExactDenoiser {
    fn posterior(&self, x: &Tensor, timesteps: &[Timestep]) -> Result<Posterior> {
        let x = x.flatten_from(1)?.to_dtype(DType::F64)?;
        let alpha: Vec<f64> = timesteps.iter().map(|&t| self.schedule.alpha(t)).collect();
        let sigma: Vec<f64> = timesteps.iter().map(|&t| self.schedule.sigma(t)).collect();
        let half_norms = (self.patterns.sqr()?.sum(1)? * 0.5)?.unsqueeze(0)?; // [1, n]
        let overlaps = x.matmul(&self.patterns.t()?)?; // [batch, n]
        // −‖x − αξ‖²/(2σ²) without the term in x alone.
        let pairs = || alpha.iter().zip(&sigma);
        let first = per_example(&overlaps, pairs().map(|(a, s)| a / (s * s)))?;
        let second = per_example(&overlaps, pairs().map(|(a, s)| -a * a / (s * s)))?;
        let logits = (overlaps.broadcast_mul(&first)? + second.broadcast_mul(&half_norms)?)?;
        let weights = logits.broadcast_sub(&logits.max_keepdim(1)?)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(1)?)?;
        let mean = weights.matmul(&self.patterns)?;
        Ok(Posterior { x, alpha, sigma, weights, mean })
    }
}

impl Posterior {
    fn noise(&self) -> Result<Tensor> {
        let pairs = self.alpha.iter().zip(&self.sigma);
        let first = self.sigma.iter().map(|s| 1. / s);
        combine(&self.x, first, &self.mean, pairs.map(|(a, s)| -a / s))
    }
}

impl Denoiser for ExactDenoiser {
    fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    fn noise(&self, x: &Tensor, timesteps: &[Timestep], _: Condition) -> Result<Tensor> {
        self.posterior(x, timesteps)?.noise()?.reshape(x.dims())?.to_dtype(x.dtype())
    }
}

impl DifferentiableDenoiser for ExactDenoiser {
    /// J = (I − α²/σ²·C) / σ with C = Σ_μ r_μ ξ_μ ξ_μᵀ − m·mᵀ, the posterior's covariance; J is symmetric.
    fn noise_and_pullback(
        &self,
        x: &Tensor,
        timesteps: &[Timestep],
        _: Condition,
        cotangent: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let found = self.posterior(x, timesteps)?;
        let c = cotangent.flatten_from(1)?.to_dtype(DType::F64)?;
        let weighted = (&found.weights * c.matmul(&self.patterns.t()?)?)?; // r_μ·(ξ_μ·c)
        let along_mean = weighted.sum_keepdim(1)?; // m·c
        let spread = (weighted.matmul(&self.patterns)? - found.mean.broadcast_mul(&along_mean)?)?;
        let pairs = found.alpha.iter().zip(&found.sigma);
        let first = found.sigma.iter().map(|s| 1. / s);
        let pullback = combine(&c, first, &spread, pairs.map(|(a, s)| -a * a / (s * s * s)))?;
        let shaped = |y: Tensor| y.reshape(x.dims())?.to_dtype(x.dtype());
        Ok((shaped(found.noise()?)?, shaped(pullback)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScheduleSpec;
    use candle_core::Device;
    use lethe_candlex::params::{Declarations, Init};
    use lethe_candlex::rng::Seed;

    const TIMES: [Timestep; 3] = [Timestep(20), Timestep(300), Timestep(999)];

    fn draw(name: &str, n: u64) -> Tensor {
        let ids: Vec<u64> = (0..n).collect();
        let x = Seed(3).stream(name).normal(0, &ids, &[4], &Device::Cpu).unwrap();
        x.to_dtype(DType::F64).unwrap()
    }

    fn rows_of_dots(a: &Tensor, b: &Tensor) -> Vec<f64> {
        (a * b).unwrap().sum(1).unwrap().to_vec1().unwrap()
    }

    /// Largest relative difference of c·(J u), by difference quotients, and u·(Jᵀ c), over the examples.
    fn fault(denoiser: &dyn DifferentiableDenoiser, turn: f64) -> f64 {
        let (x, u, c) = (draw("x", 3), draw("direction", 3), draw("cotangent", 3));
        let at = |step: f64| {
            let moved = (&x + (&u * step).unwrap()).unwrap();
            denoiser.noise(&moved, &TIMES, Condition::Unconditional).unwrap()
        };
        let slope = ((at(1e-5) - at(-1e-5)).unwrap() / 2e-5).unwrap();
        let (noise, pullback) =
            denoiser.noise_and_pullback(&x, &TIMES, Condition::Unconditional, &c).unwrap();
        let same = (noise - at(0.)).unwrap().abs().unwrap().max_all().unwrap();
        assert!(same.to_scalar::<f64>().unwrap() <= 1e-12);
        let found = rows_of_dots(&u, &(pullback * turn).unwrap());
        let pairs = rows_of_dots(&c, &slope).into_iter().zip(found);
        pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1.)).fold(0., f64::max)
    }

    /// output = (x·W)², level by level: nonlinear, and with no two rows of J alike.
    struct Squares;

    impl Network for Squares {
        fn forward(&self, tape: &Tape, x: &Value, _: &[f64], _: &Pass) -> Result<Value> {
            tape.composed(&[x, &tape.parameter(0)], |t| t[0].matmul(&t[1])?.sqr())
        }
    }

    #[test]
    fn pullbacks_equal_difference_quotients() {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        let exact = ExactDenoiser::new(&draw("patterns", 5), schedule.clone()).unwrap();
        assert!(fault(&exact, 1.) <= 1e-6, "{}", fault(&exact, 1.));
        assert!(fault(&exact, -1.) >= 0.1);
        let mut declarations = Declarations::default();
        declarations.declare("w", &[4, 4], Init::Normal { deviation: 1. });
        let store =
            ParamStore::initialised(&declarations, Seed(1), DType::F64, &Device::Cpu).unwrap();
        for parameterization in
            [Parameterization::Epsilon, Parameterization::Velocity, Parameterization::Clean]
        {
            let denoiser = NetworkDenoiser {
                network: &Squares,
                store: &store,
                schedule: &schedule,
                parameterization,
            };
            let (right, wrong) = (fault(&denoiser, 1.), fault(&denoiser, 0.9));
            assert!(right <= 1e-6 && wrong >= 1e-3, "{parameterization:?}: {right} {wrong}");
        }
    }
}
