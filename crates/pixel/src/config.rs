//! The configuration of `UNet2DModel`, with diffusers' names and defaults.

use crate::PixelError;
use serde::{Deserialize, Serialize};

/// diffusers' `UNet2DModel` configuration; keys that begin with `_` are the library's own notes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UNet2dConfig {
    /// Side of the images it was made for; any multiple of 2^(levels − 1) works.
    pub sample_size: Option<usize>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Whether the input is first mapped from [0, 1] to [−1, 1].
    pub center_input_sample: bool,
    /// "positional" is supported.
    pub time_embedding_type: String,
    /// Channels of the time embedding; four times the first level's by default.
    pub time_embedding_dim: Option<usize>,
    /// See [`lethe_layers::time_embedding::Sinusoids`].
    pub freq_shift: f64,
    /// Cosines before sines.
    pub flip_sin_to_cos: bool,
    /// "DownBlock2D" or "AttnDownBlock2D" for each level.
    pub down_block_types: Vec<String>,
    /// "UNetMidBlock2D", or none.
    pub mid_block_type: Option<String>,
    /// "UpBlock2D" or "AttnUpBlock2D" for each level, from the deepest.
    pub up_block_types: Vec<String>,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// Divides the outputs of the middle blocks.
    pub mid_block_scale_factor: f64,
    /// 1, or 0: zeros only after the last row and column.
    pub downsample_padding: usize,
    /// "conv" or "resnet"; heeded by attention blocks alone.
    pub downsample_type: String,
    /// "conv" or "resnet"; heeded by attention blocks alone.
    pub upsample_type: String,
    /// Dropout rate inside residual blocks.
    pub dropout: f64,
    /// "silu", "swish", "gelu", "relu" or "mish".
    pub act_fn: String,
    /// Channels of one attention head; none: one head over all channels.
    pub attention_head_dim: Option<usize>,
    /// Groups of every norm.
    pub norm_num_groups: usize,
    /// Groups of the middle attention's norm, see diffusers.
    pub attn_norm_num_groups: Option<usize>,
    /// ε of every norm.
    pub norm_eps: f64,
    /// "default" or "scale_shift".
    pub resnet_time_scale_shift: String,
    /// Whether the middle has attention.
    pub add_attention: bool,
    /// None is supported; classes enter through `num_class_embeds`.
    pub class_embed_type: Option<String>,
    /// Number of classes with an embedding; none: unconditional.
    pub num_class_embeds: Option<usize>,
    /// Used by diffusers' learned time embedding alone.
    pub num_train_timesteps: Option<usize>,
}

impl Default for UNet2dConfig {
    fn default() -> Self {
        let blocks = |first: &str, rest: &str, at: usize| {
            (0..4).map(|i| if i == at { first.to_string() } else { rest.to_string() }).collect()
        };
        Self {
            sample_size: None,
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            time_embedding_type: "positional".into(),
            time_embedding_dim: None,
            freq_shift: 0.,
            flip_sin_to_cos: true,
            down_block_types: blocks("DownBlock2D", "AttnDownBlock2D", 0),
            mid_block_type: Some("UNetMidBlock2D".into()),
            up_block_types: blocks("UpBlock2D", "AttnUpBlock2D", 3),
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.,
            downsample_padding: 1,
            downsample_type: "conv".into(),
            upsample_type: "conv".into(),
            dropout: 0.,
            act_fn: "silu".into(),
            attention_head_dim: Some(8),
            norm_num_groups: 32,
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            resnet_time_scale_shift: "default".into(),
            add_attention: true,
            class_embed_type: None,
            num_class_embeds: None,
            num_train_timesteps: None,
        }
    }
}

impl UNet2dConfig {
    /// Checks everything that does not depend on data.
    ///
    /// # Errors
    /// [`PixelError::Config`] names the first field that this network does not know.
    pub fn validate(&self) -> Result<(), PixelError> {
        self.validate_choices()?;
        let levels = self.block_out_channels.len();
        require("block_out_channels", (1..=8).contains(&levels), "1 to 8 levels", levels)?;
        require(
            "down_block_types",
            self.down_block_types.len() == levels,
            "one for each level",
            levels,
        )?;
        require(
            "up_block_types",
            self.up_block_types.len() == levels,
            "one for each level",
            levels,
        )?;
        self.validate_sizes()?;
        require(
            "downsample_padding",
            self.downsample_padding <= 1,
            "0 or 1",
            self.downsample_padding,
        )?;
        require(
            "dropout",
            (0. ..1.).contains(&self.dropout),
            "a rate from 0 to below 1",
            self.dropout,
        )?;
        require("norm_eps", self.norm_eps > 0., "a positive number", self.norm_eps)?;
        let scale = self.mid_block_scale_factor;
        require(
            "mid_block_scale_factor",
            scale.is_finite() && scale > 0.,
            "a positive number",
            scale,
        )?;
        for &channels in &self.block_out_channels {
            self.validate_channels(channels)?;
        }
        self.validate_heads()
    }

