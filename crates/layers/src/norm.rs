//! Group and layer normalisation: `weight` and `bias`, as torch names them.

use crate::activation::Activation;
use crate::operation;
use candle_core::Result;
use lethe_candlex::params::{Init, Scope};
use lethe_candlex::tape::{Tape, Value};
use lethe_kernels::group_norm;

/// Groups and ε of a normalisation, and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct NormSpec {
    /// Groups into which the channels are cut.
    pub groups: usize,
    /// ε, added to the variance.
    pub epsilon: f64,
    /// The activation behind it.
    pub activation: Option<Activation>,
}

/// `torch.nn.GroupNorm`, with the activation that mostly follows it.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: usize,
    bias: usize,
    norm: group_norm::GroupNorm,
    /// An activation that the kernel does not bring along.
    after: Option<Activation>,
}

impl GroupNorm {
    /// Declares `weight` and `bias` [channels].
    pub fn declare(mut scope: Scope, channels: usize, spec: NormSpec) -> Self {
        let (activation, after) = match spec.activation {
            None => (group_norm::Activation::Identity, None),
            Some(Activation::Silu) => (group_norm::Activation::Silu, None),
            other => (group_norm::Activation::Identity, other),
        };
        Self {
            weight: scope.declare("weight", &[channels], Init::Constant(1.)),
            bias: scope.declare("bias", &[channels], Init::Constant(0.)),
            norm: group_norm::GroupNorm { groups: spec.groups, epsilon: spec.epsilon, activation },
            after,
        }
    }

    /// [batch, .., channels] → the same shape.
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        self.normed(tape, x, &tape.parameter(self.weight), &tape.parameter(self.bias))
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
        self.normed(tape, x, &gamma, &beta)
    }

    fn normed(&self, tape: &Tape, x: &Value, gamma: &Value, beta: &Value) -> Result<Value> {
        let y = operation::group_norm(tape, x, gamma, beta, self.norm)?;
        match self.after {
            None => Ok(y),
            Some(activation) => activation.forward(tape, &y),
        }
    }
}

/// `torch.nn.LayerNorm` over the channels.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: usize,
    bias: usize,
    epsilon: f64,
}

impl LayerNorm {
    /// Declares `weight` and `bias` [channels].
    pub fn declare(mut scope: Scope, channels: usize, epsilon: f64) -> Self {
        Self {
            weight: scope.declare("weight", &[channels], Init::Constant(1.)),
            bias: scope.declare("bias", &[channels], Init::Constant(0.)),
            epsilon,
        }
    }

    /// [.., channels] → the same shape.
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        let (gamma, beta) = (tape.parameter(self.weight), tape.parameter(self.bias));
        operation::layer_norm(tape, x, &gamma, &beta, self.epsilon)
    }
}
