//! Convolution of images with channels last, and its three gradients.
//!
//! Law: y[b, i, j, o] = bias[b, o] + Σ_{u, v, c} w[o, c, u, v] · x[b, s·i + u − p, s·j + v − p, c],
//! where x is zero outside, s is the stride and p the padding before.
//! Source: `torch.nn.Conv2d` (cross-correlation, groups 1, dilation 1), with channels last.
//!
//! | operand | shape |
//! |---|---|
//! | `x` | [batch, height, width, channels_in] |
//! | `w` | [channels_out, channels_in, kernel, kernel], as checkpoints store it |
//! | `bias` | [channels_out], or [batch, channels_out] so that a time embedding costs nothing |
//! | `y` | [batch, height_out, width_out, channels_out] |
//!
//! Each pass does 2 · batch · height_out · width_out · kernel² · channels_in · channels_out operations,
//! 4/9 of them where `winograd` applies (3x3, stride 1, enough channels and pixels), whose rounding error is about twice as large.
//! It reads each operand and writes its result once from memory, beside packed weights of up to 16/9 their size.
//! f32 in host memory runs `few_pixels`, `winograd` or `fast`, f64 the loops of `reference`, CUDA `device` or `cudnn`, all
//! else candle's operations (`composed`).
//! A 1x1 window is the linear layer: give its rows as pixels.

mod bias_gradient;
mod composed;
#[cfg(feature = "cudnn")]
mod cudnn;
mod device;
mod fast;
mod few_pixels;
mod panels;
mod reference;
#[cfg(test)]
mod tests;
mod weight_gradient;
mod winograd;
mod winograd_weight;

use crate::gpu::{dense, rows::sum};
use crate::view::{Route, View, in_full, route, tensor};
use candle_core::{Result, Tensor, bail};

/// The window that slides: a square kernel, its stride, and the zeros around the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Side of the kernel in pixels.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Zeros before the first row and column.
    pub before: usize,
    /// Zeros after the last row and column.
    pub after: usize,
}

impl Window {
    /// The window that keeps the image's size: odd `kernel`, stride 1.
    pub fn same(kernel: usize) -> Self {
        Self { kernel, stride: 1, before: kernel / 2, after: kernel / 2 }
    }

    /// Side of the output for an input of side `size`; `None` where no window fits.
    pub fn output(&self, size: usize) -> Option<usize> {
        (size + self.before + self.after)
            .checked_sub(self.kernel)
            .map(|room| room / self.stride + 1)
    }
}

/// Sizes of one convolution, checked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sizes {
    batch: usize,
    /// (height, width) of x.
    input: (usize, usize),
    /// (height, width) of y.
    output: (usize, usize),
    channels_in: usize,
    channels_out: usize,
    window: Window,
}

impl Sizes {
    fn new(x: &[usize], w: &[usize], window: Window) -> Result<Self> {
        let (&[batch, height, width, channels_in], &[channels_out, depth, rows, columns]) = (x, w)
        else {
            bail!(
                "conv2d: expected x [batch, height, width, channels] and w [out, in, kernel, kernel], got {x:?} and {w:?}"
            );
        };
        if depth != channels_in
            || rows != window.kernel
            || columns != window.kernel
            || window.stride == 0
        {
            bail!("conv2d: w {w:?} does not fit x {x:?} and {window:?}");
        }
        let (Some(height_out), Some(width_out)) = (window.output(height), window.output(width))
        else {
            bail!("conv2d: x {x:?} is smaller than {window:?}");
        };
        Ok(Self {
            batch,
            input: (height, width),
            output: (height_out, width_out),
            channels_in,
            channels_out,
            window,
        })
    }

    fn taps(&self) -> usize {
        self.window.kernel * self.window.kernel
    }

    fn x_shape(&self) -> [usize; 4] {
        [self.batch, self.input.0, self.input.1, self.channels_in]
    }

    fn w_shape(&self) -> [usize; 4] {
        [self.channels_out, self.channels_in, self.window.kernel, self.window.kernel]
    }

    fn y_shape(&self) -> [usize; 4] {
        [self.batch, self.output.0, self.output.1, self.channels_out]
    }

    fn expect_y(&self, dy: &Tensor) -> Result<()> {
        if dy.dims() != self.y_shape() {
            bail!(
                "conv2d: expected the output's gradient as {:?}, got {:?}",
                self.y_shape(),
                dy.dims()
            );
        }
        Ok(())
    }
}

/// How f32 in host memory is convolved; a function of the sizes alone.
enum Way {
    /// Weights outweigh pixels.
    FewPixels,
    /// 3x3 with fewer multiplications.
    Winograd,
    /// All else.
    Direct,
}

impl Way {
    fn of(sizes: &Sizes) -> Self {
        if few_pixels::applies(sizes) {
            Self::FewPixels
        } else if winograd::applies(sizes) {
            Self::Winograd
        } else {
            Self::Direct
        }
    }
}

