//! The transformer over an image's pixels that looks at a text: diffusers' `Transformer2DModel`.
//!
//! Each block attends to the image itself, then to the text, then thinks about each token alone; each time what comes out
//! is added to what went in. Source: Rombach et al. 2022, appendix E.2.1; GEGLU: Shazeer 2020.

use crate::conv::{Conv2d, Linear, Window};
use crate::norm::{GroupNorm, LayerNorm, NormSpec};
use crate::operation;
use candle_core::Result;
use lethe_candlex::params::Scope;
use lethe_candlex::tape::{Tape, Value};

/// torch's default ε of a layer norm, which diffusers keeps in these blocks.
const LAYER_NORM_EPSILON: f64 = 1e-5;
/// ε of the norm before the blocks, whatever the U-Net's own is.
const GROUP_NORM_EPSILON: f64 = 1e-6;
/// Channels of the feed-forward network, as a multiple of the tokens'.
const WIDENING: usize = 4;

/// Everything that distinguishes one transformer from another but its channels.
#[derive(Clone, Copy, Debug)]
pub struct TransformerSpec {
    /// Heads of every attention.
    pub heads: usize,
    /// Channels of the text.
    pub context_channels: usize,
    /// Groups of the norm before the blocks.
    pub groups: usize,
    /// Blocks.
    pub layers: usize,
    /// Whether the projections around the blocks are linear layers rather than 1x1 convolutions: the same map, stored
    /// in another shape.
    pub has_linear_projection: bool,
}

/// diffusers' `Transformer2DModel`.
#[derive(Clone, Debug)]
pub struct Transformer2d {
    norm: GroupNorm,
    proj_in: Projection,
    blocks: Vec<TransformerBlock>,
    proj_out: Projection,
}

#[derive(Clone, Debug)]
enum Projection {
    Convolution(Conv2d),
    Linear(Linear),
}

/// Says which low-rank adapter a linear layer gets: (its name, [in, out]) → adapter.
pub type Adapt<'a> = dyn FnMut(&str, [usize; 2]) -> Option<crate::conv::Adapter> + 'a;

impl Transformer2d {
    /// Declares `norm`, `proj_in`, `transformer_blocks` and `proj_out`.
    pub fn declare(mut scope: Scope, channels: usize, spec: TransformerSpec) -> Self {
        let norm = NormSpec { groups: spec.groups, epsilon: GROUP_NORM_EPSILON, activation: None };
        let norm = GroupNorm::declare(scope.at("norm"), channels, norm);
        let proj_in = Projection::declare(scope.at("proj_in"), channels, spec);
        let blocks = (0..spec.layers)
            .map(|i| {
                TransformerBlock::declare(scope.at("transformer_blocks").at(i), channels, spec)
            })
            .collect();
        let proj_out = Projection::declare(scope.at("proj_out"), channels, spec);
        Self { norm, proj_in, blocks, proj_out }
    }

    /// `x` [batch, height, width, channels], `context` [batch, tokens, context channels] → x's shape.
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn forward(&self, tape: &Tape, x: &Value, context: &Value) -> Result<Value> {
        let (batch, height, width, channels) = x.tensor().dims4()?;
        let tokens = [batch, height * width, channels];
        let hidden = self.proj_in.forward(tape, &self.norm.forward(tape, x)?)?;
        let mut hidden = operation::reshape(tape, &hidden, &tokens)?;
        for block in &self.blocks {
            hidden = block.forward(tape, &hidden, context)?;
        }
        let hidden = operation::reshape(tape, &hidden, &[batch, height, width, channels])?;
        operation::add(tape, &self.proj_out.forward(tape, &hidden)?, x)
    }

    /// Gives every linear layer below `name` the adapter that `adapt` says.
    pub fn adapt(&mut self, name: &str, adapt: &mut Adapt) {
        for (place, projection) in
            [("proj_in", &mut self.proj_in), ("proj_out", &mut self.proj_out)]
        {
            if let Projection::Linear(linear) = projection {
                linear.adapt(&format!("{name}.{place}"), adapt);
            }
        }
        for (i, block) in self.blocks.iter_mut().enumerate() {
            block.adapt(&format!("{name}.transformer_blocks.{i}"), adapt);
        }
    }
}

