//! The rate of a square matrix product: what the cores, or the device, give in this minute.

use crate::child::serve_rounds;
use crate::place::Place;
use anyhow::Result;
use candle_core::DType;
use lethe_candlex::rng::Seed;

/// The case's name.
pub const NAME: &str = "yardstick";

/// In host memory; on a device, in bfloat16, eight times that.
const SIDE: u64 = 1024;

/// Operations of one product, 10⁹.
pub fn giga_operations(device: &str) -> f64 {
    2. * (side(device == "cpu") as f64).powi(3) / 1e9
}

fn side(is_host: bool) -> u64 {
    if is_host { SIDE } else { 8 * SIDE }
}

/// A round is the best of a few products: short ones see fewer interruptions than they suffer.
pub fn serve(place: &Place) -> Result<()> {
    let is_host = place.device.is_cpu();
    let side = side(is_host);
    let rows: Vec<u64> = (0..side).collect();
    let a = Seed(1).stream(NAME).normal(0, &rows, &[side as usize], &place.device)?;
    let a = if is_host { a } else { a.to_dtype(DType::BF16)? };
    serve_rounds(place, || {
        let mut best = f64::INFINITY;
        for _ in 0..8 {
            best = best.min(place.timed(|| Ok(a.matmul(&a)?))?);
        }
        Ok(best)
    })
}