/// y = w ∗ x + bias; shapes at the top of this file.
///
/// # Errors
/// When shapes, dtypes or devices do not fit, or an operand is not contiguous.
pub fn forward(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, window: Window) -> Result<Tensor> {
    let sizes = Sizes::new(x.dims(), w.dims(), window)?;
    if let Some(bias) = bias
        && bias.dims() != [sizes.channels_out]
        && bias.dims() != [sizes.batch, sizes.channels_out]
    {
        bail!(
            "conv2d: expected bias [{1}] or [{0}, {1}], got {2:?}",
            sizes.batch,
            sizes.channels_out,
            bias.dims()
        );
    }
    let operands: Vec<&Tensor> = [Some(x), Some(w), bias].into_iter().flatten().collect();
    let route = route("conv2d", &operands)?;
    match route {
        Route::Cuda => return device::forward(x, w, bias, &sizes),
        Route::Composed => return composed::forward(x, w, bias, &sizes),
        Route::Fast | Route::Reference => {}
    }
    let (x, w) = (View::of("conv2d x", x)?, View::of("conv2d w", w)?);
    let bias = bias.map(|bias| View::of("conv2d bias", bias)).transpose()?;
    let bias = bias.as_ref();
    if route == Route::Fast {
        let forward = match Way::of(&sizes) {
            Way::FewPixels => few_pixels::forward,
            Way::Winograd => winograd::forward,
            Way::Direct => fast::forward,
        };
        let bias = bias.map(View::f32).transpose()?;
        tensor(forward(x.f32()?, w.f32()?, bias, &sizes), &sizes.y_shape())
    } else {
        let bias = bias.map(View::f64).transpose()?;
        tensor(reference::forward(x.f64()?, w.f64()?, bias, &sizes), &sizes.y_shape())
    }
}

/// dx[b, i, j, c] = Σ over the outputs that read it: the transpose of [`forward`] in x.
///
/// `x_shape`: the shape of the forward pass's x.
///
/// # Errors
/// As [`forward`].
pub fn input_gradient(
    dy: &Tensor,
    w: &Tensor,
    x_shape: &[usize],
    window: Window,
) -> Result<Tensor> {
    let sizes = Sizes::new(x_shape, w.dims(), window)?;
    sizes.expect_y(dy)?;
    let route = route("conv2d", &[dy, w])?;
    match route {
        Route::Cuda => return device::input_gradient(dy, w, &sizes),
        Route::Composed => return composed::input_gradient(dy, w, &sizes),
        Route::Fast | Route::Reference => {}
    }
    let (dy, w) = (View::of("conv2d dy", dy)?, View::of("conv2d w", w)?);
    if route == Route::Reference {
        return tensor(reference::input_gradient(dy.f64()?, w.f64()?, &sizes), &sizes.x_shape());
    }
    let gradient = match Way::of(&sizes) {
        Way::FewPixels => few_pixels::input_gradient,
        Way::Winograd => winograd::input_gradient,
        Way::Direct => fast::input_gradient,
    };
    tensor(gradient(dy.f32()?, w.f32()?, &sizes), &sizes.x_shape())
}

/// dw[o, c, u, v] = Σ_{b, i, j} dy[b, i, j, o] · x[b, s·i + u − p, s·j + v − p, c].
///
/// # Errors
/// As [`forward`].
pub fn weight_gradient(x: &Tensor, dy: &Tensor, window: Window) -> Result<Tensor> {
    let w_shape = [dy.dim(3)?, x.dim(3)?, window.kernel, window.kernel];
    let sizes = Sizes::new(x.dims(), &w_shape, window)?;
    sizes.expect_y(dy)?;
    let route = route("conv2d", &[x, dy])?;
    match route {
        Route::Cuda => return device::weight_gradient(x, dy, &sizes),
        Route::Composed => return composed::weight_gradient(x, dy, &sizes),
        Route::Fast | Route::Reference => {}
    }
    let (x, dy) = (View::of("conv2d x", x)?, View::of("conv2d dy", dy)?);
    if route == Route::Reference {
        return tensor(reference::weight_gradient(x.f64()?, dy.f64()?, &sizes), &sizes.w_shape());
    }
    let gradient = match Way::of(&sizes) {
        Way::FewPixels => few_pixels::weight_gradient,
        Way::Winograd => winograd_weight::weight_gradient,
        Way::Direct => weight_gradient::weight_gradient,
    };
    tensor(gradient(x.f32()?, dy.f32()?, &sizes), &sizes.w_shape())
}

/// db[b, o] = Σ_{i, j} dy[b, i, j, o], summed over b as well where the bias is the same for all.
///
/// `bias_shape`: the forward pass's bias, [channels_out] or [batch, channels_out].
///
/// # Errors
/// When `bias_shape` does not fit `dy`, or `dy` is not contiguous.
pub fn bias_gradient(dy: &Tensor, bias_shape: &[usize]) -> Result<Tensor> {
    let (batch, height, width, channels) = dy.dims4()?;
    if bias_shape != [channels] && bias_shape != [batch, channels] {
        bail!("conv2d: a bias {bias_shape:?} does not fit an output {:?}", dy.dims());
    }
    let examples = if bias_shape.len() == 2 { batch } else { 1 };
    let route = route("conv2d", &[dy])?;
    if route == Route::Cuda {
        dense("conv2d dy", dy)?;
        let rows = batch * height * width / examples.max(1);
        return sum(dy, [examples, rows, channels], dy.dtype())?.reshape(bias_shape);
    }
    if route == Route::Composed {
        return in_full(&[dy], |t| {
            t[0].reshape((examples, (), channels))?.sum(1)?.reshape(bias_shape)
        });
    }
    let dy = View::of("conv2d dy", dy)?;
    let rows = batch * height * width / examples.max(1);
    match route {
        Route::Fast => tensor(bias_gradient::fast(dy.f32()?, rows, channels), bias_shape),
        _ => tensor(bias_gradient::reference(dy.f64()?, rows, channels), bias_shape),
    }
}
