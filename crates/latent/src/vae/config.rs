//! The configuration of `AutoencoderKL`, with diffusers' names and defaults.

use crate::LatentError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// diffusers' `AutoencoderKL` configuration, as far as Stable Diffusion 1 uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoencoderKlConfig {
    /// Channels of images.
    pub in_channels: usize,
    /// Channels of decoded images.
    pub out_channels: usize,
    /// "DownEncoderBlock2D" for each level.
    pub down_block_types: Vec<String>,
    /// "UpDecoderBlock2D" for each level.
    pub up_block_types: Vec<String>,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level of the encoder; one more in the decoder.
    pub layers_per_block: usize,
    /// "silu" or "swish".
    pub act_fn: String,
    /// Channels of latents.
    pub latent_channels: usize,
    /// Groups of every norm.
    pub norm_num_groups: usize,
    /// Side of the images it was made for.
    pub sample_size: usize,
    /// What latents are multiplied with, so that they have about unit variance.
    pub scaling_factor: f64,
    /// Whether diffusers computes it in 32 bits, as it always is here.
    pub force_upcast: bool,
    /// Whether a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1x1 convolution comes before the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the middles attend.
    pub mid_block_add_attention: bool,
}

impl Default for AutoencoderKlConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".into()],
            up_block_types: vec!["UpDecoderBlock2D".into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: 32,
            scaling_factor: 0.18215,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

impl AutoencoderKlConfig {
    /// The configuration in the text of a diffusers `config.json`.
    ///
    /// # Errors
    /// In words: no JSON, an unknown key, a latent shift, or another class by name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields: Map<String, Value> = lethe_layers::object::fields(text)?;
        let class = fields.get("_class_name").and_then(Value::as_str).unwrap_or("AutoencoderKL");
        if class != "AutoencoderKL" {
            return Err(format!("_class_name: expected AutoencoderKL, got {class}"));
        }
        for key in ["shift_factor", "latents_mean", "latents_std"] {
            match fields.remove(key) {
                None | Some(Value::Null) => {}
                Some(got) => return Err(format!("{key}: expected null, got {got}")),
            }
        }
        fields.retain(|key, _| !key.starts_with('_'));
        serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
    }

    /// Checks everything that does not depend on data.
    ///
    /// # Errors
    /// [`LatentError::Config`] names the first field that this network does not know.
    pub fn validate(&self) -> Result<(), LatentError> {
        let known = |field, got: &str, name: &str| require(field, got == name, name, got);
        self.down_block_types
            .iter()
            .try_for_each(|kind| known("down_block_types", kind, "DownEncoderBlock2D"))?;
        self.up_block_types
            .iter()
            .try_for_each(|kind| known("up_block_types", kind, "UpDecoderBlock2D"))?;
        let acts = ["silu", "swish"].contains(&self.act_fn.as_str());
        require("act_fn", acts, "silu", &self.act_fn)?;
        let levels = self.block_out_channels.len();
        require("block_out_channels", (1..=8).contains(&levels), "1 to 8 levels", levels)?;
        for (field, kinds) in
            [("down_block_types", &self.down_block_types), ("up_block_types", &self.up_block_types)]
        {
            require(field, kinds.len() == levels, format!("{levels}, one a level"), kinds.len())?;
        }
        for (field, n) in [
            ("layers_per_block", self.layers_per_block),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
        ] {
            require(field, (1..=64).contains(&n), "1 to 64", n)?;
        }
        let scale = self.scaling_factor;
        require(
            "scaling_factor",
            (1e-6..=1e6).contains(&scale),
            "a number from 1e-6 to 1e6",
            scale,
        )?;
        let groups = self.norm_num_groups;
        for &width in &self.block_out_channels {
            let bounded = (1..=1 << 16).contains(&width);
            require("block_out_channels", bounded, "1 to 65536 channels", width)?;
            let divides = groups > 0 && width.is_multiple_of(groups);
            require("norm_num_groups", divides, format!("a divisor of {width} channels"), groups)?;
        }
        Ok(())
    }

    /// Pixels along the side of one latent.
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len().max(1) - 1)
    }
}

fn require(
    field: &'static str,
    holds: bool,
    expected: impl Into<String>,
    got: impl ToString,
) -> Result<(), LatentError> {
    LatentError::require(field, holds, expected, got)
}
