//! The pixel-space U-Net of diffusers (`UNet2DModel`), trainable.
//!
//! [`UNet2dConfig`] is its configuration as diffusers writes it, [`UNet2d`] the network, [`folder`] the place on disk
//! from which both libraries load it and to which both write it.
//! Knows no task and no latent space.

mod config;
mod error;
pub mod folder;
mod unet;

pub use config::UNet2dConfig;
pub use error::PixelError;
pub use unet::UNet2d;
