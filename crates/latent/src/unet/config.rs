//! The configuration of `UNet2DConditionModel`, with diffusers' names and defaults.

use crate::LatentError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Heads of each level's attentions: diffusers calls their number `attention_head_dim` here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerLevel {
    /// The same everywhere.
    One(usize),
    /// By level.
    Each(Vec<usize>),
}

impl PerLevel {
    /// The number at `level`.
    pub fn at(&self, level: usize) -> Option<usize> {
        match self {
            Self::One(n) => Some(*n),
            Self::Each(all) => all.get(level).copied(),
        }
    }
}

/// diffusers' `UNet2DConditionModel` configuration, as far as Stable Diffusion 1 uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UNet2dConditionConfig {
    /// Side of the latents it was made for; any multiple of 2^(levels − 1) works.
    pub sample_size: Option<usize>,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// False is supported.
    pub center_input_sample: bool,
    /// Cosines before sines.
    pub flip_sin_to_cos: bool,
    /// See [`lethe_layers::time_embedding::Sinusoids`].
    pub freq_shift: f64,
    /// "CrossAttnDownBlock2D" or "DownBlock2D" for each level.
    pub down_block_types: Vec<String>,
    /// "UNetMidBlock2DCrossAttn".
    pub mid_block_type: Option<String>,
    /// "CrossAttnUpBlock2D" or "UpBlock2D" for each level, from the deepest.
    pub up_block_types: Vec<String>,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// 1, or 0: zeros only after the last row and column.
    pub downsample_padding: usize,
    /// Divides the outputs of the middle blocks.
    pub mid_block_scale_factor: f64,
    /// Dropout rate inside residual blocks.
    pub dropout: f64,
    /// "silu" or "swish".
    pub act_fn: String,
    /// Groups of every norm.
    pub norm_num_groups: usize,
    /// ε of the residual blocks' norms.
    pub norm_eps: f64,
    /// Channels of the text encoder's output.
    pub cross_attention_dim: usize,
    /// Transformer blocks behind each residual block.
    pub transformer_layers_per_block: usize,
    /// Heads of each level, in spite of its name.
    pub attention_head_dim: PerLevel,
    /// The same, where diffusers was given it.
    pub num_attention_heads: Option<PerLevel>,
    /// Whether transformers project by linear layers.
    pub use_linear_projection: bool,
    /// Whether attention is taken in 32 bits: it always is here.
    pub upcast_attention: bool,
    /// "default" is supported.
    pub resnet_time_scale_shift: String,
}

impl Default for UNet2dConditionConfig {
    fn default() -> Self {
        let blocks = |plain: usize, with: &str, without: &str| {
            (0..4)
                .map(|i| if i == plain { without.to_string() } else { with.to_string() })
                .collect()
        };
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.,
            down_block_types: blocks(3, "CrossAttnDownBlock2D", "DownBlock2D"),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".into()),
            up_block_types: blocks(0, "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: 2,
            downsample_padding: 1,
            mid_block_scale_factor: 1.,
            dropout: 0.,
            act_fn: "silu".into(),
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: 1280,
            transformer_layers_per_block: 1,
            attention_head_dim: PerLevel::One(8),
            num_attention_heads: None,
            use_linear_projection: false,
            upcast_attention: false,
            resnet_time_scale_shift: "default".into(),
        }
    }
}

/// What diffusers' configuration has besides, and the one value that these networks know.
const OTHERS: [(&str, &str); 26] = [
    ("only_cross_attention", "false"),
    ("reverse_transformer_layers_per_block", "null"),
    ("encoder_hid_dim", "null"),
    ("encoder_hid_dim_type", "null"),
    ("dual_cross_attention", "false"),
    ("class_embed_type", "null"),
    ("addition_embed_type", "null"),
    ("addition_time_embed_dim", "null"),
    ("num_class_embeds", "null"),
    ("resnet_skip_time_act", "false"),
    ("resnet_out_scale_factor", "1"),
    ("time_embedding_type", "\"positional\""),
    ("time_embedding_dim", "null"),
    ("time_embedding_act_fn", "null"),
    ("timestep_post_act", "null"),
    ("time_cond_proj_dim", "null"),
    ("conv_in_kernel", "3"),
    ("conv_out_kernel", "3"),
    ("projection_class_embeddings_input_dim", "null"),
    ("attention_type", "\"default\""),
    ("class_embeddings_concat", "false"),
    ("mid_block_only_cross_attention", "null"),
    ("cross_attention_norm", "null"),
    ("addition_embed_type_num_heads", "64"),
    ("decay", "null"),
    ("power", "null"),
];

