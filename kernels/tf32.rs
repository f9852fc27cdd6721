//! Products of 32-bit numbers that read eleven leading bits of each factor, for as long as it is asked for.
//!
//! A CUDA device's tensor cores take 32-bit factors in this format (TF32) and add their products in 32 bits:
//! each product is off by up to 2⁻¹¹ of itself. Host memory knows true 32-bit products alone.

use candle_core::cuda::{gemm_reduced_precision_f32, set_gemm_reduced_precision_f32};

/// While one is held, CUDA's products of 32-bit numbers are in TF32, or true ones; then as they were before.
///
/// It holds for the whole process, as candle's own switch does.
#[derive(Debug)]
pub struct Tf32 {
    before: bool,
}

impl Tf32 {
    /// Until the value is dropped, products are in TF32 where `is_allowed`.
    pub fn held(is_allowed: bool) -> Self {
        let before = gemm_reduced_precision_f32();
        set_gemm_reduced_precision_f32(is_allowed);
        Self { before }
    }
}

impl Drop for Tf32 {
    fn drop(&mut self) {
        set_gemm_reduced_precision_f32(self.before);
    }
}
