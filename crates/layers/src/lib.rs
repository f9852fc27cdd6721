//! Differentiable building blocks, under the names that checkpoints use.
//!
//! A layer declares its parameters once, keeps their indices, and runs on a [`lethe_candlex::tape::Tape`],
//! which holds the numbers; so one layer serves raw weights and their average, training and sampling.
//! Images are [batch, height, width, channels] throughout.

pub mod activation;
pub mod attention;
pub mod conv;
pub mod dropout;
pub mod norm;
pub mod object;
pub mod operation;
pub mod recomputed;
pub mod resnet_block;
pub mod time_embedding;
pub mod transformer;
