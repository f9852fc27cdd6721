//! The modern Hopfield network: energies of data sets, and the theory of what a change of task does to them.
//!
//! [`HopfieldEnergy`] holds stored patterns and answers queries; [`temperature`] finds the inverse temperature at which
//! a pattern has a given number of neighbours.
//! The theory, 64-bit and in closed form, after the paper's sections:
//!
//! | section | module |
//! |---|---|
//! | 3, energy and retrieval | [`Network`], [`Arrival`] |
//! | 4, forgetting | [`geometry`], [`rotation`], [`rise`] |
//! | 5, replay | [`replay_gain`] |
//! | 4.2 and 5.2, the trained machine | [`boltzmann`] |
//! | beyond: where the theory speaks | [`regime`] |
//!
//! Knows no image, no denoiser and no task.

mod association;
pub mod boltzmann;
mod energy;
mod error;
mod fixed_point;
pub mod geometry;
mod network;
mod normal;
pub mod regime;
pub mod replay_gain;
pub mod rise;
pub mod rotation;
mod spectrum;
pub mod temperature;
mod vectorized;
mod vectors;

pub use association::association;
pub use energy::{HopfieldEnergy, Representation, nearest_neighbour_distance};
pub use error::{HopfieldError, Result};
pub use fixed_point::{Arrival, FixedPoint, count_distinct};
pub use lethe_kernels::hopfield_energy::{Answer, Form, Question, Wanted};
pub use network::{Network, Recall};
pub use spectrum::eigenvalues;
pub use vectors::Vectors;
