//! Weights in safetensors files: read strictly, written tensor by tensor.
//!
//! Files are read, never memory-mapped: a file that is cut while it is open gives an error, not a dead process.
//! Nothing is loaded on doubt: every missing, unexpected, mis-shaped, mis-typed or non-finite tensor is reported, all in one pass.

mod copy;
mod error;
mod file;
mod load;
#[cfg(test)]
mod tests;
mod write;

pub use copy::Copying;
pub use error::{Fault, WeightsError};
pub use file::WeightFile;
pub use load::{Loaded, load};
pub use write::write;

use candle_core::Tensor;

/// A safetensors file's bytes, as [`write()`] writes them.
///
/// # Errors
/// [`WeightsError::Tensor`] for a dtype that is not written.
pub fn serialize(tensors: &[(&str, Tensor)], note: Option<&str>) -> Result<Vec<u8>, WeightsError> {
    let mut bytes = Vec::new();
    write(&mut bytes, tensors, note).map_err(|error| match error.downcast::<WeightsError>() {
        Ok(error) => error,
        Err(error) => WeightsError::Tensor { name: "serialize".into(), reason: error.to_string() },
    })?;
    Ok(bytes)
}
