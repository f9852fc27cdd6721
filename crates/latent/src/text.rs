//! The text encoder of CLIP, frozen: token ids to embeddings.

use crate::LatentError;
use crate::folder::{CONFIG, read_text, weight_files};
use crate::tokenizer::content;
use candle_core::{D, DType, Device, Tensor, bail};
use lethe_candlex::params::{Declarations, Init, ParamStore, Scope};
use lethe_candlex::tape::{Tape, Value};
use lethe_candlex::weights::{self, Loaded};
use lethe_layers::conv::Linear;
use lethe_layers::norm::LayerNorm;
use lethe_layers::operation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::path::Path;

#[cfg(test)]
mod tests;

/// Of an operation on tensors, where no other error is named.
type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// Stem of the weights.
pub const STEM: &str = "model";

/// Largest size that a configuration may ask for.
const MOST: usize = 1 << 16;
/// Most layers.
const MOST_LAYERS: usize = 1 << 8;
/// Most tokens: a multilingual vocabulary has a quarter of a million.
const MOST_TOKENS: usize = 1 << 20;

/// transformers' `CLIPTextConfig`, as far as it decides the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipTextConfig {
    /// Tokens with an embedding.
    pub vocab_size: usize,
    /// Channels of the embeddings.
    pub hidden_size: usize,
    /// Channels inside a layer's perceptron.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of every attention.
    pub num_attention_heads: usize,
    /// Most tokens of a text.
    pub max_position_embeddings: usize,
    /// "quick_gelu" or "gelu".
    pub hidden_act: String,
    /// ε of every norm.
    pub layer_norm_eps: f64,
}

impl Default for ClipTextConfig {
    /// transformers' defaults; Stable Diffusion 1.5 has 768 channels in 12 heads and 3072 inside.
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

/// Keys that transformers writes, with blanks between, and that do not change the last hidden state of a finished model.
///
/// Everything that begins with `_` is such a key, too.
const IRRELEVANT: &str = "\
    add_cross_attention architectures attention_dropout attn_implementation bad_words_ids \
    begin_suppress_tokens bos_token_id chunk_size_feed_forward cross_attention_hidden_size \
    decoder_start_token_id diversity_penalty do_sample dropout dtype early_stopping \
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task \
    forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label initializer_factor \
    initializer_range is_decoder is_encoder_decoder label2id length_penalty \
    logit_scale_init_value max_length min_length model_type name_or_path no_repeat_ngram_size \
    num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states \
    output_scores pad_token_id prefix problem_type projection_dim pruned_heads \
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id \
    suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder \
    tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript \
    transformers_version typical_p use_bfloat16 use_cache";

impl ClipTextConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`LatentError::Io`], [`LatentError::Content`] with what does not fit.
    pub fn read(path: &Path) -> Result<Self, LatentError> {
        Self::parse(&read_text(path)?).map_err(|reason| content(path, reason))
    }

    /// The configuration in the text of a `config.json`.
    ///
    /// # Errors
    /// In words: no JSON, a key that is not known, another kind of model, or a size that does not fit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields: Map<String, Json> = lethe_layers::object::fields(text)?;
        if let Some(kind) = fields.get("model_type").filter(|kind| *kind != "clip_text_model") {
            return Err(format!("model_type: expected clip_text_model, got {kind}"));
        }
        let is_irrelevant =
            |key: &str| key.starts_with('_') || IRRELEVANT.split(' ').any(|known| known == key);
        fields.retain(|key, _| !is_irrelevant(key));
        let config: Self =
            serde_json::from_value(Json::Object(fields)).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// Checks everything that does not depend on weights.
    ///
    /// # Errors
    /// [`LatentError::Config`] names the first field that this network does not know.
    pub fn validate(&self) -> Result<(), LatentError> {
        let sizes = [
            ("hidden_size", self.hidden_size, MOST),
            ("intermediate_size", self.intermediate_size, MOST),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MOST),
            ("max_position_embeddings", self.max_position_embeddings, MOST),
            ("vocab_size", self.vocab_size, MOST_TOKENS),
        ];
        for (field, size, most) in sizes {
            let expected = format!("a number from 1 to {most}");
            LatentError::require(field, (1..=most).contains(&size), expected, size)?;
        }
        let (channels, heads) = (self.hidden_size, self.num_attention_heads);
        let expected = format!("a divisor of {channels} channels");
        LatentError::require("num_attention_heads", channels % heads == 0, expected, heads)?;
        let epsilon = self.layer_norm_eps;
        let is_positive = epsilon.is_finite() && epsilon > 0.;
        LatentError::require("layer_norm_eps", is_positive, "a positive number", epsilon)?;
        Gate::named(&self.hidden_act).map(|_| ())
    }
}

