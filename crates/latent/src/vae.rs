//! `AutoencoderKL`: images to latents and back, under diffusers' names.
