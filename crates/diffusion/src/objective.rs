//! The denoising loss and its weightings.
//!
//! Law: L = mean_b w(t_b) · mean_d (target − output)², whose gradient in the output is 2·w(t_b)·(output − target) / (B·D).
//! Source: Ho et al. 2020, eq. 14 (w = 1); min-SNR-γ: Hang et al. 2023, section 3.4.

use crate::parameterization::{Parameterization, per_example};
use crate::schedule::{NoiseSchedule, Timestep};
use candle_core::{D, DType, Result, Tensor};
use serde::{Deserialize, Serialize};

/// w(t).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// w = 1: the simple loss.
    #[default]
    Uniform,
    /// Min-SNR-γ: min(SNR, γ) in units of x̂₀'s error, whatever is predicted.
    MinSnr(f64),
}

impl Weighting {
    /// w(t) for a network that predicts `parameterization`.
    pub fn weight(
        self,
        schedule: &NoiseSchedule,
        parameterization: Parameterization,
        t: Timestep,
    ) -> f64 {
        let Self::MinSnr(gamma) = self else { return 1. };
        let snr = schedule.snr(t);
        match parameterization {
            Parameterization::Epsilon => snr.min(gamma) / snr,
            Parameterization::Velocity => snr.min(gamma) / (snr + 1.),
            Parameterization::Clean => snr.min(gamma),
        }
    }
}

/// A batch's loss.
#[derive(Debug)]
pub struct DenoisingLoss {
    /// mean_d (target − output)², one for each example, not weighted.
    pub per_example: Vec<f64>,
    /// Weighted mean over the batch: what training minimises.
    pub mean: f64,
    /// Gradient of `mean` in the output.
    pub gradient: Tensor,
}

/// A batch's loss while the device may still be computing it: reading it is what waits.
#[derive(Debug)]
pub struct PendingLoss {
    /// [batch], 64-bit.
    squares: Tensor,
    /// Gradient of the weighted mean in the output.
    pub gradient: Tensor,
}

impl PendingLoss {
    /// `output` and `target` [batch, ..], `weights` one for each example.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn new(output: &Tensor, target: &Tensor, weights: &[f64]) -> Result<Self> {
        let difference = (output - target)?;
        let elements = output.elem_count() as f64;
        let factors = weights.iter().map(|weight| 2. * weight / elements);
        let gradient = difference.broadcast_mul(&per_example(&difference, factors)?)?;
        Ok(Self { squares: squares(&difference)?, gradient })
    }

    /// The numbers, with the same `weights`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn read(self, weights: &[f64]) -> Result<DenoisingLoss> {
        let per_example = self.squares.to_vec1::<f64>()?;
        let pairs = per_example.iter().zip(weights);
        let mean = pairs.map(|(loss, weight)| loss * weight).sum::<f64>() / weights.len() as f64;
        Ok(DenoisingLoss { per_example, mean, gradient: self.gradient })
    }
}

/// `output` and `target` [batch, ..], `weights` one for each example.
///
/// # Errors
/// When shapes do not fit.
pub fn denoising_loss(output: &Tensor, target: &Tensor, weights: &[f64]) -> Result<DenoisingLoss> {
    PendingLoss::new(output, target, weights)?.read(weights)
}

/// mean_d x², one for each example of [batch, ..].
///
/// # Errors
/// Those of candle.
pub fn mean_squares(x: &Tensor) -> Result<Vec<f64>> {
    squares(x)?.to_vec1()
}

fn squares(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(1)?.to_dtype(DType::F64)?.sqr()?.mean(D::Minus1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScheduleSpec;
    use candle_core::Device;

    #[test]
    fn the_gradient_equals_a_difference_quotient() {
        let draw = |name: &str| {
            let x = lethe_candlex::rng::Seed(1)
                .stream(name)
                .normal(0, &[0, 1], &[3], &Device::Cpu)
                .unwrap();
            x.to_dtype(DType::F64).unwrap()
        };
        let (output, target, direction) = (draw("a"), draw("b"), draw("c"));
        let weights = [0.5, 3.];
        let loss = denoising_loss(&output, &target, &weights).unwrap();
        let at = |step: f64| {
            let moved = (&output + (&direction * step).unwrap()).unwrap();
            denoising_loss(&moved, &target, &weights).unwrap().mean
        };
        let slope =
            (loss.gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(((at(1e-5) - at(-1e-5)) / 2e-5 - slope).abs() <= 1e-9);
    }

    #[test]
    fn min_snr_is_the_same_loss_in_every_parameterization() {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        for t in [0, 100, 400, 999].map(Timestep) {
            let (snr, weighting) = (schedule.snr(t), Weighting::MinSnr(5.));
            let weight = |way| weighting.weight(&schedule, way, t);
            // An error e in x̂₀ is an error √SNR·e in ε̂ and √(SNR + 1)·e in v.
            let expected = snr.min(5.);
            assert!((weight(Parameterization::Clean) - expected).abs() <= 1e-12 * expected);
            assert!((weight(Parameterization::Epsilon) * snr - expected).abs() <= 1e-12 * expected);
            assert!(
                (weight(Parameterization::Velocity) * (snr + 1.) - expected).abs()
                    <= 1e-12 * expected
            );
        }
    }
}
