//! The diffusion process: noise schedules, parameterizations, objectives and samplers, for any network.
//!
//! The principal types are [`schedule::NoiseSchedule`], the levels; [`denoiser::Denoiser`], the only face of a network
//! that samplers and probes see; and [`sampler::walk`], the way back.
//! Knows no network, no data set and no task.

pub mod denoiser;
mod error;
pub mod guidance;
pub mod objective;
pub mod parameterization;
pub mod sampler;
pub mod schedule;
pub mod variational;

pub use error::DiffusionError;
