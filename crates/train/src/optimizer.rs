//! AdamW with clipping over all parameters at once, and its moments by name.

use crate::TrainError;
use candle_core::{Result, Tensor};
use lethe_candlex::params::ParamStore;
use lethe_candlex::tape::Gradients;
use lethe_kernels::adamw::{AdamW, Moments};
use lethe_kernels::ema::norm;

/// torch's `clip_grad_norm_` divides by the norm plus this.
const CLIP_EPSILON: f64 = 1e-6;

/// The optimizer's state.
#[derive(Debug)]
pub struct Optimizer {
    moments: Moments,
    /// Steps taken.
    t: u64,
}

impl Optimizer {
    /// A fresh optimizer for the parameters of `store`.
    ///
    /// # Errors
    /// When the device refuses the moments.
    pub fn new(store: &ParamStore) -> Result<Self> {
        Ok(Self {
            moments: Moments {
                first: store.flat().zeros_like()?,
                second: store.flat().zeros_like()?,
            },
            t: 0,
        })
    }

    /// An optimizer with the state of an earlier one.
    pub fn restored(first: Tensor, second: Tensor, t: u64) -> Self {
        Self { moments: Moments { first, second }, t }
    }

    /// First and second moments, by parameter: `first.<name>` and `second.<name>`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn named(&self, store: &ParamStore) -> Result<Vec<(String, Tensor)>> {
        let moments = [("first", &self.moments.first), ("second", &self.moments.second)];
        let mut named = Vec::with_capacity(2 * store.len());
        for (moment, flat) in moments {
            for (name, tensor) in store.named(flat)? {
                named.push((format!("{moment}.{name}"), tensor));
            }
        }
        Ok(named)
    }

    /// Moves the parameters by `gradients` [n_elements] of norm `norm`, scaled back to `clip`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn step(
        &mut self,
        law: &AdamW,
        store: &ParamStore,
        gradients: &Tensor,
        norm: f64,
        clip: f64,
    ) -> Result<()> {
        self.t += 1;
        let scale = (clip / (norm + CLIP_EPSILON)).min(1.);
        law.step(self.t, store.flat(), gradients, &self.moments, scale)
    }
}

/// All gradients one after another, [n_elements], and their norm; frozen parameters have zeros.
///
/// # Errors
/// [`TrainError::NoGradient`] names every trainable parameter that received none.
pub(crate) fn flatten(
    store: &ParamStore,
    gradients: &Gradients,
) -> std::result::Result<(Tensor, f64), TrainError> {
    let (mut parts, mut missing) = (Vec::with_capacity(store.len()), Vec::new());
    for index in 0..store.len() {
        match gradients.parameter(index) {
            Some(gradient) => parts.push(gradient.flatten_all()?),
            None if store.is_trainable(index) => missing.push(store.name(index).to_string()),
            None => parts.push(store.tensor(index).zeros_like()?.flatten_all()?),
        }
    }
    if !missing.is_empty() {
        let expected = (0..store.len()).filter(|&index| store.is_trainable(index)).count();
        return Err(TrainError::NoGradient { expected, names: missing });
    }
    let flat = Tensor::cat(&parts, 0)?;
    let length = norm(&flat)?;
    Ok((flat, length))
}
