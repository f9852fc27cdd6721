//! The pixel-space U-Net of diffusers, trainable.
