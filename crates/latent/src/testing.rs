//! What the tests of this room share: golden files and the distance in which tolerances are stated.

use candle_core::{DType, Tensor};
use lethe_candlex::weights::WeightFile;
use std::path::PathBuf;

pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/latent").join(name)
}

pub(crate) fn tensor(file: &mut WeightFile, name: &str) -> Tensor {
    file.tensor(name).unwrap().to_dtype(DType::F32).unwrap()
}

/// [batch, channels, height, width] → channels last.
pub(crate) fn image(file: &mut WeightFile, name: &str) -> Tensor {
    tensor(file, name).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

/// max |a − b| / max |scale|.
pub(crate) fn distance(a: &Tensor, b: &Tensor, scale: &Tensor) -> f64 {
    let largest = |t: Tensor| -> f64 {
        let t = t.to_dtype(DType::F64).unwrap().abs().unwrap().flatten_all().unwrap();
        t.max(0).unwrap().to_scalar().unwrap()
    };
    largest((a - b).unwrap()) / largest(scale.clone())
}
