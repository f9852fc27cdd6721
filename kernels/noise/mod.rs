//! Random numbers from counters: nothing is carried from draw to draw, and any of them can be made alone, on any device.
//!
//! Law: Philox4x32-10, ten rounds of
//! (c₀, c₁, c₂, c₃) ← (hi(M₁c₂) ⊕ c₁ ⊕ k₀, lo(M₁c₂), hi(M₀c₀) ⊕ c₃ ⊕ k₁, lo(M₀c₀)), k ← k + W,
//! and of two of its words u, v the normal numbers √(−2 log((u + 1) / 2³²)) · (cos, sin)(2π v / 2³²), in 64 bits.
//! Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; Box & Muller 1958.
//!
//! The counter is (block, step, example's lower and upper half); a block has four words.
//! The words are the same everywhere; so are the numbers in host memory, and on a CUDA device where its `log` and `sincos`
//! round as ours do: all but one in many millions, and that one by the last bit of its 32.
//! Work: some 200 operations of 64 bits for two numbers; bytes: 4 for each, written once.

mod device;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// One block of Philox4x32-10.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const M: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const W: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let (first, second) = (M[0] * u64::from(c[0]), M[1] * u64::from(c[2]));
        c = [
            (second >> 32) as u32 ^ c[1] ^ k[0],
            second as u32,
            (first >> 32) as u32 ^ c[3] ^ k[1],
            first as u32,
        ];
        k = [k[0].wrapping_add(W[0]), k[1].wrapping_add(W[1])];
    }
    c
}

/// Standard normal noise at `step` under `key`, one row an example: [examples, each], f32.
///
/// # Errors
/// When the device refuses the tensor.
pub fn normal(
    key: [u32; 2],
    step: u32,
    examples: &[u64],
    each: usize,
    device: &Device,
) -> Result<Tensor> {
    if cfg!(feature = "cuda") && device.is_cuda() {
        return device::normal(key, step, examples, each, device);
    }
    let mut values = vec![0f32; examples.len() * each];
    values
        .par_chunks_mut(each.max(1))
        .zip(examples)
        .for_each(|(row, &example)| Draws::new(key, step, example).fill_normal(row));
    Tensor::from_vec(values, (examples.len(), each), device)
}

/// Numbers one after another, from a counter; 2³⁴ words of them.
#[derive(Clone, Debug)]
pub struct Draws {
    key: [u32; 2],
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
}

impl Draws {
    /// Those of one example at one step.
    pub fn new(key: [u32; 2], step: u32, example: u64) -> Self {
        let counter = [0, step, example as u32, (example >> 32) as u32];
        Self { key, counter, words: [0; 4], used: 4 }
    }

    /// 32 uniform bits.
    pub fn bits32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = philox4x32(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// 64 uniform bits.
    pub fn bits64(&mut self) -> u64 {
        u64::from(self.bits32()) | u64::from(self.bits32()) << 32
    }

    /// Uniform on [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform on 0..n without bias (Lemire 2019); `n` > 0.
    pub fn below(&mut self, n: u32) -> u32 {
        let threshold = n.wrapping_neg() % n.max(1);
        loop {
            let wide = u64::from(self.bits32()) * u64::from(n);
            if wide as u32 >= threshold {
                return (wide >> 32) as u32;
            }
        }
    }

    /// Two independent standard normal numbers, the same on every processor.
    pub fn normal_pair(&mut self) -> [f64; 2] {
        let first = (f64::from(self.bits32()) + 1.) / 4_294_967_296.; // (0, 1]
        let angle = f64::from(self.bits32()) / 4_294_967_296. * std::f64::consts::TAU;
        let radius = libm::sqrt(-2. * libm::log(first));
        let (sine, cosine) = libm::sincos(angle);
        [radius * cosine, radius * sine]
    }

    /// Fills `values` with standard normal numbers.
    pub fn fill_normal(&mut self, values: &mut [f32]) {
        for pair in values.chunks_mut(2) {
            let normal = self.normal_pair();
            for (value, normal) in pair.iter_mut().zip(normal) {
                *value = normal as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that Random123 publishes for philox4x32 10.
    #[test]
    fn philox_gives_its_published_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    #[test]
    fn normal_numbers_have_normal_moments() {
        let mut draws = Draws::new([3, 5], 0, 0);
        let n = 200_000;
        let values: Vec<f64> = (0..n / 2).flat_map(|_| draws.normal_pair()).collect();
        let moment = |k: i32| values.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(n);
        // Four standard errors of each moment.
        let error = |variance: f64| 4. * (variance / f64::from(n)).sqrt();
        assert!(moment(1).abs() <= error(1.));
        assert!((moment(2) - 1.).abs() <= error(2.));
        assert!(moment(3).abs() <= error(15.));
        assert!((moment(4) - 3.).abs() <= error(96.));
    }

    #[test]
    fn below_is_even() {
        let mut draws = Draws::new([4, 5], 0, 0);
        let mut counts = [0f64; 7];
        for _ in 0..70_000 {
            counts[draws.below(7) as usize] += 1.;
        }
        let chi: f64 = counts.iter().map(|count| (count - 10_000.).powi(2) / 10_000.).sum();
        assert!(chi <= 22.46, "{chi}"); // the .999 quantile with 6 degrees of freedom
    }
}
