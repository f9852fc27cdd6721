//! Reading golden files, and the distances that tests/golden/README.md speaks of.

use candle_core::{DType, Tensor};
use lethe::candlex::weights::WeightFile;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Where the golden file `name` lies.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A golden JSON file.
pub fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
}

/// A golden safetensors file.
pub struct Tensors(WeightFile);

impl Tensors {
    pub fn open(name: &str) -> Self {
        Self(WeightFile::open(&path(name)).unwrap())
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.0.names().map(String::from).collect()
    }

    pub fn get(&mut self, name: &str) -> Tensor {
        self.0.tensor(name).unwrap()
    }

    /// As [`Tensors::get`], or nothing where the file has no such tensor.
    pub fn find(&mut self, name: &str) -> Option<Tensor> {
        self.0.info(name).is_ok().then(|| self.get(name))
    }

    /// An image with its channels last: [batch, height, width, channels], in `dtype`.
    pub fn image(&mut self, name: &str, dtype: DType) -> Tensor {
        let image = self.get(name).permute((0, 2, 3, 1)).unwrap();
        image.contiguous().unwrap().to_dtype(dtype).unwrap()
    }

    /// All numbers of a tensor.
    pub fn numbers(&mut self, name: &str) -> Vec<f64> {
        numbers(&self.get(name))
    }

    /// The only number of a tensor.
    pub fn number(&mut self, name: &str) -> f64 {
        let numbers = self.numbers(name);
        assert_eq!(numbers.len(), 1, "{name}");
        numbers[0]
    }
}

/// All numbers of `x`, in 64 bits.
pub fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The largest of `values`, or NaN where one is NaN: a faulty number must not hide behind a sound one.
pub fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0., |a, b| if b > a || b.is_nan() { b } else { a })
}

/// max |a − b|.
pub fn absolute(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    largest(numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).abs()))
}

/// max |a − b| / max |b|.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    absolute(a, b) / largest(numbers(b).into_iter().map(f64::abs))
}

/// max |a − b| / |b|, number by number.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    largest(a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs()))
}

#[test]
fn a_nan_is_far_from_everything() {
    let device = candle_core::Device::Cpu;
    let sound = Tensor::new(&[1f64, 2., 3.], &device).unwrap();
    for place in 0..3 {
        let mut values = [1f64, 2., 3.];
        values[place] = f64::NAN;
        let faulty = Tensor::new(&values, &device).unwrap();
        assert!(distance(&faulty, &sound).is_nan() && distance(&sound, &faulty).is_nan());
        assert!(relative(&values, &[1., 2., 3.]).is_nan());
    }
}
