//! What a denoiser still knows of an example, and how isolated the example is.
//!
//! [`Examples`] are ids and pixels, nothing else: the probe is blind to classes, tasks and training.
//! [`reconstruction`], [`bound`] and [`energy`] turn them into [`Reading`]s, which the ledger keeps.
//! [`denoiser_energy`] asks a denoiser itself for energies.
//! All noise is a function of (seed, example): every checkpoint and arm is asked the same question.

pub mod bound;
pub mod denoiser_energy;
pub mod energy;
mod examples;
pub mod facts;
mod reading;
pub mod reconstruction;

pub use examples::Examples;
pub use reading::{Moment, Reading};
