//! `UNet2DModel`: the network of Ho et al. 2020, under diffusers' names.
//!
//! | tensor | shape |
//! |---|---|
//! | input x | [batch, height, width, in_channels] |
//! | output | [batch, height, width, out_channels] |
//!
//! Unlike diffusers, images have their channels last.

use crate::config::UNet2dConfig;
use crate::error::PixelError;
use candle_core::{Result, Tensor, bail};
use lethe_candlex::params::{Declarations, Init};
use lethe_candlex::tape::{Tape, Value};
use lethe_diffusion::denoiser::{Condition, Network, Pass};
use lethe_layers::activation::Activation;
use lethe_layers::attention::ImageAttention;
use lethe_layers::conv::{Conv2d, Window};
use lethe_layers::norm::{GroupNorm, NormSpec};
use lethe_layers::operation;
use lethe_layers::recomputed::recomputed;
use lethe_layers::resnet_block::{Resize, ResnetBlock, ResnetSpec, TimeInjection};
use lethe_layers::time_embedding::{Sinusoids, TimestepEmbedding};

/// The structure; the numbers live in a [`lethe_candlex::params::ParamStore`].
#[derive(Clone, Debug)]
pub struct UNet2d {
    center_input: bool,
    time_proj: Sinusoids,
    time_embedding: TimestepEmbedding,
    /// Index of the class embedding [classes, time channels].
    class_embedding: Option<usize>,
    activation: Activation,
    conv_in: Conv2d,
    down: Vec<Level>,
    middle: Option<Middle>,
    up: Vec<Level>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// The blocks of one level, on the way down or up.
#[derive(Clone, Debug)]
struct Level {
    resnets: Vec<ResnetBlock>,
    /// As many as resnets, or none.
    attentions: Vec<ImageAttention>,
    sampler: Option<LevelSampler>,
}

/// What leads to the next level.
#[derive(Clone, Debug)]
enum LevelSampler {
    Down(Conv2d),
    Up(Conv2d),
    Resnet(Box<ResnetBlock>),
}

#[derive(Clone, Debug)]
struct Middle {
    first: ResnetBlock,
    attention: Option<ImageAttention>,
    second: ResnetBlock,
}

/// Declares blocks from one configuration.
struct Builder<'a> {
    config: &'a UNet2dConfig,
    resnet: ResnetSpec,
    declarations: Declarations,
}

impl UNet2d {
    /// The network of `config` and the parameters that it declares.
    ///
    /// # Errors
    /// [`PixelError::Config`] for a configuration that it does not know.
    pub fn new(config: &UNet2dConfig) -> std::result::Result<(Self, Declarations), PixelError> {
        config.validate()?;
        let mut builder = Builder::new(config);
        let (first, time) = (config.block_out_channels[0], time_channels(config));
        let window = Window::same(3);
        let conv_in =
            Conv2d::declare(builder.declarations.at("conv_in"), config.in_channels, first, window);
        let time_embedding =
            TimestepEmbedding::declare(builder.declarations.at("time_embedding"), first, time);
        let class_embedding = config.num_class_embeds.map(|classes| {
            builder.declarations.declare(
                "class_embedding.weight",
                &[classes, time],
                Init::Normal { deviation: 1. },
            )
        });
        let (down, middle, up) = (builder.down(), builder.middle(), builder.up());
        let norm_out = NormSpec { activation: Some(Activation::Silu), ..builder.resnet.norm };
        let conv_norm_out =
            GroupNorm::declare(builder.declarations.at("conv_norm_out"), first, norm_out);
        let conv_out = Conv2d::declare(
            builder.declarations.at("conv_out"),
            first,
            config.out_channels,
            window,
        );
        let time_proj = Sinusoids {
            channels: first,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
        };
        let unet = Self {
            center_input: config.center_input_sample,
            time_proj,
            time_embedding,
            class_embedding,
            activation: activation(config),
            conv_in,
            down,
            middle,
            up,
            conv_norm_out,
            conv_out,
        };
        Ok((unet, builder.declarations))
    }

    /// [batch, time channels], the activation that every block takes of it already taken.
    fn embed_time(
        &self,
        tape: &Tape,
        x: &Tensor,
        timesteps: &[f64],
        condition: Condition,
    ) -> Result<Value> {
        let sinusoids = self.time_proj.embed(timesteps, x.dtype(), x.device())?;
        let time = self.time_embedding.forward(tape, &Value::constant(sinusoids))?;
        let time = match (self.class_embedding, condition) {
            (None, Condition::Unconditional) => time,
            (Some(index), Condition::Classes(classes)) => {
                let classes = Tensor::new(classes, x.device())?;
                let weight = tape.parameter(index);
                let rows = tape.composed(&[&weight], move |t| t[0].index_select(&classes, 0))?;
                operation::add(tape, &time, &rows)?
            }
            (None, Condition::Classes(_)) => {
                bail!("this network takes no classes (num_class_embeds is none)")
            }
            (Some(_), Condition::Unconditional) => {
                bail!("this network wants the class of each example")
            }
            (_, Condition::Texts { .. }) => bail!("this network takes no texts"),
        };
        self.activation.forward(tape, &time)
    }
}

