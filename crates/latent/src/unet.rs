//! `UNet2DConditionModel`: the text-conditioned U-Net of Stable Diffusion, under diffusers' names.