impl UNet2dConditionConfig {
    /// The configuration in the text of a diffusers `config.json`.
    ///
    /// # Errors
    /// In words: no JSON, an unknown key, a key at a value that these networks do not know, or another family by name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields: Map<String, Value> = lethe_layers::object::fields(text)?;
        if let Some(family) = other_family(&fields) {
            return Err(format!("expected the U-Net of Stable Diffusion 1, got that of {family}"));
        }
        for (key, expected) in OTHERS {
            let Some(got) = fields.remove(key) else { continue };
            let expected: Value = serde_json::from_str(expected).unwrap_or_default();
            let is_same = match (got.as_f64(), expected.as_f64()) {
                (Some(got), Some(expected)) => got == expected,
                _ => got == expected || (got == Value::Bool(false) && expected.is_null()),
            };
            if !is_same {
                return Err(format!("{key}: expected {expected}, got {got}"));
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
        self.validate_choices()?;
        let levels = self.block_out_channels.len();
        require("block_out_channels", (1..=8).contains(&levels), "1 to 8 levels", levels)?;
        let (down, up) = (self.down_block_types.len(), self.up_block_types.len());
        require("down_block_types", down == levels, format!("{levels}, one for each level"), down)?;
        require("up_block_types", up == levels, format!("{levels}, one for each level"), up)?;
        let small = |field, n: usize| require(field, (1..=64).contains(&n), "1 to 64", n);
        small("layers_per_block", self.layers_per_block)?;
        small("transformer_layers_per_block", self.transformer_layers_per_block)?;
        small("in_channels", self.in_channels)?;
        small("out_channels", self.out_channels)?;
        let context = self.cross_attention_dim;
        require("cross_attention_dim", (1..=1 << 16).contains(&context), "1 to 65536", context)?;
        let padding = self.downsample_padding;
        require("downsample_padding", padding <= 1, "0 or 1", padding)?;
        let rate = (0. ..1.).contains(&self.dropout);
        require("dropout", rate, "a rate from 0 to below 1", self.dropout)?;
        let epsilon = self.norm_eps > 0. && self.norm_eps.is_finite();
        require("norm_eps", epsilon, "a positive number", self.norm_eps)?;
        let scale = self.mid_block_scale_factor;
        let positive = scale > 0. && scale.is_finite();
        require("mid_block_scale_factor", positive, "a positive number", scale)?;
        let side = self.sample_size.unwrap_or(1);
        require("sample_size", (1..=1 << 14).contains(&side), "1 to 16384", side)?;
        (0..levels).try_for_each(|level| self.validate_level(level))
    }

    fn validate_choices(&self) -> Result<(), LatentError> {
        let known = |field, got: &str, names: &[&str]| {
            require(field, names.contains(&got), format!("one of {}", names.join(", ")), got)
        };
        for kind in &self.down_block_types {
            known("down_block_types", kind, &["CrossAttnDownBlock2D", "DownBlock2D"])?;
        }
        for kind in &self.up_block_types {
            known("up_block_types", kind, &["CrossAttnUpBlock2D", "UpBlock2D"])?;
        }
        let middle = self.mid_block_type.as_deref().unwrap_or("none");
        known("mid_block_type", middle, &["UNetMidBlock2DCrossAttn"])?;
        known("act_fn", &self.act_fn, &["silu", "swish"])?;
        known("resnet_time_scale_shift", &self.resnet_time_scale_shift, &["default"])?;
        let centers = self.center_input_sample;
        require("center_input_sample", !centers, "false", centers)
    }

    fn validate_level(&self, level: usize) -> Result<(), LatentError> {
        let (width, groups) = (self.block_out_channels[level], self.norm_num_groups);
        let bounded = (1..=1 << 16).contains(&width);
        require("block_out_channels", bounded, "1 to 65536 channels", width)?;
        let divides = groups > 0 && width.is_multiple_of(groups);
        require("norm_num_groups", divides, format!("a divisor of {width} channels"), groups)?;
        let heads = self.heads(level).unwrap_or(0);
        let divides = heads > 0 && width.is_multiple_of(heads);
        let expected = format!("for level {level} a number of heads that divides {width} channels");
        require("attention_head_dim", divides, expected, heads)
    }

    /// Heads of the attentions of `level`.
    pub fn heads(&self, level: usize) -> Option<usize> {
        self.num_attention_heads.as_ref().unwrap_or(&self.attention_head_dim).at(level)
    }

    /// Sides of latents that the network can take: multiples of this.
    pub fn divisor(&self) -> usize {
        1 << (self.block_out_channels.len().max(1) - 1)
    }
}

/// The family that a configuration betrays, where it is not Stable Diffusion 1.
fn other_family(fields: &Map<String, Value>) -> Option<String> {
    let class = fields.get("_class_name").and_then(Value::as_str).unwrap_or("UNet2DConditionModel");
    if class != "UNet2DConditionModel" {
        return Some(format!("another class, {class}"));
    }
    let is_xl = fields.get("addition_embed_type").and_then(Value::as_str) == Some("text_time");
    let context = fields.get("cross_attention_dim").and_then(Value::as_u64);
    match (is_xl, context) {
        (true, _) | (_, Some(2048)) => Some("Stable Diffusion XL".into()),
        (_, Some(1024)) => Some("Stable Diffusion 2".into()),
        _ => None,
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
