//! Tensors to a safetensors file, one after another: no more than one is in memory besides its own.
//!
//! Layout: eight bytes of header length, the header as JSON filled up with spaces to whole eights, then every tensor's
//! little-endian numbers, wide types first and by name within a type: what the `safetensors` library writes, byte for byte.

use super::WeightsError;
use candle_core::{DType, Tensor};
use safetensors::Dtype;
use std::cmp::Reverse;
use std::io::{self, Write};

/// Numbers turned to bytes at once.
const CHUNK: usize = 1 << 16;

/// Writes `tensors`; the same tensors and `note` always give the same bytes.
///
/// `note` goes into the header under the one key `lethe`: with two keys the library's order would vary from run to run.
///
/// # Errors
/// Those of `out`, and a [`WeightsError::Tensor`] for a dtype other than f32, f64, i64, u32 or u8, before anything was
/// written.
pub fn write(
    out: &mut impl Write,
    tensors: &[(&str, Tensor)],
    note: Option<&str>,
) -> io::Result<()> {
    let mut entries = tensors
        .iter()
        .map(|(name, tensor)| Ok((Reverse(dtype(name, tensor)?), *name, tensor)))
        .collect::<Result<Vec<_>, WeightsError>>()
        .map_err(io::Error::other)?;
    entries.sort_by_key(|(dtype, name, _)| (*dtype, *name));
    let header = header(&entries, note)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    entries.iter().try_for_each(|(_, _, tensor)| numbers(out, tensor))
}

fn dtype(name: &str, tensor: &Tensor) -> Result<Dtype, WeightsError> {
    match tensor.dtype() {
        DType::F32 => Ok(Dtype::F32),
        DType::F64 => Ok(Dtype::F64),
        DType::I64 => Ok(Dtype::I64),
        DType::U32 => Ok(Dtype::U32),
        DType::U8 => Ok(Dtype::U8),
        other => Err(WeightsError::Tensor {
            name: name.to_string(),
            reason: format!("dtype {other:?} is not written"),
        }),
    }
}

fn header(entries: &[(Reverse<Dtype>, &str, &Tensor)], note: Option<&str>) -> io::Result<String> {
    let mut parts = Vec::with_capacity(entries.len() + 1);
    if let Some(note) = note {
        parts.push(format!(r#""__metadata__":{{"lethe":{}}}"#, serde_json::to_string(note)?));
    }
    let mut start = 0;
    for (Reverse(dtype), name, tensor) in entries {
        let end = start + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let name = serde_json::to_string(name)?;
        let (dtype, shape) = (serde_json::to_string(dtype)?, serde_json::to_string(tensor.dims())?);
        parts.push(format!(
            r#"{name}:{{"dtype":{dtype},"shape":{shape},"data_offsets":[{start},{end}]}}"#
        ));
        start = end;
    }
    let mut text = format!("{{{}}}", parts.join(","));
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    Ok(text)
}

/// A tensor's numbers, little-endian.
fn numbers(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    let flat = tensor.flatten_all().map_err(io::Error::other)?;
    match tensor.dtype() {
        DType::F64 => chunks(out, &vector::<f64>(&flat)?, f64::to_le_bytes),
        DType::I64 => chunks(out, &vector::<i64>(&flat)?, i64::to_le_bytes),
        DType::U32 => chunks(out, &vector::<u32>(&flat)?, u32::to_le_bytes),
        DType::U8 => out.write_all(&vector::<u8>(&flat)?),
        _ => chunks(out, &vector::<f32>(&flat)?, f32::to_le_bytes),
    }
}

fn vector<T: candle_core::WithDType>(flat: &Tensor) -> io::Result<Vec<T>> {
    flat.to_vec1().map_err(io::Error::other)
}

fn chunks<T: Copy, const N: usize>(
    out: &mut impl Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(N * CHUNK.min(values.len()));
    values.chunks(CHUNK).try_for_each(|values| {
        buffer.clear();
        values.iter().for_each(|&value| buffer.extend_from_slice(&bytes(value)));
        out.write_all(&buffer)
    })
}
