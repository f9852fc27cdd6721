//! The rate of a 1024³ matrix product: what the cores give in this minute.

use crate::child::serve_rounds;
use anyhow::Result;
use candle_core::Device;
use lethe_candlex::rng::Seed;
use std::time::Instant;

/// The case's name.
pub const NAME: &str = "yardstick";

const SIDE: u64 = 1024;

/// Operations of one product, 10⁹.
pub const GIGA_OPERATIONS: f64 = 2. * (SIDE * SIDE * SIDE) as f64 / 1e9;

/// A round is the best of a few products: short ones see fewer interruptions than they suffer.
pub fn serve() -> Result<()> {
    let rows: Vec<u64> = (0..SIDE).collect();
    let a = Seed(1).stream(NAME).normal(0, &rows, &[SIDE as usize], &Device::Cpu)?;
    serve_rounds(|| {
        let mut best = f64::INFINITY;
        for _ in 0..8 {
            let start = Instant::now();
            a.matmul(&a)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(best)
    })
}