/// The activation inside a layer's perceptron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// z / (1 + e^(−1.702 z)).
    QuickGelu,
    /// z · Φ(z), exact.
    Gelu,
}

impl Gate {
    fn named(name: &str) -> Result<Self, LatentError> {
        match name {
            "quick_gelu" => Ok(Self::QuickGelu),
            "gelu" => Ok(Self::Gelu),
            other => Err(LatentError::Config {
                field: "hidden_act",
                expected: "quick_gelu or gelu".into(),
                got: other.into(),
            }),
        }
    }

    fn forward(self, z: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu => (z * 1.702)?.silu()? / 1.702,
            Self::Gelu => z.gelu_erf(),
        }
    }
}

/// transformers' `CLIPTextModel`, without its pooled output.
///
/// It is never trained here: nothing is recorded.
#[derive(Clone, Debug)]
pub struct ClipTextEncoder {
    tokens: usize,
    positions: usize,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
}

impl ClipTextEncoder {
    /// The network, and what it declares, under the names of transformers up to its fourth generation.
    ///
    /// # Errors
    /// Those of [`ClipTextConfig::validate`].
    pub fn new(config: &ClipTextConfig) -> Result<(Self, Declarations), LatentError> {
        config.validate()?;
        let (mut declarations, channels) = (Declarations::default(), config.hidden_size);
        let mut model = declarations.at("text_model");
        let mut table = |name: &str, rows: usize| {
            let init = Init::Normal { deviation: 0.02 };
            model.at("embeddings").at(name).declare("weight", &[rows, channels], init)
        };
        let tokens = table("token_embedding", config.vocab_size);
        let positions = table("position_embedding", config.max_position_embeddings);
        let layers = (0..config.num_hidden_layers)
            .map(|at| Layer::declare(model.at("encoder").at("layers").at(at), config))
            .collect::<Result<_, _>>()?;
        let final_norm =
            LayerNorm::declare(model.at("final_layer_norm"), channels, config.layer_norm_eps);
        Ok((Self { tokens, positions, layers, final_norm }, declarations))
    }

    /// `last_hidden_state` of `ids`, texts of one length: [texts, tokens, hidden_size].
    ///
    /// # Errors
    /// When a text is longer than the positions or than another, or an id has no embedding.
    pub fn forward(&self, store: &ParamStore, ids: &[Vec<u32>]) -> Result<Tensor> {
        let tape = Tape::inference(store);
        let mut x = Value::constant(self.embed(store, ids)?);
        let mask = causal_mask(x.tensor())?;
        for layer in &self.layers {
            x = layer.forward(&tape, &x, &mask)?;
        }
        Ok(self.final_norm.forward(&tape, &x)?.tensor().clone())
    }

    fn embed(&self, store: &ParamStore, ids: &[Vec<u32>]) -> Result<Tensor> {
        let (tokens, positions) = (store.tensor(self.tokens), store.tensor(self.positions));
        let (rows, channels) = tokens.dims2()?;
        let length = ids.first().map_or(0, Vec::len);
        if length == 0 || length > positions.dim(0)? {
            bail!("texts: expected 1 to {} tokens in each, got {length}", positions.dim(0)?);
        }
        if let Some(other) = ids.iter().find(|text| text.len() != length) {
            bail!("texts: expected {length} tokens in each, got {}", other.len());
        }
        let flat = ids.concat();
        if let Some(id) = flat.iter().find(|&&id| id as usize >= rows) {
            bail!("texts: expected ids below {rows}, the encoder's tokens, got {id}");
        }
        let flat = Tensor::from_vec(flat, ids.len() * length, tokens.device())?;
        let found = tokens.index_select(&flat, 0)?.reshape((ids.len(), length, channels))?;
        found.broadcast_add(&positions.narrow(0, 0, length)?)
    }
}