    /// What lies above is a mistake that no memory would hold.
    fn validate_sizes(&self) -> Result<(), PixelError> {
        let optional = |size: Option<usize>| size.unwrap_or(1);
        for (field, size, most) in [
            ("layers_per_block", self.layers_per_block, 64),
            ("in_channels", self.in_channels, 1 << 12),
            ("out_channels", self.out_channels, 1 << 12),
            ("sample_size", optional(self.sample_size), 1 << 14),
            ("time_embedding_dim", optional(self.time_embedding_dim), 1 << 16),
            ("num_class_embeds", optional(self.num_class_embeds), 1 << 24),
        ] {
            require(field, (1..=most).contains(&size), &format!("1 to {most}"), size)?;
        }
        let shift = self.freq_shift;
        require("freq_shift", (-1. ..=1.).contains(&shift), "a number from -1 to 1", shift)
    }

    fn validate_choices(&self) -> Result<(), PixelError> {
        let known = |field, got: &str, names: &[&str]| {
            require(field, names.contains(&got), &format!("one of {}", names.join(", ")), got)
        };
        known("time_embedding_type", &self.time_embedding_type, &["positional"])?;
        for kind in &self.down_block_types {
            known("down_block_types", kind, &["DownBlock2D", "AttnDownBlock2D"])?;
        }
        for kind in &self.up_block_types {
            known("up_block_types", kind, &["UpBlock2D", "AttnUpBlock2D"])?;
        }
        if let Some(kind) = &self.mid_block_type {
            known("mid_block_type", kind, &["UNetMidBlock2D"])?;
        }
        known("downsample_type", &self.downsample_type, &["conv", "resnet"])?;
        known("upsample_type", &self.upsample_type, &["conv", "resnet"])?;
        known("act_fn", &self.act_fn, &["silu", "swish", "gelu", "relu", "mish"])?;
        known(
            "resnet_time_scale_shift",
            &self.resnet_time_scale_shift,
            &["default", "scale_shift"],
        )?;
        let class = self.class_embed_type.as_deref();
        require("class_embed_type", class.is_none(), "none", class.unwrap_or_default())
    }

    fn validate_channels(&self, channels: usize) -> Result<(), PixelError> {
        const MOST: usize = 1 << 16;
        require("block_out_channels", channels <= MOST, "at most 65536 channels", channels)?;
        let groups = self.norm_num_groups;
        let divides = channels > 0 && groups > 0 && channels.is_multiple_of(groups);
        require("norm_num_groups", divides, &format!("a divisor of {channels} channels"), groups)
    }

    fn validate_heads(&self) -> Result<(), PixelError> {
        let Some(head) = self.attention_head_dim else { return Ok(()) };
        for channels in self.attending() {
            let divides = head > 0 && channels.is_multiple_of(head);
            require(
                "attention_head_dim",
                divides,
                &format!("a divisor of {channels} channels"),
                head,
            )?;
        }
        Ok(())
    }

    /// Channels of every attention.
    fn attending(&self) -> Vec<usize> {
        let widths = &self.block_out_channels;
        let attends = |kind: &&String| kind.starts_with("Attn");
        let down = self.down_block_types.iter().zip(widths).filter(|(kind, _)| attends(kind));
        let up =
            self.up_block_types.iter().zip(widths.iter().rev()).filter(|(kind, _)| attends(kind));
        let middle = widths.last().filter(|_| self.mid_block_type.is_some() && self.add_attention);
        down.chain(up).map(|(_, &width)| width).chain(middle.copied()).collect()
    }

    /// Side of image that the network can take: a multiple of this.
    pub fn divisor(&self) -> usize {
        1 << (self.block_out_channels.len().max(1) - 1)
    }
}

fn require(
    field: &'static str,
    holds: bool,
    expected: &str,
    got: impl ToString,
) -> Result<(), PixelError> {
    if holds {
        return Ok(());
    }
    Err(PixelError::Config { field, expected: expected.to_string(), got: got.to_string() })
}
