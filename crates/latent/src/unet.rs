//! `UNet2DConditionModel`: the text-conditioned U-Net of Stable Diffusion, under diffusers' names.
//!
//! | tensor | shape |
//! |---|---|
//! | input x | [batch, height, width, in_channels] |
//! | text | [batch, tokens, cross_attention_dim] |
//! | output | [batch, height, width, out_channels] |
//!
//! Source: Rombach et al. 2022. Unlike diffusers, latents have their channels last.

mod build;
mod config;

pub use config::{PerLevel, UNet2dConditionConfig};

use crate::LatentError;
use build::Builder;
use candle_core::{DType, Result, Tensor, bail};
use lethe_candlex::params::Declarations;
use lethe_candlex::rng::StepKey;
use lethe_candlex::tape::{Tape, Value};
use lethe_diffusion::denoiser::{Condition, Network, Pass};
use lethe_layers::activation::Activation;
use lethe_layers::conv::Conv2d;
use lethe_layers::norm::GroupNorm;
use lethe_layers::operation;
use lethe_layers::recomputed::recomputed;
use lethe_layers::resnet_block::ResnetBlock;
use lethe_layers::time_embedding::{Sinusoids, TimestepEmbedding};
use lethe_layers::transformer::{Adapt, Transformer2d};

/// The structure; the numbers live in a [`lethe_candlex::params::ParamStore`].
#[derive(Clone, Debug)]
pub struct UNet2dCondition {
    time_proj: Sinusoids,
    time_embedding: TimestepEmbedding,
    conv_in: Conv2d,
    down: Vec<Level>,
    middle: Middle,
    up: Vec<Level>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// The blocks of one level, on the way down or up.
#[derive(Clone, Debug)]
struct Level {
    units: Vec<Unit>,
    sampler: Option<LevelSampler>,
}

/// A residual block and the transformer behind it: what is recomputed as one.
#[derive(Clone, Debug)]
struct Unit {
    resnet: ResnetBlock,
    attention: Option<Transformer2d>,
}

/// What leads to the next level.
#[derive(Clone, Debug)]
enum LevelSampler {
    Down(Conv2d),
    Up(Conv2d),
}

#[derive(Clone, Debug)]
struct Middle {
    first: Unit,
    second: Unit,
}

impl UNet2dCondition {
    /// The network of `config` and the parameters that it declares.
    ///
    /// # Errors
    /// [`LatentError::Config`] for a configuration that it does not know.
    pub fn new(
        config: &UNet2dConditionConfig,
    ) -> std::result::Result<(Self, Declarations), LatentError> {
        config.validate()?;
        Ok(Builder::new(config).build())
    }

    /// Gives every linear layer of the transformers the adapter that `adapt` says.
    pub fn adapt(&mut self, adapt: &mut Adapt) {
        for (place, levels) in [("down_blocks", &mut self.down), ("up_blocks", &mut self.up)] {
            for (k, level) in levels.iter_mut().enumerate() {
                for (i, unit) in level.units.iter_mut().enumerate() {
                    unit.adapt(&format!("{place}.{k}.attentions.{i}"), adapt);
                }
            }
        }
        self.middle.first.adapt("mid_block.attentions.0", adapt);
    }

    /// [batch, time channels], the activation that every block takes of it already taken.
    fn embed_time(&self, tape: &Tape, x: &Tensor, timesteps: &[f64]) -> Result<Value> {
        let sinusoids = self.time_proj.embed(timesteps, x.dtype(), x.device())?;
        let time = self.time_embedding.forward(tape, &Value::constant(sinusoids))?;
        Activation::Silu.forward(tape, &time)
    }
}

impl Unit {
    fn adapt(&mut self, name: &str, adapt: &mut Adapt) {
        if let Some(attention) = &mut self.attention {
            attention.adapt(name, adapt);
        }
    }

