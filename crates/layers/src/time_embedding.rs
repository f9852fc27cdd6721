//! How a network is told the timestep.

use crate::activation::Activation;
use crate::conv::Linear;
use candle_core::{DType, Device, Result, Tensor};
use lethe_candlex::params::Scope;
use lethe_candlex::tape::{Tape, Value};

/// Sinusoids of a timestep: sin(t·ω_i) and cos(t·ω_i), ω_i = 10000^(−i / (half − freq_shift)).
///
/// Source: diffusers' `Timesteps`, after Vaswani et al. 2017, section 3.5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sinusoids {
    /// Numbers for each timestep; an odd last one is zero.
    pub channels: usize,
    /// Cosines first.
    pub flip_sin_to_cos: bool,
    /// See the formula.
    pub freq_shift: f64,
}

impl Sinusoids {
    /// [batch] timesteps → [batch, channels], computed in 64 bits.
    ///
    /// # Errors
    /// When the device refuses the tensor.
    pub fn embed(&self, timesteps: &[f64], dtype: DType, device: &Device) -> Result<Tensor> {
        let half = self.channels / 2;
        let mut values = vec![0.; timesteps.len() * self.channels];
        for (row, t) in values.chunks_exact_mut(self.channels.max(1)).zip(timesteps) {
            for i in 0..half {
                let angle =
                    t * (-(10_000f64).ln() * i as f64 / (half as f64 - self.freq_shift)).exp();
                let (sine, cosine) =
                    if self.flip_sin_to_cos { (half + i, i) } else { (i, half + i) };
                row[sine] = angle.sin();
                row[cosine] = angle.cos();
            }
        }
        Tensor::from_vec(values, (timesteps.len(), self.channels), &Device::Cpu)?
            .to_dtype(dtype)?
            .to_device(device)
    }
}

/// diffusers' `TimestepEmbedding`: linear, SiLU, linear.
#[derive(Clone, Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedding {
    /// Declares `linear_1` and `linear_2`.
    pub fn declare(mut scope: Scope, channels_in: usize, channels: usize) -> Self {
        Self {
            linear_1: Linear::declare(scope.at("linear_1"), channels_in, channels),
            linear_2: Linear::declare(scope.at("linear_2"), channels, channels),
        }
    }

    /// [batch, in] → [batch, channels].
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn forward(&self, tape: &Tape, sinusoids: &Value) -> Result<Value> {
        let hidden = Activation::Silu.forward(tape, &self.linear_1.forward(tape, sinusoids)?)?;
        self.linear_2.forward(tape, &hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_follow_the_formula() {
        let sinusoids = Sinusoids { channels: 5, flip_sin_to_cos: false, freq_shift: 1. };
        let row =
            sinusoids.embed(&[0., 7.], DType::F64, &Device::Cpu).unwrap().to_vec2::<f64>().unwrap();
        assert_eq!(row[0], [0., 0., 1., 1., 0.]);
        let expected = [7f64.sin(), 7e-4f64.sin(), 7f64.cos(), 7e-4f64.cos(), 0.];
        assert!(row[1].iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-15));
        let flipped = Sinusoids { flip_sin_to_cos: true, freq_shift: 0., channels: 4 };
        let row = flipped.embed(&[7.], DType::F64, &Device::Cpu).unwrap().to_vec2::<f64>().unwrap();
        let expected = [7f64.cos(), 0.07f64.cos(), 7f64.sin(), 0.07f64.sin()];
        assert!(row[0].iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-15));
    }
}
