//! Scaled dot-product attention over heads, and its gradients.
//!
//! Law: o[b, i, h] = Σ_j p[b, h, i, j] · v[b, j, h], p = softmax_j(q[b, i, h] · k[b, j, h] / √d).
//! Source: Vaswani et al. 2017, eq. 1.
//!
//! | operand | shape |
//! |---|---|
//! | `q`, `o` | [batch, queries, heads · d] |
//! | `k`, `v` | [batch, keys, heads · d] |
//!
//! Tokens keep their channels last, so heads are strided views and nothing is transposed.
//! The probabilities are taken again in the backward pass, block by block: [queries, keys] never exists as a whole.
//! Operations: 4 · batch · queries · keys · heads · d forward, 10 backward.

mod composed;
mod device;
mod fast;
mod flash;
mod reference;
#[cfg(test)]
mod tests;

use crate::view::{Route, View, route, tensor};
use candle_core::{Result, Tensor, bail};

/// Gradients of the three operands, each in its operand's shape.
#[derive(Debug)]
pub struct Gradients {
    /// Gradient of q.
    pub q: Tensor,
    /// Gradient of k.
    pub k: Tensor,
    /// Gradient of v.
    pub v: Tensor,
}

/// What the backward pass takes over from the forward pass, where that saves work.
#[derive(Clone, Debug, Default)]
pub struct Kept(Option<flash::Kept>);

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    /// Channels of one head.
    depth: usize,
}

impl Sizes {
    fn new(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Self> {
        let (batch, queries, channels) = q.dims3()?;
        let (_, keys, _) = k.dims3()?;
        let expected = [batch, keys, channels];
        if k.dims() != expected || v.dims() != expected || heads == 0 || channels % heads != 0 {
            bail!(
                "attention: {heads} heads over q {:?}, k {:?}, v {:?} do not fit",
                q.dims(),
                k.dims(),
                v.dims()
            );
        }
        Ok(Self { batch, queries, keys, heads, depth: channels / heads })
    }

    /// Elements from one token to the next.
    fn channels(&self) -> usize {
        self.heads * self.depth
    }

    /// 1 / √d.
    fn scale(&self) -> f64 {
        1. / (self.depth as f64).sqrt()
    }
}

/// o; shapes at the top of this file.
///
/// # Errors
/// When shapes, dtypes or devices do not fit, or an operand is not contiguous.
pub fn forward(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    Ok(forward_kept(q, k, v, heads)?.0)
}

/// o, and what [`gradients_with`] takes over.
///
/// # Errors
/// As [`forward`].
pub fn forward_kept(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<(Tensor, Kept)> {
    let sizes = Sizes::new(q, k, v, heads)?;
    let route = route("attention", &[q, k, v])?;
    match route {
        Route::Cuda => return device::forward(q, k, v, &sizes),
        Route::Composed => return Ok((composed::forward(q, k, v, &sizes)?, Kept::default())),
        Route::Fast | Route::Reference => {}
    }
    let shape = q.dims();
    let (q, k, v) =
        (View::of("attention q", q)?, View::of("attention k", k)?, View::of("attention v", v)?);
    let o = match route {
        Route::Fast => tensor(fast::forward(q.f32()?, k.f32()?, v.f32()?, &sizes), shape),
        _ => tensor(reference::forward(q.f64()?, k.f64()?, v.f64()?, &sizes), shape),
    };
    Ok((o?, Kept::default()))
}

/// The gradients of Σ do · o.
///
/// # Errors
/// As [`forward`].
pub fn gradients(
    d_o: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
) -> Result<Gradients> {
    gradients_with(&Kept::default(), d_o, q, k, v, heads)
}

/// The same, with what [`forward_kept`] of the same operands left.
///
/// # Errors
/// As [`forward`].
pub fn gradients_with(
    kept: &Kept,
    d_o: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
) -> Result<Gradients> {
    let sizes = Sizes::new(q, k, v, heads)?;
    if d_o.dims() != q.dims() {
        bail!("attention: expected the output's gradient as {:?}, got {:?}", q.dims(), d_o.dims());
    }
    let route = route("attention", &[d_o, q, k, v])?;
    match route {
        Route::Cuda => return device::gradients(kept, d_o, [q, k, v], &sizes),
        Route::Composed => return composed::gradients(d_o, q, k, v, &sizes),
        Route::Fast | Route::Reference => {}
    }
    let shapes = [q.dims(), k.dims(), v.dims()];
    let (d_o, q) = (View::of("attention do", d_o)?, View::of("attention q", q)?);
    let (k, v) = (View::of("attention k", k)?, View::of("attention v", v)?);
    if route == Route::Fast {
        let [q, k, v] = fast::gradients(d_o.f32()?, q.f32()?, k.f32()?, v.f32()?, &sizes);
        Ok(Gradients {
            q: tensor(q, shapes[0])?,
            k: tensor(k, shapes[1])?,
            v: tensor(v, shapes[2])?,
        })
    } else {
        let [q, k, v] = reference::gradients(d_o.f64()?, q.f64()?, k.f64()?, v.f64()?, &sizes);
        Ok(Gradients {
            q: tensor(q, shapes[0])?,
            k: tensor(k, shapes[1])?,
            v: tensor(v, shapes[2])?,
        })
    }
}