    /// `time` and `context` as the walk holds them.
    fn forward(
        &self,
        tape: &Tape,
        x: &Value,
        time: &Value,
        context: &Value,
        dropout: Option<StepKey>,
    ) -> Result<Value> {
        let x = self.resnet.forward(tape, x, Some(time), dropout)?;
        match &self.attention {
            Some(attention) => attention.forward(tape, &x, context),
            None => Ok(x),
        }
    }
}

/// One forward pass.
struct Walk<'a, 'b> {
    tape: &'a Tape<'b>,
    time: Value,
    context: Value,
    dropout: Option<StepKey<'a>>,
    recomputes: bool,
}

impl Walk<'_, '_> {
    fn unit(&self, unit: &Unit, x: &Value) -> Result<Value> {
        let (inputs, unit) = ([x, &self.time, &self.context], unit.clone());
        recomputed(self.tape, self.recomputes, &inputs, self.dropout, move |tape, t, dropout| {
            unit.forward(tape, &t[0], &t[1], &t[2], dropout)
        })
    }

    /// Adds every block's output to `skips`.
    fn down(&self, level: &Level, mut x: Value, skips: &mut Vec<Value>) -> Result<Value> {
        for unit in &level.units {
            x = self.unit(unit, &x)?;
            skips.push(x.clone());
        }
        if let Some(sampler) = &level.sampler {
            x = sampler.forward(self.tape, &x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }

    /// Takes one skip for every block.
    fn up(&self, level: &Level, mut x: Value, skips: &mut Vec<Value>) -> Result<Value> {
        for unit in &level.units {
            let skip =
                skips.pop().expect("the way down left one skip for every block of the way up");
            x = self.unit(unit, &operation::join(self.tape, &x, &skip)?)?;
        }
        match &level.sampler {
            Some(sampler) => sampler.forward(self.tape, &x),
            None => Ok(x),
        }
    }
}

impl LevelSampler {
    fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        match self {
            Self::Down(conv) => conv.forward(tape, x),
            Self::Up(conv) => conv.forward(tape, &operation::upsample(tape, x)?),
        }
    }
}

/// Each example's text, [batch, tokens, channels].
fn context(condition: Condition, batch: usize, dtype: DType) -> Result<Tensor> {
    let Condition::Texts { embeddings, of } = condition else {
        bail!("this network wants the text of each example");
    };
    if of.len() != batch {
        bail!("U-Net: expected one text for each of {batch} images, got {}", of.len());
    }
    embeddings.index_select(&Tensor::new(of, embeddings.device())?, 0)?.to_dtype(dtype)
}

impl Network for UNet2dCondition {
    fn forward(&self, tape: &Tape, x: &Value, timesteps: &[f64], pass: &Pass) -> Result<Value> {
        let (batch, height, width, _) = x.tensor().dims4()?;
        let divisor = 1 << (self.down.len() - 1);
        if timesteps.len() != batch || height % divisor != 0 || width % divisor != 0 {
            bail!(
                "U-Net: expected one timestep for each of {batch} images and sides divisible by {divisor}, got {} and {height}x{width}",
                timesteps.len()
            );
        }
        let walk = Walk {
            tape,
            time: self.embed_time(tape, x.tensor(), timesteps)?,
            context: Value::constant(context(pass.condition, batch, x.tensor().dtype())?),
            dropout: pass.dropout,
            recomputes: pass.recomputes,
        };
        let mut x = self.conv_in.forward(tape, x)?;
        let mut skips = vec![x.clone()];
        for level in &self.down {
            x = walk.down(level, x, &mut skips)?;
        }
        x = walk.unit(&self.middle.first, &x)?;
        x = walk.unit(&self.middle.second, &x)?;
        for level in &self.up {
            x = walk.up(level, x, &mut skips)?;
        }
        self.conv_out.forward(tape, &self.conv_norm_out.forward(tape, &x)?)
    }
}

#[cfg(test)]
mod tests;
