//! The modern Hopfield network: energies, retrieval, and the choice of its inverse temperature.
//!
//! [`HopfieldEnergy`] holds stored patterns and answers queries; [`temperature`] finds the inverse temperature at which
//! a pattern has a given number of neighbours.
//! Knows no image, no denoiser and no task.

pub mod boltzmann;
mod energy;
pub mod temperature;

pub use energy::{HopfieldEnergy, Representation, nearest_neighbour_distance};
pub use lethe_kernels::hopfield_energy::{Answer, Form, Question, Wanted};