/// Channels of the time embedding.
fn time_channels(config: &UNet2dConfig) -> usize {
    config.time_embedding_dim.unwrap_or(4 * config.block_out_channels[0])
}

fn activation(config: &UNet2dConfig) -> Activation {
    Activation::named(&config.act_fn).expect("the configuration was validated")
}

impl<'a> Builder<'a> {
    fn new(config: &'a UNet2dConfig) -> Self {
        let norm = NormSpec {
            groups: config.norm_num_groups,
            epsilon: config.norm_eps,
            activation: Some(activation(config)),
        };
        let injection = match config.resnet_time_scale_shift.as_str() {
            "scale_shift" => TimeInjection::ScaleShift,
            _ => TimeInjection::Add,
        };
        let resnet = ResnetSpec {
            time_channels: Some(time_channels(config)),
            norm,
            dropout: config.dropout,
            injection,
            output_scale: 1.,
        };
        Self { config, resnet, declarations: Declarations::default() }
    }

    fn resnet(
        &mut self,
        place: &str,
        channels_in: usize,
        channels_out: usize,
        resize: Resize,
    ) -> ResnetBlock {
        ResnetBlock::declare(
            self.declarations.at(place),
            channels_in,
            channels_out,
            &self.resnet,
            resize,
        )
    }

    fn attention(
        &mut self,
        place: &str,
        channels: usize,
        groups: Option<usize>,
        scale: f64,
    ) -> ImageAttention {
        let heads = channels / self.config.attention_head_dim.unwrap_or(channels).min(channels);
        let norm = groups.map(|groups| NormSpec {
            groups,
            epsilon: self.config.norm_eps,
            activation: None,
        });
        ImageAttention::declare(self.declarations.at(place), channels, heads, norm, scale)
    }

    fn down(&mut self) -> Vec<Level> {
        let config = self.config;
        let widths = &config.block_out_channels;
        let levels = config.down_block_types.iter().enumerate().map(|(level, kind)| {
            let (before, width) = (widths[level.saturating_sub(1)], widths[level]);
            let inputs: Vec<usize> =
                (0..config.layers_per_block).map(|i| if i == 0 { before } else { width }).collect();
            let place = format!("down_blocks.{level}");
            let attends = kind == "AttnDownBlock2D";
            let (resnets, attentions) = self.blocks(&place, &inputs, width, attends);
            let resnet = attends && config.downsample_type == "resnet";
            let sampler =
                (level + 1 < widths.len()).then(|| self.down_sampler(&place, width, resnet));
            Level { resnets, attentions, sampler }
        });
        levels.collect()
    }

    fn up(&mut self) -> Vec<Level> {
        let config = self.config;
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let levels = config.up_block_types.iter().enumerate().map(|(level, kind)| {
            let (before, width) = (widths[level.saturating_sub(1)], widths[level]);
            let below = widths[(level + 1).min(widths.len() - 1)];
            // What comes from before, joined with what the way down left at the same size.
            let inputs: Vec<usize> = (0..=config.layers_per_block)
                .map(|i| {
                    let skip = if i == config.layers_per_block { below } else { width };
                    skip + if i == 0 { before } else { width }
                })
                .collect();
            let place = format!("up_blocks.{level}");
            let attends = kind == "AttnUpBlock2D";
            let (resnets, attentions) = self.blocks(&place, &inputs, width, attends);
            let resnet = attends && config.upsample_type == "resnet";
            let sampler =
                (level + 1 < widths.len()).then(|| self.up_sampler(&place, width, resnet));
            Level { resnets, attentions, sampler }
        });
        levels.collect()
    }

    fn blocks(
        &mut self,
        place: &str,
        inputs: &[usize],
        width: usize,
        attends: bool,
    ) -> (Vec<ResnetBlock>, Vec<ImageAttention>) {
        let groups = Some(self.config.norm_num_groups);
        let (mut resnets, mut attentions) = (Vec::new(), Vec::new());
        for (i, &channels_in) in inputs.iter().enumerate() {
            resnets.push(self.resnet(
                &format!("{place}.resnets.{i}"),
                channels_in,
                width,
                Resize::Keep,
            ));
            if attends {
                attentions.push(self.attention(
                    &format!("{place}.attentions.{i}"),
                    width,
                    groups,
                    1.,
                ));
            }
        }
        (resnets, attentions)
    }

    fn down_sampler(&mut self, place: &str, width: usize, resnet: bool) -> LevelSampler {
        if resnet {
            let block =
                self.resnet(&format!("{place}.downsamplers.0"), width, width, Resize::Halve);
            return LevelSampler::Resnet(Box::new(block));
        }
        // With padding 0 diffusers adds one row and column of zeros behind.
        let before = self.config.downsample_padding;
        let window = Window { kernel: 3, stride: 2, before, after: 1 };
        let place = format!("{place}.downsamplers.0.conv");
        LevelSampler::Down(Conv2d::declare(self.declarations.at(&place), width, width, window))
    }

