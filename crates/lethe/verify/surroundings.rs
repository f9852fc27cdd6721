//! The frozen parts of a Stable Diffusion pipeline beside their originals.

use super::subject::Surroundings;
use super::{Distance, Reference};
use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use lethe_candlex::tape::{Tape, Value};

/// Compares what the reference holds of text encoder and autoencoder.
pub(super) fn compare(parts: &Surroundings, reference: &mut Reference) -> Result<Vec<Distance>> {
    let mut distances = Vec::new();
    if reference.has("text.ids") {
        let found = parts.reader.embed_ids(&ids(&reference.get("text.ids")?)?)?;
        let expected = reference.get("text.last_hidden_state")?;
        distances.push(Distance::new("text.last_hidden_state", &found, &expected)?);
    }
    let (vae, store) = (&parts.vae.vae, &parts.vae.loaded.store);
    let tape = Tape::inference(store);
    if reference.has("vae.image") {
        let x = Value::constant(reference.image("vae.image", DType::F32)?);
        let moments = vae.encode(&tape, &x)?;
        for (name, ours) in [("vae.mean", &moments.mean), ("vae.logvar", &moments.log_variance)] {
            if reference.has(name) {
                let expected = reference.image(name, DType::F64)?;
                distances.push(Distance::new(name, ours.tensor(), &expected)?);
            }
        }
    }
    if reference.has("vae.decode_in") {
        let z = Value::constant(reference.image("vae.decode_in", DType::F32)?);
        let decoded = vae.decode(&tape, &z)?;
        let expected = reference.image("vae.decode_out", DType::F64)?;
        distances.push(Distance::new("vae.decode_out", decoded.tensor(), &expected)?);
    }
    Ok(distances)
}

/// [texts, tokens] of ids.
fn ids(tensor: &Tensor) -> Result<Vec<Vec<u32>>> {
    ensure!(tensor.rank() == 2, "text.ids: expected [texts, tokens], got {:?}", tensor.dims());
    let rows = tensor.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect())
}
