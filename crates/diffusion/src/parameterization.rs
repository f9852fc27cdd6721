//! What a network predicts, and the algebra between the three ways.
//!
//! Law: x_t = α·x₀ + σ·ε, v = α·ε − σ·x₀, α² + σ² = 1.
//! Source: Ho et al. 2020 (ε); Salimans & Ho 2022, section 4 and appendix D (v, x₀).
//!
//! Tensors are [batch, ..]; timesteps one for each example.

use crate::schedule::{NoiseSchedule, Timestep};
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// What the network's output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parameterization {
    /// The noise ε: diffusers' "epsilon".
    #[default]
    Epsilon,
    /// The velocity v: diffusers' "v_prediction".
    Velocity,
    /// The clean data x₀: diffusers' "sample".
    Clean,
}

/// One factor for each example, shaped to multiply a tensor like `x`.
pub(crate) fn per_example(x: &Tensor, factors: impl Iterator<Item = f64>) -> Result<Tensor> {
    let factors: Vec<f64> = factors.collect();
    let mut shape = vec![1; x.rank()];
    shape[0] = factors.len();
    Tensor::from_vec(factors, shape, &candle_core::Device::Cpu)?
        .to_dtype(x.dtype())?
        .to_device(x.device())
}

/// a·x + b·y with factors for each example.
pub(crate) fn combine(
    x: &Tensor,
    a: impl Iterator<Item = f64>,
    y: &Tensor,
    b: impl Iterator<Item = f64>,
) -> Result<Tensor> {
    let (a, b): (Vec<f64>, Vec<f64>) = (a.collect(), b.collect());
    lethe_kernels::combine::combine(x, &a, y, &b)
}

/// x_t = α_t·x₀ + σ_t·ε, Ho et al. 2020, eq. 4.
///
/// # Errors
/// When shapes do not fit.
pub fn perturb(
    schedule: &NoiseSchedule,
    clean: &Tensor,
    noise: &Tensor,
    timesteps: &[Timestep],
) -> Result<Tensor> {
    let (alpha, sigma) = coefficients(schedule, timesteps);
    combine(clean, alpha, noise, sigma)
}

fn coefficients<'a>(
    schedule: &'a NoiseSchedule,
    timesteps: &'a [Timestep],
) -> (impl Iterator<Item = f64> + 'a, impl Iterator<Item = f64> + 'a) {
    (timesteps.iter().map(|&t| schedule.alpha(t)), timesteps.iter().map(|&t| schedule.sigma(t)))
}

impl Parameterization {
    /// What the network should have said.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn target(
        self,
        schedule: &NoiseSchedule,
        clean: &Tensor,
        noise: &Tensor,
        timesteps: &[Timestep],
    ) -> Result<Tensor> {
        match self {
            Self::Epsilon => Ok(noise.clone()),
            Self::Clean => Ok(clean.clone()),
            Self::Velocity => {
                let (alpha, sigma) = coefficients(schedule, timesteps);
                combine(noise, alpha, clean, sigma.map(|sigma| -sigma))
            }
        }
    }

    /// ε̂ from the network's output at x_t.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn noise(
        self,
        schedule: &NoiseSchedule,
        x: &Tensor,
        output: &Tensor,
        timesteps: &[Timestep],
    ) -> Result<Tensor> {
        let (alpha, sigma) = coefficients(schedule, timesteps);
        match self {
            Self::Epsilon => Ok(output.clone()),
            Self::Velocity => combine(output, alpha, x, sigma),
            Self::Clean => {
                let ratios = timesteps.iter().map(|&t| -schedule.alpha(t) / schedule.sigma(t));
                combine(x, sigma.map(|sigma| 1. / sigma), output, ratios)
            }
        }
    }

    /// x̂₀ from the network's output at x_t.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn clean(
        self,
        schedule: &NoiseSchedule,
        x: &Tensor,
        output: &Tensor,
        timesteps: &[Timestep],
    ) -> Result<Tensor> {
        let (alpha, sigma) = coefficients(schedule, timesteps);
        match self {
            Self::Epsilon => {
                let ratios = timesteps.iter().map(|&t| -schedule.sigma(t) / schedule.alpha(t));
                combine(x, alpha.map(|alpha| 1. / alpha), output, ratios)
            }
            Self::Velocity => combine(x, alpha, output, sigma.map(|sigma| -sigma)),
            Self::Clean => Ok(output.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScheduleSpec;
    use candle_core::Device;
    use lethe_candlex::rng::Seed;

    #[test]
    fn every_way_there_has_its_way_back() {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        let draw = |name: &str| {
            let noise =
                Seed(1).stream(name).normal(0, &[0, 1, 2], &[4, 4, 3], &Device::Cpu).unwrap();
            noise.to_dtype(candle_core::DType::F64).unwrap()
        };
        let (clean, noise) = (draw("clean"), draw("noise"));
        let timesteps = [Timestep(0), Timestep(500), Timestep(999)];
        let x = perturb(&schedule, &clean, &noise, &timesteps).unwrap();
        for way in [Parameterization::Epsilon, Parameterization::Velocity, Parameterization::Clean]
        {
            let output = way.target(&schedule, &clean, &noise, &timesteps).unwrap();
            let back = way.clean(&schedule, &x, &output, &timesteps).unwrap();
            let difference = (back - &clean)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f64>()
                .unwrap();
            assert!(difference <= 1e-10, "{way:?} {difference}");
            let back = way.noise(&schedule, &x, &output, &timesteps).unwrap();
            let difference = (back - &noise)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f64>()
                .unwrap();
            assert!(difference <= 1e-10, "{way:?} {difference}");
        }
    }
}
