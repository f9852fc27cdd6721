//! What a file of a checkpoint holds, and how it gets there.

use candle_core::Tensor;
use lethe_candlex::params::ParamStore;
use lethe_candlex::weights;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// What a file holds; however large, no more than a tensor of it is in memory a second time.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What another file holds.
    Copy(PathBuf),
    /// A safetensors file of these.
    Tensors(Vec<(String, Tensor)>),
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl Content {
    /// A safetensors file of all parameters of `store`, without those that it lies over.
    pub fn store(store: &ParamStore) -> Self {
        let own = store.iter().map(|(name, tensor)| (name.to_string(), tensor.clone()));
        Self::Tensors(own.collect())
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`, of the file that is copied, and of tensors that cannot be written.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes),
            Self::Copy(path) => {
                let named = |error: std::io::Error| {
                    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                let mut from = File::open(path).map_err(named)?;
                std::io::copy(&mut from, out).map(|_| ())
            }
            Self::Tensors(tensors) => {
                let tensors: Vec<_> =
                    tensors.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
                weights::write(out, &tensors, None)
            }
        }
    }
}
