//! The autoencoder against diffusers.