/// 0 where a token may look, −∞ at what follows it: [tokens, tokens] for `x` [texts, tokens, channels].
fn causal_mask(x: &Tensor) -> Result<Tensor> {
    let n = x.dim(1)?;
    let follows = |at: usize| if at % n > at / n { f32::NEG_INFINITY } else { 0. };
    let mask = (0..n * n).map(follows).collect::<Vec<f32>>();
    Tensor::from_vec(mask, (n, n), x.device())?.to_dtype(x.dtype())
}

/// One layer: attention and a perceptron, each behind its norm and added to what came in.
#[derive(Clone, Debug)]
struct Layer {
    attention: Attention,
    norm1: LayerNorm,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    gate: Gate,
}

impl Layer {
    fn declare(mut scope: Scope, config: &ClipTextConfig) -> Result<Self, LatentError> {
        let (channels, inner) = (config.hidden_size, config.intermediate_size);
        let epsilon = config.layer_norm_eps;
        Ok(Self {
            attention: Attention::declare(scope.at("self_attn"), config),
            norm1: LayerNorm::declare(scope.at("layer_norm1"), channels, epsilon),
            fc1: Linear::declare(scope.at("mlp").at("fc1"), channels, inner),
            fc2: Linear::declare(scope.at("mlp").at("fc2"), inner, channels),
            norm2: LayerNorm::declare(scope.at("layer_norm2"), channels, epsilon),
            gate: Gate::named(&config.hidden_act)?,
        })
    }

    fn forward(&self, tape: &Tape, x: &Value, mask: &Tensor) -> Result<Value> {
        let attended = self.attention.forward(tape, &self.norm1.forward(tape, x)?, mask)?;
        let x = operation::add(tape, x, &attended)?;
        let inner = self.fc1.forward(tape, &self.norm2.forward(tape, &x)?)?;
        let inner = Value::constant(self.gate.forward(inner.tensor())?);
        operation::add(tape, &x, &self.fc2.forward(tape, &inner)?)
    }
}

/// Attention in which no token sees those behind it.
#[derive(Clone, Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn declare(mut scope: Scope, config: &ClipTextConfig) -> Self {
        let channels = config.hidden_size;
        let mut linear = |name: &str| Linear::declare(scope.at(name), channels, channels);
        Self {
            k: linear("k_proj"),
            v: linear("v_proj"),
            q: linear("q_proj"),
            out: linear("out_proj"),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, tape: &Tape, x: &Value, mask: &Tensor) -> Result<Value> {
        let (texts, tokens, channels) = x.tensor().dims3()?;
        let width = channels / self.heads;
        let headed = |linear: &Linear| {
            let y =
                linear.forward(tape, x)?.tensor().reshape((texts, tokens, self.heads, width))?;
            y.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (headed(&self.q)?, headed(&self.k)?, headed(&self.v)?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? * (width as f64).powf(-0.5))?;
        let mixed = softmax(&scores.broadcast_add(mask)?)?.matmul(&v)?;
        let mixed = mixed.transpose(1, 2)?.reshape((texts, tokens, channels))?.contiguous()?;
        self.out.forward(tape, &Value::constant(mixed))
    }
}

/// Over the last dimension; its largest entry must be finite.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

/// The declared name of a tensor in a file: transformers 5 leaves `text_model.` away.
///
/// `None` for the buffer of position numbers, which older files hold beside the weights.
pub fn todays_name(name: &str) -> Option<String> {
    const PREFIX: &str = "text_model.";
    let inner = name.strip_prefix(PREFIX).unwrap_or(name);
    (inner != "embeddings.position_ids").then(|| {
        let is_ours = ["embeddings.", "encoder.", "final_layer_norm."];
        let is_ours = is_ours.iter().any(|start| inner.starts_with(start));
        if is_ours { format!("{PREFIX}{inner}") } else { name.to_string() }
    })
}

/// Reads a diffusers `text_encoder` folder; every tensor of the network must be there once, in its shape, finite.
///
/// # Errors
/// [`LatentError`] names the file and everything in it that does not fit.
pub fn read(
    folder: &Path,
    dtype: DType,
    device: &Device,
) -> Result<(ClipTextConfig, ClipTextEncoder, Loaded), LatentError> {
    let config = ClipTextConfig::read(&folder.join(CONFIG))?;
    let files = weight_files(folder, STEM)?;
    let (encoder, declarations) = ClipTextEncoder::new(&config)?;
    let loaded = weights::load(&declarations, &files, todays_name, dtype, device)?;
    Ok((config, encoder, loaded))
}
