//! The modern Hopfield network: energy, retrieval, inverse temperature.
