//! One safetensors file: its header in memory, its tensors read when asked for.

use super::WeightsError;
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A bound on the header: a tenth of the format's own, and fifty times what Stable Diffusion's takes.
const LARGEST_HEADER: u64 = 10_000_000;

/// Bytes converted at once.
const CHUNK: usize = 1 << 20;

/// An open file.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    file: File,
    /// Where the tensors' bytes begin.
    start: u64,
    tensors: BTreeMap<String, TensorInfo>,
    note: Option<String>,
}

impl WeightFile {
    /// Opens `path` and checks that its header describes exactly its bytes.
    ///
    /// # Errors
    /// [`WeightsError::Io`], and [`WeightsError::Format`] for a file that is not whole.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let io =
            |action| move |source| WeightsError::Io { path: path.to_path_buf(), action, source };
        let format = |reason: String| WeightsError::Format { path: path.to_path_buf(), reason };
        let found = path.metadata().map_err(io("open"))?;
        if !found.is_file() {
            // A pipe would be waited for.
            let kind = if found.is_dir() { "a folder" } else { "a pipe or a device" };
            return Err(format(format!("it is {kind}")));
        }
        let mut file = File::open(path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("measure"))?.len();
        let mut word = [0; 8];
        if length < 8 {
            return Err(format(format!(
                "it has {length} bytes, its header's length alone takes 8"
            )));
        }
        file.read_exact(&mut word).map_err(io("read"))?;
        let header_length = u64::from_le_bytes(word);
        if header_length > LARGEST_HEADER || header_length > length - 8 {
            return Err(format(format!(
                "its header claims {header_length} bytes of a file of {length}"
            )));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(io("read"))?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| format(format!("its header does not parse: {error}")))?;
        let (expected, got) = (metadata.data_len() as u64, length - 8 - header_length);
        if expected != got {
            return Err(format(format!(
                "expected {expected} bytes of tensors after the header, got {got}"
            )));
        }
        let tensors =
            metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let note = metadata.metadata().as_ref().and_then(|notes| notes.get("lethe").cloned());
        Ok(Self { path: path.to_path_buf(), file, start: 8 + header_length, tensors, note })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What Lethe wrote into its header.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Names of its tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's type, shape and place.
    ///
    /// # Errors
    /// [`WeightsError::NoTensor`].
    pub fn info(&self, name: &str) -> Result<&TensorInfo, WeightsError> {
        self.tensors.get(name).ok_or_else(|| WeightsError::NoTensor {
            path: self.path.clone(),
            name: name.to_string(),
            names: self.tensors.keys().cloned().collect(),
        })
    }

    /// A tensor's numbers as 64-bit floats, in order, `CHUNK` bytes at a time.
    ///
    /// # Errors
    /// [`WeightsError::NoTensor`], [`WeightsError::Tensor`] for a type that is no number, [`WeightsError::Io`].
    pub fn for_each(&self, name: &str, mut visit: impl FnMut(f64)) -> Result<(), WeightsError> {
        self.for_each_chunk(name, |_, numbers| {
            numbers.for_each(&mut visit);
            Ok(())
        })
    }

    /// A tensor's bytes as they lie in the file, `CHUNK` of them at a time, each chunk with its numbers.
    pub(super) fn for_each_chunk(
        &self,
        name: &str,
        mut visit: impl FnMut(&[u8], &mut dyn Iterator<Item = f64>) -> Result<(), WeightsError>,
    ) -> Result<(), WeightsError> {
        let info = self.info(name)?.clone();
        let convert = converter(info.dtype).ok_or_else(|| WeightsError::Tensor {
            name: name.to_string(),
            reason: format!("type {:?} is not read", info.dtype),
        })?;
        let (from, to) = info.data_offsets;
        let mut chunk = vec![0; CHUNK.min(to - from)];
        for at in (from..to).step_by(CHUNK) {
            let bytes = &mut chunk[..CHUNK.min(to - at)];
            self.read_at(at, bytes)?;
            visit(bytes, &mut bytes.chunks_exact(info.dtype.bitsize() / 8).map(convert))?;
        }
        Ok(())
    }

    /// A tensor's numbers of 32 bits, read to where they are wanted; `numbers` has as many as the tensor.
    ///
    /// `visit` sees each part of them, from the position that it is told.
    pub(super) fn read_narrow(
        &self,
        info: &TensorInfo,
        numbers: &mut [f32],
        mut visit: impl FnMut(usize, &[f32]),
    ) -> Result<(), WeightsError> {
        for (at, part) in numbers.chunks_mut(CHUNK / 4).enumerate() {
            self.read_at(info.data_offsets.0 + at * CHUNK, bytemuck::cast_slice_mut(part))?;
            part.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits())));
            visit(at * CHUNK / 4, part);
        }
        Ok(())
    }

    /// Bytes of the tensors from `at`; several threads may read at once.
    fn read_at(&self, at: usize, bytes: &mut [u8]) -> Result<(), WeightsError> {
        let io = |source| WeightsError::Io { path: self.path.clone(), action: "read", source };
        let at = self.start + at as u64;
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, at).map_err(io);
        #[cfg(not(unix))]
        {
            use std::io::{Seek, SeekFrom};
            // A handle of its own: its position is not shared.
            let mut file = File::open(&self.path).map_err(io)?;
            file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(bytes)).map_err(io)
        }
    }

    /// A tensor as 64-bit floats.
    ///
    /// # Errors
    /// As [`WeightFile::for_each`].
    pub fn tensor(&self, name: &str) -> Result<Tensor, WeightsError> {
        let shape = self.info(name)?.shape.clone();
        let mut values = Vec::with_capacity(shape.iter().product());
        self.for_each(name, |value| values.push(value))?;
        Tensor::from_vec(values, shape, &Device::Cpu).map_err(|error| WeightsError::Tensor {
            name: name.to_string(),
            reason: error.to_string(),
        })
    }
}

/// How one little-endian word of a type becomes a number.
fn converter(dtype: Dtype) -> Option<fn(&[u8]) -> f64> {
    macro_rules! read {
        ($number:ty) => {
            |word| <$number>::from_le_bytes(word.try_into().unwrap_or_default()) as f64
        };
    }
    Some(match dtype {
        Dtype::F64 => read!(f64),
        Dtype::F32 => read!(f32),
        Dtype::F16 => |word| f16::from_le_bytes(word.try_into().unwrap_or_default()).to_f64(),
        Dtype::BF16 => |word| bf16::from_le_bytes(word.try_into().unwrap_or_default()).to_f64(),
        Dtype::I64 => read!(i64),
        Dtype::I32 => read!(i32),
        Dtype::U32 => read!(u32),
        Dtype::U8 => read!(u8),
        _ => return None,
    })
}
