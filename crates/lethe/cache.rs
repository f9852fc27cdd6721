//! Tensors that take long to make and are made once: files named after the digest of all that made them, which hold a
//! digest of that name and of their own numbers.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::weights::{WeightFile, serialize};
use std::path::{Path, PathBuf};

/// Changes whenever what is computed from the same files changes.
const FORMAT: &str = "1";

/// Where such files lie: `LETHE_CACHE`, or a folder of the user's cache.
pub fn folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("LETHE_CACHE").map(PathBuf::from).or_else(|| {
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?.join("lethe"))
    })
}

/// Gathers what a tensor was made from.
pub struct Key(blake3::Hasher);

impl Key {
    /// A key of things called `kind`.
    pub fn new(kind: &str) -> Self {
        let mut key = Self(blake3::Hasher::new());
        key.text(FORMAT);
        key.text(kind);
        key
    }

    /// Adds a text, told apart from those beside it.
    pub fn text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    /// Adds a file's bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        // A pipe or a device would be waited for.
        lethe_ledger::durable::expect_file(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        std::io::copy(&mut file, &mut hasher).with_context(|| path.display().to_string())?;
        self.text(hasher.finalize().to_hex().as_str());
        Ok(())
    }

    /// The key of a part of what this key is of.
    pub fn part(&self, which: &str) -> Self {
        let mut part = Self(self.0.clone());
        part.text(which);
        part
    }

    /// The digest of all of it.
    pub fn name(&self) -> String {
        self.0.finalize().to_hex()[..32].to_string()
    }
}

/// The tensors called `names` that `make` makes from what `key` holds, 32-bit floats on the CPU, from the cache where they
/// were made before; a file there that is not whole is made again. Without a key they are made and not kept.
///
/// # Errors
/// Those of `make`. A cache that cannot be written is no error: the tensors are made again next time.
pub fn kept<const N: usize>(
    kind: &str,
    key: Option<&Key>,
    names: [&str; N],
    make: impl FnOnce() -> Result<[Tensor; N]>,
) -> Result<[Tensor; N]> {
    let file = |key: &Key| format!("{kind}-{}.safetensors", key.name());
    let path = folder().zip(key).map(|(folder, key)| folder.join(file(key)));
    if let Some(found) = path.as_deref().and_then(|path| read(path, names)) {
        return Ok(found);
    }
    let made = make()?;
    if let Some(path) = path {
        let tensors: Vec<_> = names.into_iter().zip(made.iter().cloned()).collect();
        let _ = write(&path, &tensors);
    }
    Ok(made)
}

fn read<const N: usize>(path: &Path, names: [&str; N]) -> Option<[Tensor; N]> {
    let file = WeightFile::open(path).ok()?;
    let tensors = names.map(|name| file.tensor(name).ok()?.to_dtype(DType::F32).ok());
    let tensors: [Tensor; N] = tensors.into_iter().collect::<Option<Vec<_>>>()?.try_into().ok()?;
    let found: Vec<_> = names.into_iter().zip(tensors.iter().cloned()).collect();
    (file.note() == Some(digest(path, &found).ok()?.as_str())).then_some(tensors)
}

/// Digest of the file's name, which says what made the tensors, and of their names, shapes and numbers: a file under
/// another's name is none of ours.
fn digest(path: &Path, tensors: &[(&str, Tensor)]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
    hasher.update(&serialize(tensors, None)?);
    Ok(hasher.finalize().to_hex().to_string())
}

fn write(path: &Path, tensors: &[(&str, Tensor)]) -> Result<()> {
    if let Some(folder) = path.parent() {
        lethe_ledger::durable::make_folders(folder)?;
    }
    let host: Vec<(&str, Tensor)> = tensors
        .iter()
        .map(|(name, tensor)| Ok((*name, tensor.to_device(&Device::Cpu)?)))
        .collect::<Result<_>>()?;
    Ok(lethe_ledger::durable::write_file(path, &serialize(&host, Some(&digest(path, &host)?))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_was_changed_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.safetensors");
        let tensor = Tensor::new(&[1f32, 2., 3.], &Device::Cpu).unwrap();
        write(&path, &[("a", tensor)]).unwrap();
        let [found] = read(&path, ["a"]).unwrap();
        assert_eq!(found.to_vec1::<f32>().unwrap(), [1., 2., 3.]);
        assert!(read(&path, ["b"]).is_none());
        let other = folder.path().join("other.safetensors");
        std::fs::copy(&path, &other).unwrap();
        assert!(read(&other, ["a"]).is_none());
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(read(&path, ["a"]).is_none());
    }
}
