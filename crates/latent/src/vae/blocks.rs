//! The two halves of the autoencoder: blocks from the image inwards, and outwards again.

use super::{AutoencoderKl, AutoencoderKlConfig};
use candle_core::Result;
use lethe_candlex::params::Declarations;
use lethe_candlex::tape::{Tape, Value};
use lethe_layers::activation::Activation;
use lethe_layers::attention::ImageAttention;
use lethe_layers::conv::{Conv2d, Window};
use lethe_layers::norm::{GroupNorm, NormSpec};
use lethe_layers::operation;
use lethe_layers::resnet_block::{Resize, ResnetBlock, ResnetSpec, TimeInjection};

/// ε of every norm, which no configuration says.
const EPSILON: f64 = 1e-6;

/// Encoder or decoder: the middle comes behind the levels of one, and before those of the other.
#[derive(Clone, Debug)]
pub(super) struct Half {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    is_encoder: bool,
}

#[derive(Clone, Debug)]
struct Level {
    resnets: Vec<ResnetBlock>,
    sampler: Option<Conv2d>,
}

#[derive(Clone, Debug)]
struct Middle {
    first: ResnetBlock,
    attention: Option<ImageAttention>,
    second: ResnetBlock,
}

impl Half {
    /// # Errors
    /// When shapes do not fit.
    pub(super) fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        let mut x = self.conv_in.forward(tape, x)?;
        if !self.is_encoder {
            x = self.middle.forward(tape, &x)?;
        }
        for level in &self.levels {
            x = level.forward(tape, x, self.is_encoder)?;
        }
        if self.is_encoder {
            x = self.middle.forward(tape, &x)?;
        }
        self.conv_out.forward(tape, &self.conv_norm_out.forward(tape, &x)?)
    }
}

impl Level {
    fn forward(&self, tape: &Tape, mut x: Value, halves: bool) -> Result<Value> {
        for resnet in &self.resnets {
            x = resnet.forward(tape, &x, None, None)?;
        }
        match &self.sampler {
            None => Ok(x),
            Some(conv) if halves => conv.forward(tape, &x),
            Some(conv) => conv.forward(tape, &operation::upsample(tape, &x)?),
        }
    }
}

impl Middle {
    fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        let mut x = self.first.forward(tape, x, None, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(tape, &x)?;
        }
        self.second.forward(tape, &x, None, None)
    }
}

/// Declares blocks from one validated configuration.
pub(super) struct Builder<'a> {
    config: &'a AutoencoderKlConfig,
    resnet: ResnetSpec,
    declarations: Declarations,
}

impl<'a> Builder<'a> {
    pub(super) fn new(config: &'a AutoencoderKlConfig) -> Self {
        let activation = Some(Activation::Silu);
        let resnet = ResnetSpec {
            time_channels: None,
            norm: NormSpec { groups: config.norm_num_groups, epsilon: EPSILON, activation },
            dropout: 0.,
            injection: TimeInjection::Add,
            output_scale: 1.,
        };
        Self { config, resnet, declarations: Declarations::default() }
    }

    pub(super) fn build(mut self) -> (AutoencoderKl, Declarations) {
        let config = self.config;
        let latent = config.latent_channels;
        let encoder = self.encoder();
        let decoder = self.decoder();
        let mut square = |name: &str, channels| {
            Conv2d::declare(self.declarations.at(name), channels, channels, Window::same(1))
        };
        let vae = AutoencoderKl {
            quant_conv: config.use_quant_conv.then(|| square("quant_conv", 2 * latent)),
            post_quant_conv: config.use_post_quant_conv.then(|| square("post_quant_conv", latent)),
            encoder,
            decoder,
            scaling_factor: config.scaling_factor,
        };
        (vae, self.declarations)
    }

    fn conv(&mut self, place: &str, channels: [usize; 2], window: Window) -> Conv2d {
        Conv2d::declare(self.declarations.at(place), channels[0], channels[1], window)
    }

    fn resnets(&mut self, place: &str, n: usize, channels: [usize; 2]) -> Vec<ResnetBlock> {
        let [first, width] = channels;
        let resnet = |i| {
            let before = if i == 0 { first } else { width };
            let scope = self.declarations.at(&format!("{place}.resnets.{i}"));
            ResnetBlock::declare(scope, before, width, &self.resnet, Resize::Keep)
        };
        (0..n).map(resnet).collect()
    }

    fn middle(&mut self, half: &str, width: usize) -> Middle {
        let place = format!("{half}.mid_block");
        let mut resnets = self.resnets(&place, 2, [width, width]);
        let norm = NormSpec { activation: None, ..self.resnet.norm };
        let attention = self.config.mid_block_add_attention.then(|| {
            let scope = self.declarations.at(&format!("{place}.attentions.0"));
            ImageAttention::declare(scope, width, 1, Some(norm), 1.)
        });
        let second = resnets.pop().expect("two were declared");
        let first = resnets.pop().expect("two were declared");
        Middle { first, attention, second }
    }

    fn norm_out(&mut self, half: &str, width: usize) -> GroupNorm {
        let scope = self.declarations.at(&format!("{half}.conv_norm_out"));
        GroupNorm::declare(scope, width, self.resnet.norm)
    }

    fn encoder(&mut self) -> Half {
        let config = self.config;
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let conv_in = self.conv("encoder.conv_in", [config.in_channels, first], Window::same(3));
        let mut levels = Vec::new();
        for (k, &width) in widths.iter().enumerate() {
            let place = format!("encoder.down_blocks.{k}");
            let before = widths[k.saturating_sub(1)];
            let resnets = self.resnets(&place, config.layers_per_block, [before, width]);
            // diffusers adds one row and column of zeros behind, and none before.
            let window = Window { kernel: 3, stride: 2, before: 0, after: 1 };
            let place = format!("{place}.downsamplers.0.conv");
            let sampler = (k + 1 < widths.len()).then(|| self.conv(&place, [width, width], window));
            levels.push(Level { resnets, sampler });
        }
        let middle = self.middle("encoder", last);
        let conv_norm_out = self.norm_out("encoder", last);
        let moments = 2 * config.latent_channels;
        let conv_out = self.conv("encoder.conv_out", [last, moments], Window::same(3));
        Half { conv_in, levels, middle, conv_norm_out, conv_out, is_encoder: true }
    }

    fn decoder(&mut self) -> Half {
        let config = self.config;
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let window = Window::same(3);
        let conv_in = self.conv("decoder.conv_in", [config.latent_channels, first], window);
        let middle = self.middle("decoder", first);
        let mut levels = Vec::new();
        for (k, &width) in widths.iter().enumerate() {
            let place = format!("decoder.up_blocks.{k}");
            let before = widths[k.saturating_sub(1)];
            let resnets = self.resnets(&place, config.layers_per_block + 1, [before, width]);
            let place = format!("{place}.upsamplers.0.conv");
            let sampler = (k + 1 < widths.len()).then(|| self.conv(&place, [width, width], window));
            levels.push(Level { resnets, sampler });
        }
        let conv_norm_out = self.norm_out("decoder", last);
        let conv_out = self.conv("decoder.conv_out", [last, config.out_channels], window);
        Half { conv_in, levels, middle, conv_norm_out, conv_out, is_encoder: false }
    }
}
