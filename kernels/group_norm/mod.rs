//! Group normalisation with an optional SiLU behind it, channels last, and its gradients.
//!
//! Law: y[b, i, c] = f(z), z = x̂ · γ[b, c] + β[b, c], x̂ = (x[b, i, c] − μ[b, g]) / √(σ²[b, g] + ε),
//! with μ and σ² (biased) over the pixels i and the channels of c's group g, and f(z) = z or z / (1 + e^−z).
//! Source: Wu & He 2018, eq. 1 to 5; `torch.nn.GroupNorm` and `torch.nn.SiLU`.
//!
//! | operand | shape |
//! |---|---|
//! | `x`, `y` | [batch, …pixels, channels] |
//! | `gamma`, `beta` | [channels], or both [batch, channels]: a scale and shift from the time embedding |
//!
//! Each pass reads x once from memory and writes once: the limit is bandwidth, 8 bytes an element forward.
//! In host memory the statistics are taken again in the backward pass rather than kept.

mod composed;
mod device;
mod fast;
mod reference;
#[cfg(test)]
mod tests;

use crate::view::{Route, View, route, tensor};
use candle_core::{Result, Tensor, bail};

/// What follows the normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// f(z) = z.
    Identity,
    /// f(z) = z / (1 + e^−z).
    Silu,
}

/// How channels are grouped, ε, and what follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Groups into which the channels are cut.
    pub groups: usize,
    /// ε, added to the variance.
    pub epsilon: f64,
    /// f.
    pub activation: Activation,
}

/// Gradients of the three operands, each in its operand's shape.
#[derive(Debug)]
pub struct Gradients {
    /// Gradient of x.
    pub x: Tensor,
    /// Gradient of gamma.
    pub gamma: Tensor,
    /// Gradient of beta.
    pub beta: Tensor,
}

/// What the backward pass takes over from the forward pass, where that saves work: on a device [batch, groups, 2], the mean
/// and 1 / √(σ² + ε) of each group.
#[derive(Clone, Debug, Default)]
pub struct Kept(Option<Tensor>);

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    pixels: usize,
    channels: usize,
    groups: usize,
    /// gamma and beta differ from example to example.
    per_example: bool,
}

impl GroupNorm {
    fn sizes(&self, x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Sizes> {
        let [batch, pixels @ .., channels] = x.dims() else {
            bail!("group norm: expected x [batch, …, channels], got {:?}", x.dims());
        };
        let (batch, pixels, channels) = (*batch, pixels.iter().product(), *channels);
        let per_example = gamma.rank() == 2;
        let expected: &[usize] = if per_example { &[batch, channels] } else { &[channels] };
        if gamma.dims() != expected || beta.dims() != expected {
            bail!(
                "group norm: expected gamma and beta {expected:?}, got {:?} and {:?}",
                gamma.dims(),
                beta.dims()
            );
        }
        if self.groups == 0 || channels % self.groups != 0 {
            bail!("group norm: {channels} channels do not divide into {} groups", self.groups);
        }
        Ok(Sizes { batch, pixels, channels, groups: self.groups, per_example })
    }

    /// y; shapes at the top of this file.
    ///
    /// # Errors
    /// When shapes, dtypes or devices do not fit, or an operand is not contiguous.
    pub fn forward(&self, x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Tensor> {
        Ok(self.forward_kept(x, gamma, beta)?.0)
    }

    /// y, and what [`GroupNorm::gradients_with`] takes over.
    ///
    /// # Errors
    /// As [`GroupNorm::forward`].
    pub fn forward_kept(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
    ) -> Result<(Tensor, Kept)> {
        let sizes = self.sizes(x, gamma, beta)?;
        let route = route("group norm", &[x, gamma, beta])?;
        match route {
            Route::Cuda => return device::forward(self, &sizes, x, gamma, beta),
            Route::Composed => {
                return Ok((composed::forward(self, x, gamma, beta)?, Kept::default()));
            }
            Route::Fast | Route::Reference => {}
        }
        let shape = x.dims();
        let (x, gamma, beta) = (
            View::of("group norm x", x)?,
            View::of("group norm gamma", gamma)?,
            View::of("group norm beta", beta)?,
        );
        let y = match route {
            Route::Fast => {
                tensor(fast::forward(self, &sizes, x.f32()?, gamma.f32()?, beta.f32()?), shape)
            }
            _ => {
                tensor(reference::forward(self, &sizes, x.f64()?, gamma.f64()?, beta.f64()?), shape)
            }
        };
        Ok((y?, Kept::default()))
    }

    /// The gradients of Σ dy · y.
    ///
    /// # Errors
    /// As [`GroupNorm::forward`].
    pub fn gradients(
        &self,
        dy: &Tensor,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
    ) -> Result<Gradients> {
        self.gradients_with(&Kept::default(), dy, x, gamma, beta)
    }

    /// The same, with what [`GroupNorm::forward_kept`] of the same operands left.
    ///
    /// # Errors
    /// As [`GroupNorm::forward`].
    pub fn gradients_with(
        &self,
        kept: &Kept,
        dy: &Tensor,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
    ) -> Result<Gradients> {
        let sizes = self.sizes(x, gamma, beta)?;
        if dy.dims() != x.dims() {
            bail!(
                "group norm: expected the output's gradient as {:?}, got {:?}",
                x.dims(),
                dy.dims()
            );
        }
        let route = route("group norm", &[dy, x, gamma, beta])?;
        match route {
            Route::Cuda => return device::gradients(self, &sizes, kept, [dy, x, gamma, beta]),
            Route::Composed => return composed::gradients(self, dy, x, gamma, beta),
            Route::Fast | Route::Reference => {}
        }
        let (shape, scale_shape) = (x.dims(), gamma.dims());
        let (dy, x) = (View::of("group norm dy", dy)?, View::of("group norm x", x)?);
        let (gamma, beta) =
            (View::of("group norm gamma", gamma)?, View::of("group norm beta", beta)?);
        if route == Route::Fast {
            let (dx, dgamma, dbeta) =
                fast::gradients(self, &sizes, dy.f32()?, x.f32()?, gamma.f32()?, beta.f32()?);
            let (x, gamma, beta) =
                (tensor(dx, shape)?, tensor(dgamma, scale_shape)?, tensor(dbeta, scale_shape)?);
            Ok(Gradients { x, gamma, beta })
        } else {
            let (dx, dgamma, dbeta) =
                reference::gradients(self, &sizes, dy.f64()?, x.f64()?, gamma.f64()?, beta.f64()?);
            let (x, gamma, beta) =
                (tensor(dx, shape)?, tensor(dgamma, scale_shape)?, tensor(dbeta, scale_shape)?);
            Ok(Gradients { x, gamma, beta })
        }
    }
}
