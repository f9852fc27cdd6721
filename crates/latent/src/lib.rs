//! Stable Diffusion under diffusers' and transformers' names: what turns images and texts into what its U-Net sees,
//! and the U-Net itself, trainable.
//!
//! [`AutoencoderKl`] maps images to latents and back, [`Tokenizer`] and [`ClipTextEncoder`] texts to embeddings,
//! [`UNet2dCondition`] is the network that is fine-tuned.
//! Knows no task and no pixel-space network.

mod error;
pub mod folder;
pub mod lora;
pub mod single_file;
#[cfg(test)]
mod testing;
pub mod text;
mod tokenizer;
pub mod unet;
pub mod unpack;
pub mod vae;
mod vocabulary;

pub use error::LatentError;
pub use text::{ClipTextConfig, ClipTextEncoder};
pub use tokenizer::{Encoded, Tokenizer};
pub use unet::{UNet2dCondition, UNet2dConditionConfig};
pub use vae::{AutoencoderKl, AutoencoderKlConfig};
pub use vocabulary::{POSITIONS, Vocabulary};
