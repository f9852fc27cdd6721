//! From a configuration to the blocks of the U-Net.

use super::config::UNet2dConditionConfig;
use super::{Level, LevelSampler, Middle, UNet2dCondition, Unit};
use lethe_candlex::params::Declarations;
use lethe_layers::activation::Activation;
use lethe_layers::conv::{Conv2d, Window};
use lethe_layers::norm::{GroupNorm, NormSpec};
use lethe_layers::resnet_block::{Resize, ResnetBlock, ResnetSpec, TimeInjection};
use lethe_layers::time_embedding::{Sinusoids, TimestepEmbedding};
use lethe_layers::transformer::{Transformer2d, TransformerSpec};

/// Declares blocks from one validated configuration.
pub struct Builder<'a> {
    config: &'a UNet2dConditionConfig,
    resnet: ResnetSpec,
    declarations: Declarations,
}

impl<'a> Builder<'a> {
    pub fn new(config: &'a UNet2dConditionConfig) -> Self {
        let norm = NormSpec {
            groups: config.norm_num_groups,
            epsilon: config.norm_eps,
            activation: Some(Activation::Silu),
        };
        let resnet = ResnetSpec {
            time_channels: Some(4 * config.block_out_channels[0]),
            norm,
            dropout: config.dropout,
            injection: TimeInjection::Add,
            output_scale: 1.,
        };
        Self { config, resnet, declarations: Declarations::default() }
    }

    pub fn build(mut self) -> (UNet2dCondition, Declarations) {
        let (config, window) = (self.config, Window::same(3));
        let first = config.block_out_channels[0];
        let conv_in =
            Conv2d::declare(self.declarations.at("conv_in"), config.in_channels, first, window);
        let time = 4 * first;
        let time_embedding =
            TimestepEmbedding::declare(self.declarations.at("time_embedding"), first, time);
        let (down, middle, up) = (self.down(), self.middle(), self.up());
        let conv_norm_out =
            GroupNorm::declare(self.declarations.at("conv_norm_out"), first, self.resnet.norm);
        let conv_out =
            Conv2d::declare(self.declarations.at("conv_out"), first, config.out_channels, window);
        let time_proj = Sinusoids {
            channels: first,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
        };
        let unet = UNet2dCondition {
            time_proj,
            time_embedding,
            conv_in,
            down,
            middle,
            up,
            conv_norm_out,
            conv_out,
        };
        (unet, self.declarations)
    }

    fn resnet(&mut self, place: &str, channels: [usize; 2]) -> ResnetBlock {
        let [channels_in, channels_out] = channels;
        let scope = self.declarations.at(place);
        ResnetBlock::declare(scope, channels_in, channels_out, &self.resnet, Resize::Keep)
    }

    fn attention(&mut self, place: &str, level: usize) -> Transformer2d {
        let config = self.config;
        let spec = TransformerSpec {
            heads: config.heads(level).expect("the configuration was validated"),
            context_channels: config.cross_attention_dim,
            groups: config.norm_num_groups,
            layers: config.transformer_layers_per_block,
            has_linear_projection: config.use_linear_projection,
        };
        Transformer2d::declare(self.declarations.at(place), config.block_out_channels[level], spec)
    }

    /// The units of one place of the tree; `level` counts from the image, whichever way one goes.
    fn units(&mut self, place: &str, inputs: &[usize], level: usize, attends: bool) -> Vec<Unit> {
        let width = self.config.block_out_channels[level];
        let unit = |(i, &channels_in): (usize, &usize)| Unit {
            resnet: self.resnet(&format!("{place}.resnets.{i}"), [channels_in, width]),
            attention: attends.then(|| self.attention(&format!("{place}.attentions.{i}"), level)),
        };
        inputs.iter().enumerate().map(unit).collect()
    }

    fn down(&mut self) -> Vec<Level> {
        let config = self.config;
        let widths = &config.block_out_channels;
        let levels = config.down_block_types.iter().enumerate().map(|(level, kind)| {
            let (before, width) = (widths[level.saturating_sub(1)], widths[level]);
            let mut inputs = vec![width; config.layers_per_block];
            inputs[0] = before;
            let place = format!("down_blocks.{level}");
            let units = self.units(&place, &inputs, level, kind.starts_with("CrossAttn"));
            let has_next = level + 1 < widths.len();
            Level { units, sampler: has_next.then(|| self.down_sampler(&place, width)) }
        });
        levels.collect()
    }

    fn up(&mut self) -> Vec<Level> {
        let config = self.config;
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let last = widths.len() - 1;
        let levels = config.up_block_types.iter().enumerate().map(|(k, kind)| {
            let (before, width, below) =
                (widths[k.saturating_sub(1)], widths[k], widths[(k + 1).min(last)]);
            // What comes from before, joined with what the way down left at the same size.
            let inputs: Vec<usize> = (0..=config.layers_per_block)
                .map(|i| {
                    let skip = if i == config.layers_per_block { below } else { width };
                    skip + if i == 0 { before } else { width }
                })
                .collect();
            let place = format!("up_blocks.{k}");
            let units = self.units(&place, &inputs, last - k, kind.starts_with("CrossAttn"));
            Level { units, sampler: (k < last).then(|| self.up_sampler(&place, width)) }
        });
        levels.collect()
    }

    fn down_sampler(&mut self, place: &str, width: usize) -> LevelSampler {
        // With padding 0 diffusers adds one row and column of zeros behind.
        let window =
            Window { kernel: 3, stride: 2, before: self.config.downsample_padding, after: 1 };
        let place = format!("{place}.downsamplers.0.conv");
        LevelSampler::Down(Conv2d::declare(self.declarations.at(&place), width, width, window))
    }

    fn up_sampler(&mut self, place: &str, width: usize) -> LevelSampler {
        let place = format!("{place}.upsamplers.0.conv");
        let window = Window::same(3);
        LevelSampler::Up(Conv2d::declare(self.declarations.at(&place), width, width, window))
    }

    fn middle(&mut self) -> Middle {
        let level = self.config.block_out_channels.len() - 1;
        let width = self.config.block_out_channels[level];
        let scale = self.config.mid_block_scale_factor;
        let plain = std::mem::replace(&mut self.resnet.output_scale, scale);
        let first = self.resnet("mid_block.resnets.0", [width, width]);
        let attention = Some(self.attention("mid_block.attentions.0", level));
        let second = self.resnet("mid_block.resnets.1", [width, width]);
        self.resnet.output_scale = plain;
        Middle {
            first: Unit { resnet: first, attention },
            second: Unit { resnet: second, attention: None },
        }
    }
}
