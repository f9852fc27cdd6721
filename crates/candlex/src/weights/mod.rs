//! Weights in safetensors files: read strictly, written to bytes.
//!
//! Files are read, never memory-mapped: a file that is cut while it is open gives an error, not a dead process.
//! Nothing is loaded on doubt: every missing, unexpected, mis-shaped, mis-typed or non-finite tensor is reported, all in one pass.

mod error;
mod file;
mod load;
#[cfg(test)]
mod tests;

pub use error::{Fault, WeightsError};
pub use file::WeightFile;
pub use load::{Loaded, load};

use candle_core::{DType, Tensor};
use safetensors::Dtype;
use std::collections::HashMap;

/// A tensor's little-endian bytes, as safetensors wants them.
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl safetensors::View for &Entry {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A safetensors file's bytes; the same tensors and `note` always give the same bytes.
///
/// `note` goes into the header under the one key `lethe`: with two keys the library's order would vary from run to run.
///
/// # Errors
/// [`WeightsError::Tensor`] for a dtype other than f32, f64, i64, u32 or u8.
pub fn serialize(tensors: &[(&str, Tensor)], note: Option<&str>) -> Result<Vec<u8>, WeightsError> {
    let entries = tensors.iter().map(|(name, tensor)| Ok((*name, entry(name, tensor)?)));
    let entries: Vec<(&str, Entry)> = entries.collect::<Result<_, WeightsError>>()?;
    let note = note.map(|note| HashMap::from([("lethe".to_string(), note.to_string())]));
    safetensors::serialize(entries.iter().map(|(name, entry)| (*name, entry)), note).map_err(
        |error| WeightsError::Tensor { name: "serialize".into(), reason: error.to_string() },
    )
}

fn entry(name: &str, tensor: &Tensor) -> Result<Entry, WeightsError> {
    let fault = |reason: String| WeightsError::Tensor { name: name.to_string(), reason };
    let read = |tensor: &Tensor| -> candle_core::Result<Option<(Dtype, Vec<u8>)>> {
        let flat = tensor.flatten_all()?;
        Ok(Some(match tensor.dtype() {
            DType::F32 => {
                (Dtype::F32, flat.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            DType::F64 => {
                (Dtype::F64, flat.to_vec1::<f64>()?.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            DType::I64 => {
                (Dtype::I64, flat.to_vec1::<i64>()?.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            DType::U32 => {
                (Dtype::U32, flat.to_vec1::<u32>()?.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            DType::U8 => (Dtype::U8, flat.to_vec1::<u8>()?),
            _ => return Ok(None),
        }))
    };
    match read(tensor) {
        Ok(Some((dtype, bytes))) => Ok(Entry { dtype, shape: tensor.dims().to_vec(), bytes }),
        Ok(None) => Err(fault(format!("dtype {:?} is not written", tensor.dtype()))),
        Err(error) => Err(fault(error.to_string())),
    }
}
