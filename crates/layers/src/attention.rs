//! Self-attention over the pixels of an image, under diffusers' names.

use crate::conv::Linear;
use crate::norm::{GroupNorm, NormSpec};
use crate::operation;
use candle_core::Result;
use lethe_candlex::params::Scope;
use lethe_candlex::tape::{Tape, Value};

/// diffusers' `Attention` as its pixel U-Nets use it: normalise, attend, project, add.
#[derive(Clone, Debug)]
pub struct ImageAttention {
    norm: Option<GroupNorm>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
    output_scale: f64,
}

impl ImageAttention {
    /// Declares `group_norm` (where there is one), `to_q`, `to_k`, `to_v` and `to_out.0`.
    ///
    /// `output_scale` divides the sum of input and attention.
    pub fn declare(
        mut scope: Scope,
        channels: usize,
        heads: usize,
        norm: Option<NormSpec>,
        output_scale: f64,
    ) -> Self {
        Self {
            norm: norm.map(|norm| GroupNorm::declare(scope.at("group_norm"), channels, norm)),
            to_q: Linear::declare(scope.at("to_q"), channels, channels),
            to_k: Linear::declare(scope.at("to_k"), channels, channels),
            to_v: Linear::declare(scope.at("to_v"), channels, channels),
            to_out: Linear::declare(scope.at("to_out").at(0), channels, channels),
            heads,
            output_scale,
        }
    }

    /// [batch, height, width, channels] → the same shape.
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        let (batch, height, width, channels) = x.tensor().dims4()?;
        let tokens = operation::reshape(tape, x, &[batch, height * width, channels])?;
        let normed = match &self.norm {
            Some(norm) => norm.forward(tape, &tokens)?,
            None => tokens,
        };
        let (q, k, v) = (
            self.to_q.forward(tape, &normed)?,
            self.to_k.forward(tape, &normed)?,
            self.to_v.forward(tape, &normed)?,
        );
        let attended =
            self.to_out.forward(tape, &operation::attention(tape, &q, &k, &v, self.heads)?)?;
        let attended = operation::reshape(tape, &attended, &[batch, height, width, channels])?;
        operation::scale(tape, &operation::add(tape, x, &attended)?, 1. / self.output_scale)
    }
}

/// Today's name of a tensor: attention had other names before diffusers 0.14, which the hub's files still have.
pub fn todays_name(name: &str) -> String {
    const ATTENTION: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    if !name.contains("attentions.") {
        return name.to_string();
    }
    ATTENTION.iter().fold(name.to_string(), |name, (old, new)| name.replace(old, new))
}