impl Projection {
    fn declare(scope: Scope, channels: usize, spec: TransformerSpec) -> Self {
        if spec.has_linear_projection {
            Self::Linear(Linear::declare(scope, channels, channels))
        } else {
            Self::Convolution(Conv2d::declare(scope, channels, channels, Window::same(1)))
        }
    }

    fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        match self {
            Self::Convolution(conv) => conv.forward(tape, x),
            Self::Linear(linear) => linear.forward(tape, x),
        }
    }
}

/// diffusers' `BasicTransformerBlock` as Stable Diffusion uses it.
#[derive(Clone, Debug)]
struct TransformerBlock {
    norm1: LayerNorm,
    attn1: CrossAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    /// `ff.net.0.proj`: GEGLU's two halves.
    widen: Linear,
    /// `ff.net.2`.
    narrow: Linear,
}

impl TransformerBlock {
    fn declare(mut scope: Scope, channels: usize, spec: TransformerSpec) -> Self {
        let norm = |scope: Scope| LayerNorm::declare(scope, channels, LAYER_NORM_EPSILON);
        let attention = |scope: Scope, context: usize| {
            CrossAttention::declare(scope, channels, context, spec.heads)
        };
        let inner = WIDENING * channels;
        Self {
            norm1: norm(scope.at("norm1")),
            attn1: attention(scope.at("attn1"), channels),
            norm2: norm(scope.at("norm2")),
            attn2: attention(scope.at("attn2"), spec.context_channels),
            norm3: norm(scope.at("norm3")),
            widen: Linear::declare(scope.at("ff").at("net").at(0).at("proj"), channels, 2 * inner),
            narrow: Linear::declare(scope.at("ff").at("net").at(2), inner, channels),
        }
    }

    fn forward(&self, tape: &Tape, x: &Value, context: &Value) -> Result<Value> {
        let normed = self.norm1.forward(tape, x)?;
        let x = operation::add(tape, &self.attn1.forward(tape, &normed, &normed)?, x)?;
        let normed = self.norm2.forward(tape, &x)?;
        let x = operation::add(tape, &self.attn2.forward(tape, &normed, context)?, &x)?;
        let wide = self.widen.forward(tape, &self.norm3.forward(tape, &x)?)?;
        let thought = self.narrow.forward(tape, &operation::gate(tape, &wide)?)?;
        operation::add(tape, &thought, &x)
    }

    fn adapt(&mut self, name: &str, adapt: &mut Adapt) {
        self.attn1.adapt(&format!("{name}.attn1"), adapt);
        self.attn2.adapt(&format!("{name}.attn2"), adapt);
        self.widen.adapt(&format!("{name}.ff.net.0.proj"), adapt);
        self.narrow.adapt(&format!("{name}.ff.net.2"), adapt);
    }
}

/// diffusers' `Attention` between tokens and a context, which may be the tokens themselves.
#[derive(Clone, Debug)]
pub struct CrossAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl CrossAttention {
    /// Declares `to_q`, `to_k`, `to_v` without bias, and `to_out.0`.
    pub fn declare(mut scope: Scope, channels: usize, context: usize, heads: usize) -> Self {
        Self {
            to_q: Linear::declare_unbiased(scope.at("to_q"), channels, channels),
            to_k: Linear::declare_unbiased(scope.at("to_k"), context, channels),
            to_v: Linear::declare_unbiased(scope.at("to_v"), context, channels),
            to_out: Linear::declare(scope.at("to_out").at(0), channels, channels),
            heads,
        }
    }

    /// `x` [batch, tokens, channels], `context` [batch, others, context channels] → x's shape.
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn forward(&self, tape: &Tape, x: &Value, context: &Value) -> Result<Value> {
        let q = self.to_q.forward(tape, x)?;
        let (k, v) = (self.to_k.forward(tape, context)?, self.to_v.forward(tape, context)?);
        self.to_out.forward(tape, &operation::attention(tape, &q, &k, &v, self.heads)?)
    }

    fn adapt(&mut self, name: &str, adapt: &mut Adapt) {
        let parts = [
            ("to_q", &mut self.to_q),
            ("to_k", &mut self.to_k),
            ("to_v", &mut self.to_v),
            ("to_out.0", &mut self.to_out),
        ];
        for (part, linear) in parts {
            linear.adapt(&format!("{name}.{part}"), adapt);
        }
    }
}
