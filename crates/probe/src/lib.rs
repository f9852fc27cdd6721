//! Energies and reconstructions of examples under a denoiser.
