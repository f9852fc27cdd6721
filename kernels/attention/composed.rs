//! The law in candle's own operations: for CUDA and half precision, and a third voice in the tests.

use super::{Gradients, Sizes};
use crate::view::{factor, full};
use candle_core::{D, Result, Tensor, Var};

/// [batch, tokens, heads · d] → [batch, heads, tokens, d].
fn heads(x: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    factor(x)?.reshape((sizes.batch, (), sizes.heads, sizes.depth))?.transpose(1, 2)?.contiguous()
}

pub(super) fn forward(q: &Tensor, k: &Tensor, v: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let (shape, dtype) = (q.dims(), q.dtype());
    let (q, k, v) = (heads(q, sizes)?, heads(k, sizes)?, heads(v, sizes)?);
    // The softmax in 32 bits: a sum of many halves loses all digits.
    let logits = (full(&q.matmul(&k.t()?)?)? * sizes.scale())?;
    let weights = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let p = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?.to_dtype(v.dtype())?;
    p.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape(shape)?.to_dtype(dtype)
}

pub(super) fn gradients(
    d_o: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sizes: &Sizes,
) -> Result<Gradients> {
    let (q, k, v) = (Var::from_tensor(q)?, Var::from_tensor(k)?, Var::from_tensor(v)?);
    let gradients = (forward(&q, &k, &v, sizes)? * d_o)?.sum_all()?.backward()?;
    let gradient = |of: &Var| match gradients.get(of) {
        Some(gradient) => gradient.detach().contiguous(),
        None => of.zeros_like(),
    };
    Ok(Gradients { q: gradient(&q)?, k: gradient(&k)?, v: gradient(&v)? })
}
