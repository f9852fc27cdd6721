//! What an autoencoder is trained by.
//!
//! Law: L = mean |x − decode(z)| + λ · mean_latents KL(q(z|x) | N(0, 1)), z = mean + exp(logvar / 2) · ε,
//! KL = ½ (mean² + exp(logvar) − 1 − logvar). Source: Kingma & Welling 2014, appendix B, with Laplace's likelihood.
//! Rombach et al. 2022 add a perceptual and an adversarial term, which a small autoencoder does without.

use super::AutoencoderKl;
use candle_core::{DType, Result, Tensor};
use lethe_candlex::params::ParamStore;
use lethe_candlex::tape::{Gradients, Tape, Value};

/// A batch's loss.
#[derive(Debug)]
pub struct Objective {
    /// mean |x − decode(z)|, in pixels of [−1, 1].
    pub absolute_error: f64,
    /// Mean KL of a latent number, in nats.
    pub divergence: f64,
    /// Gradients of the whole in every parameter.
    pub gradients: Gradients,
}

/// The loss of `images` [batch, height, width, channels] under `noise` ε, shaped as their latents, and its gradients.
///
/// # Errors
/// When shapes do not fit.
pub fn objective(
    vae: &AutoencoderKl,
    store: &ParamStore,
    images: &Tensor,
    noise: &Tensor,
    kl_weight: f64,
) -> Result<Objective> {
    let tape = Tape::recording(store);
    let moments = vae.encode(&tape, &Value::constant(images.clone()))?;
    let (mean, log_variance) = (&moments.mean, &moments.log_variance);
    let z = tape.composed(&[mean, log_variance], |t| &t[0] + ((&t[1] * 0.5)?.exp()? * noise)?)?;
    let decoded = vae.decode(&tape, &z)?;
    let error = tape.composed(&[&decoded], |t| (&t[0] - images)?.abs()?.mean_all())?;
    let divergence = tape.composed(&[mean, log_variance], |t| {
        ((((t[0].sqr()? + t[1].exp()?)? - &t[1])? - 1.)? * 0.5)?.mean_all()
    })?;
    let loss = tape.composed(&[&error, &divergence], |t| &t[0] + (&t[1] * kl_weight)?)?;
    let scalar = |value: &Value| value.tensor().to_dtype(DType::F64)?.to_scalar::<f64>();
    let (absolute_error, divergence) = (scalar(&error)?, scalar(&divergence)?);
    let one = loss.tensor().ones_like()?;
    Ok(Objective { absolute_error, divergence, gradients: tape.backward(&loss, one)? })
}
