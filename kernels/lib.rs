//! Fused operations, one folder each: the law, a slow reference that defines it, and a fast version.
//!
//! Operands are candle tensors, images with channels last.
//! 32-bit floats in host memory run our kernels, 64-bit floats the reference; on CUDA devices 32-bit floats and bfloat16
//! run each folder's `kernel.cu`, launched by its `device.rs`; all else is candle's own operations.
//! Gradients are functions of their own (`input_gradient`, …): the tape in `lethe-candlex` calls them.

mod elementary;
mod gpu;
mod in_place;
mod simd;
#[cfg(test)]
mod testing;
mod view;

pub mod adamw;
pub mod attention;
pub mod combine;
pub mod concat;
pub mod conv2d;
pub mod device;
pub mod ema;
pub mod gather;
pub mod geglu;
pub mod group_norm;
pub mod hopfield_energy;
pub mod layer_norm;
pub mod noise;
pub mod tf32;
pub mod upsample;

pub use simd::{InstructionSet, instruction_set};
