//! Group normalisation: `weight` and `bias`, as torch names them.

use crate::operation;
use candle_core::Result;
use lethe_candlex::params::{Init, Scope};
use lethe_candlex::tape::{Tape, Value};
use lethe_kernels::group_norm::{self, Activation};

/// `torch.nn.GroupNorm`, with the SiLU that mostly follows it.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: usize,
    bias: usize,
    norm: group_norm::GroupNorm,
}

impl GroupNorm {
    /// Declares `weight` and `bias` [channels].
    pub fn declare(mut scope: Scope, channels: usize, norm: group_norm::GroupNorm) -> Self {
        let weight = scope.declare("weight", &[channels], Init::Constant(1.));
        Self { weight, bias: scope.declare("bias", &[channels], Init::Constant(0.)), norm }
    }

    /// The normalisation without and with the SiLU behind it.
    pub fn kinds(groups: usize, epsilon: f64) -> [group_norm::GroupNorm; 2] {
        [Activation::Identity, Activation::Silu].map(|activation| group_norm::GroupNorm {
            groups,
            epsilon,
            activation,
        })
    }

    /// [batch, .., channels] → the same shape.
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        operation::group_norm(
            tape,
            x,
            &tape.parameter(self.weight),
            &tape.parameter(self.bias),
            self.norm,
        )
    }

    /// The normalised value times (1 + scale) plus shift, both [batch, channels], before the activation.
    ///
    /// # Errors
    /// As [`GroupNorm::forward`].
    pub fn forward_modulated(
        &self,
        tape: &Tape,
        x: &Value,
        scale: &Value,
        shift: &Value,
    ) -> Result<Value> {
        let (weight, bias) = (tape.parameter(self.weight), tape.parameter(self.bias));
        let gamma = tape.composed(&[&weight, scale], |t| (&t[1] + 1.)?.broadcast_mul(&t[0]))?;
        let beta =
            tape.composed(&[&bias, scale, shift], |t| (&t[1] + 1.)?.broadcast_mul(&t[0])? + &t[2])?;
        operation::group_norm(tape, x, &gamma, &beta, self.norm)
    }
}
