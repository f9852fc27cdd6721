//! Convolution and linear layers: `weight` and `bias`, as torch names and shapes them.

use crate::operation;
use candle_core::Result;
use lethe_candlex::params::{Init, Scope};
use lethe_candlex::tape::{Tape, Value};
pub use lethe_kernels::conv2d::Window;

/// `torch.nn.Conv2d` with a square kernel, over images with channels last.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: usize,
    bias: usize,
    window: Window,
}

impl Conv2d {
    /// Declares `weight` [out, in, kernel, kernel] and `bias` [out].
    pub fn declare(
        mut scope: Scope,
        channels_in: usize,
        channels_out: usize,
        window: Window,
    ) -> Self {
        let init = Init::FanIn(channels_in * window.kernel * window.kernel);
        let weight = scope.declare(
            "weight",
            &[channels_out, channels_in, window.kernel, window.kernel],
            init,
        );
        Self { weight, bias: scope.declare("bias", &[channels_out], init), window }
    }

    /// [batch, height, width, in] → [batch, height_out, width_out, out].
    ///
    /// # Errors
    /// When the channels differ from the declared ones, or no window fits.
    pub fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        operation::convolve(
            tape,
            x,
            &tape.parameter(self.weight),
            Some(&tape.parameter(self.bias)),
            self.window,
        )
    }

    /// As [`Conv2d::forward`], plus `shift` [batch, out] at every pixel.
    ///
    /// # Errors
    /// As [`Conv2d::forward`].
    pub fn forward_shifted(&self, tape: &Tape, x: &Value, shift: &Value) -> Result<Value> {
        let bias = operation::add_row(tape, shift, &tape.parameter(self.bias))?;
        operation::convolve(tape, x, &tape.parameter(self.weight), Some(&bias), self.window)
    }
}

/// `torch.nn.Linear`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: usize,
    bias: Option<usize>,
    /// [in, out].
    channels: [usize; 2],
    adapter: Option<Adapter>,
}

/// A low-rank addition to a linear layer: y ← W·x + b + scale · up·(down·x).
///
/// Source: Hu et al. 2021 (LoRA), eq. 3, with scale = alpha / rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// Index of A, [rank, in].
    pub down: usize,
    /// Index of B, [out, rank].
    pub up: usize,
    /// alpha / rank.
    pub scale: f64,
}

impl Linear {
    /// Declares `weight` [out, in] and `bias` [out].
    pub fn declare(mut scope: Scope, channels_in: usize, channels_out: usize) -> Self {
        let init = Init::FanIn(channels_in);
        let weight = scope.declare("weight", &[channels_out, channels_in], init);
        let bias = Some(scope.declare("bias", &[channels_out], init));
        Self { weight, bias, channels: [channels_in, channels_out], adapter: None }
    }

    /// Declares `weight` [out, in] alone.
    pub fn declare_unbiased(mut scope: Scope, channels_in: usize, channels_out: usize) -> Self {
        let init = Init::FanIn(channels_in);
        let weight = scope.declare("weight", &[channels_out, channels_in], init);
        Self { weight, bias: None, channels: [channels_in, channels_out], adapter: None }
    }

    /// Takes the adapter that `adapt` has for the layer called `name`.
    pub fn adapt(&mut self, name: &str, adapt: &mut crate::transformer::Adapt) {
        self.adapter = adapt(name, self.channels);
    }

    /// [.., in] → [.., out].
    ///
    /// # Errors
    /// When the channels differ from the declared ones.
    pub fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        let bias = self.bias.map(|bias| tape.parameter(bias));
        let y = operation::linear(tape, x, &tape.parameter(self.weight), bias.as_ref())?;
        let Some(Adapter { down, up, scale }) = self.adapter else { return Ok(y) };
        let low = operation::linear(tape, x, &tape.parameter(down), None)?;
        let more = operation::linear(tape, &low, &tape.parameter(up), None)?;
        operation::add(tape, &y, &operation::scale(tape, &more, scale)?)
    }
}
