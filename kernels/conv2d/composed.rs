//! The law in candle's own operations: for CUDA and half precision, and a third voice in the tests.

use super::{Sizes, Window};
use crate::view::factor;
use candle_core::{Result, Tensor, Var};

fn padded(x: &Tensor, window: Window) -> Result<Tensor> {
    let x = x.permute((0, 3, 1, 2))?.contiguous()?; // [batch, channels, height, width]
    if window.before == window.after {
        return Ok(x);
    }
    x.pad_with_zeros(2, window.before, window.after)?.pad_with_zeros(3, window.before, window.after)
}

/// Whether it is a product of matrices, as every linear layer is.
fn is_linear(sizes: &Sizes) -> bool {
    sizes.window == Window::same(1)
}

/// A product's operand: [rows, channels].
fn rows(x: &Tensor) -> Result<Tensor> {
    x.reshape(((), x.dim(3)?))
}

/// w as [out, in].
fn matrix(w: &Tensor) -> Result<Tensor> {
    w.flatten_from(1)
}

/// w ∗ x.
fn product(x: &Tensor, w: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let dtype = x.dtype();
    let (x, w) = (factor(x)?, factor(w)?);
    if is_linear(sizes) {
        let y = rows(&x)?.matmul(&matrix(&w)?.t()?)?;
        return y.reshape(&sizes.y_shape())?.to_dtype(dtype);
    }
    let window = sizes.window;
    let padding = if window.before == window.after { window.before } else { 0 };
    let y = padded(&x, window)?.conv2d(&w, padding, window.stride, 1, 1)?;
    y.permute((0, 2, 3, 1))?.to_dtype(dtype) // [batch, height, width, channels]
}

pub(super) fn forward(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    sizes: &Sizes,
) -> Result<Tensor> {
    let y = product(x, w, sizes)?;
    match bias {
        None => y.contiguous(),
        Some(bias) if bias.rank() == 1 => y.broadcast_add(bias)?.contiguous(),
        Some(bias) => y.broadcast_add(&bias.unsqueeze(1)?.unsqueeze(1)?)?.contiguous(),
    }
}

/// The gradient of Σ dy · y in one of the operands, by candle's own backward pass.
fn gradient(
    operand: &Tensor,
    dy: &Tensor,
    y: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let operand = Var::from_tensor(operand)?;
    let gradients = (y(operand.as_tensor())? * dy)?.sum_all()?.backward()?;
    let gradient = gradients.get(&operand).map(Tensor::detach);
    match gradient {
        Some(gradient) => gradient.contiguous(),
        None => operand.zeros_like(),
    }
}

pub(super) fn input_gradient(dy: &Tensor, w: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    if is_linear(sizes) {
        let dx = rows(&factor(dy)?)?.matmul(&matrix(&factor(w)?)?)?;
        return dx.reshape(&sizes.x_shape())?.to_dtype(dy.dtype());
    }
    let x = Tensor::zeros(&sizes.x_shape(), dy.dtype(), dy.device())?;
    gradient(&x, dy, |x| forward(x, w, None, sizes))
}

pub(super) fn weight_gradient(x: &Tensor, dy: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    if is_linear(sizes) {
        let dw = rows(&factor(dy)?)?.t()?.matmul(&rows(&factor(x)?)?)?;
        return dw.reshape(&sizes.w_shape())?.to_dtype(dy.dtype());
    }
    let w = Tensor::zeros(&sizes.w_shape(), dy.dtype(), dy.device())?;
    gradient(&w, dy, |w| forward(x, w, None, sizes))
}