    fn up_sampler(&mut self, place: &str, width: usize, resnet: bool) -> LevelSampler {
        if resnet {
            let block = self.resnet(&format!("{place}.upsamplers.0"), width, width, Resize::Double);
            return LevelSampler::Resnet(Box::new(block));
        }
        let place = format!("{place}.upsamplers.0.conv");
        LevelSampler::Up(Conv2d::declare(
            self.declarations.at(&place),
            width,
            width,
            Window::same(3),
        ))
    }

    fn middle(&mut self) -> Option<Middle> {
        self.config.mid_block_type.as_ref()?;
        let config = self.config;
        let width = *config.block_out_channels.last()?;
        let scale = config.mid_block_scale_factor;
        let plain = std::mem::replace(&mut self.resnet.output_scale, scale);
        let first = self.resnet("mid_block.resnets.0", width, width, Resize::Keep);
        let second = self.resnet("mid_block.resnets.1", width, width, Resize::Keep);
        self.resnet.output_scale = plain;
        let added = self.resnet.injection == TimeInjection::Add;
        let groups = config.attn_norm_num_groups.or(added.then_some(config.norm_num_groups));
        let attention = config
            .add_attention
            .then(|| self.attention("mid_block.attentions.0", width, groups, scale));
        Some(Middle { first, attention, second })
    }
}

/// One forward pass.
struct Walk<'a, 'b> {
    tape: &'a Tape<'b>,
    time: Value,
    pass: &'a Pass<'a>,
}

impl Walk<'_, '_> {
    fn resnet(&self, block: &ResnetBlock, x: &Value) -> Result<Value> {
        self.unit(block, None, x)
    }

    fn block(&self, level: &Level, i: usize, x: &Value) -> Result<Value> {
        self.unit(&level.resnets[i], level.attentions.get(i), x)
    }

    /// A residual block and the attention behind it: what is recomputed as one.
    fn unit(
        &self,
        block: &ResnetBlock,
        attention: Option<&ImageAttention>,
        x: &Value,
    ) -> Result<Value> {
        let (block, attention, Pass { dropout, recomputes, .. }) =
            (block.clone(), attention.cloned(), *self.pass);
        recomputed(self.tape, recomputes, &[x, &self.time], dropout, move |tape, t, dropout| {
            let x = block.forward(tape, &t[0], Some(&t[1]), dropout)?;
            attention.as_ref().map_or(Ok(x.clone()), |attention| attention.forward(tape, &x))
        })
    }

    /// Adds every block's output to `skips`.
    fn down(&self, level: &Level, mut x: Value, skips: &mut Vec<Value>) -> Result<Value> {
        for i in 0..level.resnets.len() {
            x = self.block(level, i, &x)?;
            skips.push(x.clone());
        }
        if let Some(sampler) = &level.sampler {
            x = self.sample(sampler, &x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }

    /// Takes one skip for every block.
    fn up(&self, level: &Level, mut x: Value, skips: &mut Vec<Value>) -> Result<Value> {
        for i in 0..level.resnets.len() {
            let skip =
                skips.pop().expect("the way down left one skip for every block of the way up");
            x = self.block(level, i, &operation::join(self.tape, &x, &skip)?)?;
        }
        match &level.sampler {
            Some(sampler) => self.sample(sampler, &x),
            None => Ok(x),
        }
    }

    fn sample(&self, sampler: &LevelSampler, x: &Value) -> Result<Value> {
        match sampler {
            LevelSampler::Down(conv) => conv.forward(self.tape, x),
            LevelSampler::Up(conv) => conv.forward(self.tape, &operation::upsample(self.tape, x)?),
            LevelSampler::Resnet(block) => self.resnet(block, x),
        }
    }

    fn middle(&self, middle: &Middle, x: &Value) -> Result<Value> {
        let x = self.unit(&middle.first, middle.attention.as_ref(), x)?;
        self.resnet(&middle.second, &x)
    }
}

impl Network for UNet2d {
    fn forward(&self, tape: &Tape, x: &Value, timesteps: &[f64], pass: &Pass) -> Result<Value> {
        let (batch, height, width, _) = x.tensor().dims4()?;
        let divisor = 1 << (self.down.len() - 1);
        if timesteps.len() != batch || height % divisor != 0 || width % divisor != 0 {
            bail!(
                "U-Net: expected one timestep for each of {batch} images and sides divisible by {divisor}, got {} and {height}x{width}",
                timesteps.len()
            );
        }
        let x = match self.center_input {
            true => tape.composed(&[x], |t| t[0].affine(2., -1.))?,
            false => x.clone(),
        };
        let time = self.embed_time(tape, x.tensor(), timesteps, pass.condition)?;
        let walk = Walk { tape, time, pass };
        let mut x = self.conv_in.forward(tape, &x)?;
        let mut skips = vec![x.clone()];
        for level in &self.down {
            x = walk.down(level, x, &mut skips)?;
        }
        if let Some(middle) = &self.middle {
            x = walk.middle(middle, &x)?;
        }
        for level in &self.up {
            x = walk.up(level, x, &mut skips)?;
        }
        self.conv_out.forward(tape, &self.conv_norm_out.forward(tape, &x)?)
    }
}
