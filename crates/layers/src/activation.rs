//! Activation functions, under the names of diffusers' `act_fn`.

use candle_core::Result;
use lethe_candlex::tape::{Tape, Value};

/// f(z), element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// z / (1 + e^−z): "silu" and "swish".
    Silu,
    /// z · Φ(z), exact: "gelu".
    Gelu,
    /// max(z, 0): "relu".
    Relu,
    /// z · tanh(ln(1 + e^z)): "mish".
    Mish,
}

impl Activation {
    /// The activation that diffusers calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "silu" | "swish" => Self::Silu,
            "gelu" => Self::Gelu,
            "relu" => Self::Relu,
            "mish" => Self::Mish,
            _ => return None,
        })
    }

    /// f(x), by candle's operations: for small tensors, and for activations that no kernel brings along.
    ///
    /// # Errors
    /// Those of candle.
    pub fn forward(self, tape: &Tape, x: &Value) -> Result<Value> {
        tape.composed(&[x], move |inputs| match self {
            Self::Silu => inputs[0].silu(),
            Self::Gelu => inputs[0].gelu_erf(),
            Self::Relu => inputs[0].relu(),
            // tanh(ln(1 + e^z)) = 1 − 2 / ((1 + e^z)² + 1), which does not overflow below z = 40; above, f(z) = z.
            Self::Mish => {
                let grown = (inputs[0].clamp(-100., 40.)?.exp()? + 1.)?.sqr()?;
                &inputs[0] * ((grown + 1.)?.recip()? * -2.)?.affine(1., 1.)?
            }
        })
    }
}
