//! AdamW with clipping over all parameters at once, and its moments by name.

use crate::TrainError;
use candle_core::{Result, Tensor};
use lethe_candlex::params::{Declaration, Declarations, Init, ParamStore};
use lethe_candlex::tape::Gradients;
use lethe_kernels::adamw::{AdamW, Moments};
use lethe_kernels::ema::norm;
use lethe_kernels::gather::gather;

/// torch's `clip_grad_norm_` divides by the norm plus this.
const CLIP_EPSILON: f64 = 1e-6;

/// What the moments are called in files.
const MOMENTS: [&str; 2] = ["first", "second"];

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

    /// What an optimizer's file holds: both moments of every parameter, as [`Optimizer::named`] names them.
    pub fn declarations(parameters: &Declarations) -> Declarations {
        let mut declarations = Declarations::default();
        for moment in MOMENTS {
            for Declaration { name, shape, .. } in parameters.as_slice() {
                declarations.declare(format!("{moment}.{name}"), shape, Init::Constant(0.));
            }
        }
        declarations
    }

    /// An optimizer after `t` steps, from both moments as [`Optimizer::declarations`] lays them out.
    ///
    /// # Errors
    /// Those of candle.
    pub fn restored(moments: &ParamStore, t: u64) -> Result<Self> {
        let n = moments.flat().elem_count() / 2;
        let half = |start| moments.flat().narrow(0, start, n)?.copy();
        Ok(Self { moments: Moments { first: half(0)?, second: half(n)? }, t })
    }

    /// First and second moments, by parameter: `first.<name>` and `second.<name>`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn named(&self, store: &ParamStore) -> Result<Vec<(String, Tensor)>> {
        let mut named = Vec::with_capacity(2 * store.len());
        for (moment, flat) in MOMENTS.into_iter().zip([&self.moments.first, &self.moments.second]) {
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

/// Gradients of the store's own parameters as [`gathered`] lays them, and their norm, for which the host waits.
///
/// # Errors
/// As [`gathered`].
pub fn flatten(
    store: &ParamStore,
    gradients: Gradients,
) -> std::result::Result<(Tensor, f64), TrainError> {
    let flat = gathered(store, gradients)?;
    let length = norm(&flat)?;
    Ok((flat, length))
}

/// Gradients of the store's own parameters one after another, [n_elements]; frozen ones have zeros.
///
/// Each is let go of once it has its place, so that they are not all there twice.
///
/// # Errors
/// [`TrainError::NoGradient`] names every trainable parameter that received none.
pub(crate) fn gathered(
    store: &ParamStore,
    gradients: Gradients,
) -> std::result::Result<Tensor, TrainError> {
    let missing =
        |&index: &usize| store.is_trainable(index) && gradients.parameter(index).is_none();
    let names: Vec<String> =
        store.own().filter(missing).map(|index| store.name(index).to_string()).collect();
    if !names.is_empty() {
        let expected = store.own().filter(|&index| store.is_trainable(index)).count();
        return Err(TrainError::NoGradient { expected, names });
    }
    let mut starts = Vec::with_capacity(store.len());
    let mut n = 0;
    for index in store.own() {
        starts.push(n);
        n += store.tensor(index).elem_count();
    }
    let first = store.own().start;
    let own = gradients.into_parameters();
    let parts = own
        .filter(|(index, _)| store.own().contains(index))
        .map(|(index, gradient)| (starts[index - first], gradient));
    Ok(gather(parts, n, store.flat().dtype(), store.flat().device())?)
}
