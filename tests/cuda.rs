//! A CUDA device beside the processor: the same training, the same energies, and the same bits each time.
//!
//! The laws are skipped, with a line that says so, where there is no device or the build has none.

use crate::determinism;
use candle_core::{DType, Device, Tensor};
use lethe::hopfield::{HopfieldEnergy, Representation};
use lethe::train::Precision;

/// The device, or a line that says why there is none.
#[expect(clippy::print_stdout, reason = "a law that had nothing to test says so")]
fn device() -> Option<Device> {
    match lethe::kernels::device::open(0) {
        Ok(device) => Some(device),
        Err(error) => {
            println!("skipped, no CUDA device: {error}");
            None
        }
    }
}

/// max |a − b| / max |b| of two tensors, in 64 bits.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let values = |t: &Tensor| -> Vec<f64> {
        let t = t.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
        t.flatten_all().unwrap().to_vec1().unwrap()
    };
    let (a, b) = (values(a), values(b));
    let largest = b.iter().fold(0f64, |most, b| most.max(b.abs()));
    // A NaN stays: it compares with nothing.
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    worst.fold(0f64, |most, off| if off <= most { most } else { off }) / largest
}

type Named = Vec<(String, Tensor)>;

fn all_near(found: &Named, expected: &Named, tolerance: f64) {
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let off = distance(found, expected);
        assert!(off <= tolerance, "{name}: {off:e}");
    }
}

#[test]
fn training_is_the_processor_s() {
    let Some(cuda) = device() else { return };
    let expected = determinism::figures(&Device::Cpu, Precision::F32);
    let exact = determinism::figures(&cuda, Precision::F32);
    all_near(&exact, &expected, 1e-3);
    let found = determinism::figures(&cuda, Precision::Tf32);
    all_near(&found, &expected, 1e-2);
    let is_other = found.iter().zip(&exact).any(|((_, a), (_, b))| distance(a, b) > 0.);
    assert!(is_other, "with TF32 allowed, products were true ones all the same");
    // In bfloat16 the losses and norms are near, not every weight.
    let found = determinism::figures(&cuda, Precision::Bf16);
    all_near(&found, &expected, 3e-2);
}

#[test]
fn a_device_computes_the_same_bits_each_time() {
    let Some(cuda) = device() else { return };
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        let [first, second] = [0, 1].map(|_| determinism::figures(&cuda, precision));
        for ((name, a), (_, b)) in first.iter().zip(&second) {
            assert!(distance(a, b) <= 0., "{precision:?}: {name}");
        }
    }
}

#[test]
fn energies_are_the_processor_s() {
    let Some(cuda) = device() else { return };
    let ids: Vec<u64> = (0..3000).collect();
    let patterns = determinism::patterns(&ids);
    for representation in [Representation::Distance, Representation::Unit] {
        let energies = |device: &Device| {
            let x = patterns.to_device(device).unwrap();
            let stored = HopfieldEnergy::new(representation, &x, &ids).unwrap();
            Tensor::new(stored.leave_one_out(&x, &ids, 2.).unwrap(), &Device::Cpu).unwrap()
        };
        assert!(distance(&energies(&cuda), &energies(&Device::Cpu)) <= 1e-5);
    }
}
