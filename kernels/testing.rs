//! What every operation's tests use.

use candle_core::{DType, Device, Tensor};
use std::sync::OnceLock;

/// A fixed, patternless filling of [-1, 1) in float64.
pub(crate) fn filled(shape: &[usize], salt: u64) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f64> = (0..n as u64)
        .map(|i| {
            let mut z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
                ^ salt.wrapping_mul(0xD1B5_4A32_D192_ED03);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// max |a − b| / max |b|, in float64; NaN where either holds one, so that a comparison with a tolerance fails.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |t: &Tensor| t.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    let (a, b) = (wide(a), wide(b));
    assert_eq!(a.dims(), b.dims());
    // candle's own maximum passes over a NaN.
    let max = |t: &Tensor| {
        let values = t.abs().unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        values.into_iter().fold(0., |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b })
    };
    max(&(&a - &b).unwrap()) / max(&b).max(1e-30)
}

/// Σ a · b.
pub(crate) fn inner(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

pub(crate) fn f32(t: &Tensor) -> Tensor {
    t.to_dtype(DType::F32).unwrap()
}

/// Sizes at the edges of warps and blocks.
pub(crate) const SIZES: [usize; 6] = [1, 31, 32, 33, 127, 1000];

/// One device for all tests: opening it takes longer than most of them.
static CUDA: OnceLock<Result<Device, String>> = OnceLock::new();

/// Calls `f` for every device on which our kernels can run here: CUDA's, and the emulated one.
#[expect(clippy::print_stdout, reason = "a test that had nothing to test says so")]
pub(crate) fn on_devices(f: impl Fn(&Device)) {
    let mut devices = Vec::new();
    if cfg!(feature = "emulated") {
        devices.push(Device::Cpu);
    }
    if cfg!(feature = "cuda") {
        match CUDA.get_or_init(|| crate::device::open(0).map_err(|error| error.to_string())) {
            Ok(device) => devices.push(device.clone()),
            Err(error) => println!("no CUDA device, nothing tested on one: {error}"),
        }
    }
    if devices.is_empty() {
        println!("skipped: no device; build with `--features emulated` or `--features cuda`");
    }
    devices.iter().for_each(f);
}

/// The results of `f` must be the same bits each time, and under emulation in whatever order the threads run.
pub(crate) fn same_in_any_order(f: impl Fn() -> Vec<Tensor>) {
    let bits = |tensors: Vec<Tensor>| -> Vec<Vec<u64>> {
        let bits = |t: &Tensor| -> Vec<u64> {
            let wide = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
            wide.to_vec1::<f64>().unwrap().iter().map(|x| x.to_bits()).collect()
        };
        tensors.iter().map(bits).collect()
    };
    let first = bits(f());
    assert!(first == bits(f()), "twice the same is not the same");
    #[cfg(feature = "emulated")]
    for order in [crate::gpu::Order::Backward, crate::gpu::Order::Scattered] {
        assert!(first == bits(crate::gpu::in_order(order, &f)), "{order:?}");
    }
}

/// `t` on `device` in `dtype`, and what it holds there in 64 bits on the host.
pub(crate) fn there(t: &Tensor, dtype: DType, device: &Device) -> (Tensor, Tensor) {
    let there = t.to_dtype(dtype).unwrap().to_device(device).unwrap();
    let held = there.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    (there, held)
}

/// What is stored on a device, and how far a kernel may be from the reference on the same numbers, relative to the
/// largest: a few roundings of 32 bits, or one to bfloat16.
pub(crate) const TYPES: [(DType, f64); 2] = [(DType::F32, 2e-6), (DType::BF16, 5e-3)];
