//! The law in candle's own operations: for CUDA and half precision, and a third voice in the tests.

use super::{Activation, Gradients, GroupNorm};
use crate::view::{full, in_full};
use candle_core::{D, Result, Tensor, Var};

fn per_pixel(scale: &Tensor) -> Result<Tensor> {
    if scale.rank() == 2 { scale.unsqueeze(1) } else { Ok(scale.clone()) }
}

pub(super) fn forward(
    norm: &GroupNorm,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
) -> Result<Tensor> {
    in_full(&[x, gamma, beta], |t| value(norm, &t[0], &t[1], &t[2]))
}

fn value(norm: &GroupNorm, x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Tensor> {
    let shape = x.dims();
    let (batch, channels) = (x.dim(0)?, x.dim(D::Minus1)?);
    let x = x.reshape((batch, (), channels))?;
    let pixels = x.dim(1)?;
    let grouped = x.reshape((batch, pixels, norm.groups, channels / norm.groups))?;
    let mean = grouped.mean_keepdim(3)?.mean_keepdim(1)?;
    let centred = grouped.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(3)?.mean_keepdim(1)?;
    let normed = centred
        .broadcast_div(&(variance + norm.epsilon)?.sqrt()?)?
        .reshape((batch, pixels, channels))?;
    let z = normed.broadcast_mul(&per_pixel(gamma)?)?.broadcast_add(&per_pixel(beta)?)?;
    match norm.activation {
        Activation::Identity => z,
        Activation::Silu => z.silu()?,
    }
    .reshape(shape)
}

pub(super) fn gradients(
    norm: &GroupNorm,
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
) -> Result<Gradients> {
    let dtype = x.dtype();
    let wide = |t: &Tensor| Var::from_tensor(&full(t)?);
    let (x, gamma, beta) = (wide(x)?, wide(gamma)?, wide(beta)?);
    let y = value(norm, &x, &gamma, &beta)?;
    let gradients = (y * full(dy)?)?.sum_all()?.backward()?;
    let gradient = |of: &Var| match gradients.get(of) {
        Some(gradient) => gradient.detach().contiguous()?.to_dtype(dtype),
        None => of.zeros_like()?.to_dtype(dtype),
    };
    Ok(Gradients { x: gradient(&x)?, gamma: gradient(&gamma)?, beta: gradient(&beta)? })
}
