//! Randomness as a pure function of (seed, stream, task, step, example).
//!
//! The generator is counter-based, [`lethe_kernels::noise`]: its key is a hash of (seed, stream name, task), its counter
//! (block, step, example).
//! Nothing is carried from draw to draw: resuming needs no state, and the order of work changes no number.

use candle_core::{Device, Result, Tensor};
use lethe_kernels::noise;

pub use lethe_kernels::noise::{Draws, philox4x32};

/// The one number from which a run's randomness follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream called `name` in task 0.
    pub fn stream(self, name: &str) -> Stream {
        self.task_stream(name, 0)
    }

    /// The stream called `name` in task `task`.
    pub fn task_stream(self, name: &str, task: u32) -> Stream {
        let mut hasher = blake3::Hasher::new_derive_key("lethe noise stream 1");
        hasher.update(&self.0.to_le_bytes()).update(&task.to_le_bytes()).update(name.as_bytes());
        let digest = *hasher.finalize().as_bytes();
        let word = |at: usize| {
            u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]])
        };
        Stream { key: [word(0), word(4)] }
    }
}

/// A named source of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The numbers at one step for one example.
    pub fn at(self, step: u32, example: u64) -> Draws {
        Draws::new(self.key, step, example)
    }

    /// Standard normal noise, one row an example: [examples, …shape], f32; made where it is wanted.
    ///
    /// # Errors
    /// When the device refuses the tensor.
    pub fn normal(
        self,
        step: u32,
        examples: &[u64],
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor> {
        let rows = noise::normal(self.key, step, examples, shape.iter().product(), device)?;
        rows.reshape([&[examples.len()], shape].concat())
    }
}

/// Where one training step's randomness inside a network comes from.
#[derive(Clone, Copy, Debug)]
pub struct StepKey<'a> {
    /// The run's seed.
    pub seed: Seed,
    /// Task being learned.
    pub task: u32,
    /// Optimizer step within it.
    pub step: u32,
    /// Ids of the batch's examples.
    pub examples: &'a [u64],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coordinate_changes_the_numbers() {
        let first = |seed: u64, name: &str, task, step, example| {
            Seed(seed).task_stream(name, task).at(step, example).bits64()
        };
        let base = first(1, "noise", 1, 1, 1);
        let others = [
            first(2, "noise", 1, 1, 1),
            first(1, "timesteps", 1, 1, 1),
            first(1, "noise", 2, 1, 1),
            first(1, "noise", 1, 2, 1),
            first(1, "noise", 1, 1, 2),
            first(1, "noise", 1, 1, 1 << 32 | 1),
        ];
        assert!(others.iter().all(|other| *other != base));
        assert_eq!(base, first(1, "noise", 1, 1, 1));
    }

    #[test]
    fn noise_depends_on_the_example_and_not_on_the_batch() {
        let stream = Seed(5).stream("noise");
        let rows = |examples: &[u64]| {
            stream.normal(9, examples, &[3, 5], &Device::Cpu).unwrap().to_vec3::<f32>().unwrap()
        };
        let (batch, alone) = (rows(&[10, 11, 12]), rows(&[12]));
        assert_eq!(batch[2], alone[0]);
        assert_ne!(batch[0], batch[1]);
    }
}
