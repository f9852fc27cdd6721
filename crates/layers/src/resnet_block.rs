//! The residual block of diffusion U-Nets, under diffusers' names.

use crate::conv::{Conv2d, Linear};
use crate::dropout::Dropout;
use crate::norm::{GroupNorm, NormSpec};
use crate::operation;
use candle_core::{Result, bail};
use lethe_candlex::params::Scope;
use lethe_candlex::rng::StepKey;
use lethe_candlex::tape::{Tape, Value};
use lethe_kernels::conv2d::Window;

/// How the time embedding enters: added before the second norm, or scaling and shifting behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeInjection {
    /// diffusers' "default".
    Add,
    /// diffusers' "scale_shift".
    ScaleShift,
}

/// What happens to the size of the image inside the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// It stays.
    Keep,
    /// Halved by averaging.
    Halve,
    /// Doubled by repeating.
    Double,
}

/// Everything that distinguishes one block from another but its channels.
#[derive(Clone, Debug)]
pub struct ResnetSpec {
    /// Channels of the time embedding; none in an autoencoder, which knows no time.
    pub time_channels: Option<usize>,
    /// Both norms, and the activation behind them.
    pub norm: NormSpec,
    /// Dropout rate.
    pub dropout: f64,
    /// How the time embedding enters.
    pub injection: TimeInjection,
    /// Divides the block's output.
    pub output_scale: f64,
}

/// diffusers' `ResnetBlock2D`.
#[derive(Clone, Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    dropout: Dropout,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    resize: Resize,
    injection: TimeInjection,
    output_scale: f64,
}

impl ResnetBlock {
    /// Declares `norm1`, `conv1`, `time_emb_proj` (where there is a time), `norm2`, `conv2` and, where channels change,
    /// `conv_shortcut`.
    pub fn declare(
        mut scope: Scope,
        channels_in: usize,
        channels_out: usize,
        spec: &ResnetSpec,
        resize: Resize,
    ) -> Self {
        let injected = match spec.injection {
            TimeInjection::Add => channels_out,
            TimeInjection::ScaleShift => 2 * channels_out,
        };
        let window = Window::same(3);
        Self {
            norm1: GroupNorm::declare(scope.at("norm1"), channels_in, spec.norm),
            conv1: Conv2d::declare(scope.at("conv1"), channels_in, channels_out, window),
            time_emb_proj: spec
                .time_channels
                .map(|time| Linear::declare(scope.at("time_emb_proj"), time, injected)),
            norm2: GroupNorm::declare(scope.at("norm2"), channels_out, spec.norm),
            dropout: Dropout::new(spec.dropout, scope.path()),
            conv2: Conv2d::declare(scope.at("conv2"), channels_out, channels_out, window),
            conv_shortcut: (channels_in != channels_out).then(|| {
                Conv2d::declare(
                    scope.at("conv_shortcut"),
                    channels_in,
                    channels_out,
                    Window::same(1),
                )
            }),
            resize,
            injection: spec.injection,
            output_scale: spec.output_scale,
        }
    }

    /// [batch, height, width, in] → [batch, height', width', out].
    ///
    /// `time`: [batch, time_channels], the activation of the embedding already taken, which all blocks share.
    ///
    /// # Errors
    /// When the channels differ from the declared ones, or a block that knows a time is told none.
    pub fn forward(
        &self,
        tape: &Tape,
        x: &Value,
        time: Option<&Value>,
        dropout: Option<StepKey>,
    ) -> Result<Value> {
        let hidden = self.resized(tape, &self.norm1.forward(tape, x)?)?;
        let shortcut = self.resized(tape, x)?;
        let hidden = match (&self.time_emb_proj, time) {
            (Some(project), Some(time)) => {
                self.injected(tape, &hidden, &project.forward(tape, time)?)?
            }
            (Some(_), None) => bail!("residual block: expected the embedding of a time, got none"),
            (None, _) => self.norm2.forward(tape, &self.conv1.forward(tape, &hidden)?)?,
        };
        let hidden = self.dropout.forward(tape, &hidden, dropout)?;
        let hidden = self.conv2.forward(tape, &hidden)?;
        let shortcut = match &self.conv_shortcut {
            Some(conv) => conv.forward(tape, &shortcut)?,
            None => shortcut,
        };
        operation::scale(tape, &operation::add(tape, &shortcut, &hidden)?, 1. / self.output_scale)
    }

    /// The first convolution and the second norm, told the projected time.
    fn injected(&self, tape: &Tape, hidden: &Value, time: &Value) -> Result<Value> {
        if self.injection == TimeInjection::Add {
            let hidden = self.conv1.forward_shifted(tape, hidden, time)?;
            return self.norm2.forward(tape, &hidden);
        }
        let hidden = self.conv1.forward(tape, hidden)?;
        let channels = time.tensor().dim(1)? / 2;
        let half =
            |first| tape.composed(&[time], move |t| t[0].narrow(1, first, channels)?.contiguous());
        self.norm2.forward_modulated(tape, &hidden, &half(0)?, &half(channels)?)
    }

    fn resized(&self, tape: &Tape, x: &Value) -> Result<Value> {
        match self.resize {
            Resize::Keep => Ok(x.clone()),
            Resize::Halve => operation::average_pool(tape, x),
            Resize::Double => operation::upsample(tape, x),
        }
    }
}
