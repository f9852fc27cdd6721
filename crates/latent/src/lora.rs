//! Low-rank adapters of the U-Net, under the names that diffusers and peft give them.
//!
//! Law: W ← W + (alpha / rank) · B·A with A [rank, in] drawn as a linear layer's weight and B [out, rank] zero at first,
//! so that training starts at the network itself. Source: Hu et al. 2021 (LoRA), section 4.1.

use crate::{LatentError, UNet2dCondition};
use candle_core::{DType, Tensor};
use lethe_candlex::params::{Declarations, Init, ParamStore};
use lethe_layers::conv::Adapter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which layers are adapted, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSpec {
    /// Rank of the addition.
    pub rank: usize,
    /// alpha: the addition is scaled by alpha / rank. The rank by default, as diffusers' scripts have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Ends of the names of the linear layers that are adapted.
    pub targets: Vec<String>,
}

impl Default for LoraSpec {
    fn default() -> Self {
        let targets = ["to_q", "to_k", "to_v", "to_out.0"].map(String::from).to_vec();
        Self { rank: 4, alpha: None, targets }
    }
}

impl LoraSpec {
    /// alpha / rank.
    pub fn scale(&self) -> f64 {
        self.alpha.unwrap_or(self.rank as f64) / self.rank as f64
    }

    fn takes(&self, name: &str) -> bool {
        self.targets.iter().any(|target| {
            name.strip_suffix(target.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.'))
        })
    }
}

/// What the layer called `name` has in files.
fn names(name: &str) -> [String; 2] {
    ["A", "B"].map(|part| format!("unet.{name}.lora_{part}.weight"))
}

/// Gives `unet` its adapters, whose parameters come behind `base`, the network's own, and returns what they declare.
///
/// # Errors
/// [`LatentError::Config`] for a rank of 0 or beyond the layers, a scale that is no number, and a target that no layer
/// is called.
pub fn adapt(
    unet: &mut UNet2dCondition,
    base: &Declarations,
    spec: &LoraSpec,
) -> Result<Declarations, LatentError> {
    let require = |field, holds, expected: &str, got: String| {
        LatentError::require(field, holds, expected, got)
    };
    require("lora.rank", (1..=4096).contains(&spec.rank), "1 to 4096", spec.rank.to_string())?;
    let scale = spec.scale();
    let is_scale = (f64::from(f32::MIN_POSITIVE)..=1e6).contains(&scale.abs());
    let got = spec.alpha.map_or("none".into(), |alpha| alpha.to_string());
    require("lora.alpha", is_scale, "a number that is not 0, at most a million ranks", got)?;
    let (mut declarations, mut layers) = (Declarations::default(), Vec::new());
    unet.adapt(&mut |name, [channels_in, channels_out]| {
        layers.push(name.to_string());
        spec.takes(name).then(|| {
            let [a, b] = names(name);
            let first = base.as_slice().len();
            let shape = [spec.rank, channels_in];
            let down = first + declarations.declare(a, &shape, Init::FanIn(channels_in));
            let shape = [channels_out, spec.rank];
            let up = first + declarations.declare(b, &shape, Init::Constant(0.));
            Adapter { down, up, scale }
        })
    });
    for target in &spec.targets {
        let one = LoraSpec { targets: vec![target.clone()], ..spec.clone() };
        let is_known = layers.iter().any(|layer| one.takes(layer));
        let expected = "ends of the names of linear layers inside the transformer blocks: to_q, to_k, to_v, to_out.0, ff.net.0.proj, ff.net.2 (convolutions are not adapted)";
        require("lora.targets", is_known && !target.is_empty(), expected, format!("`{target}`"))?;
    }
    require("lora.targets", !declarations.as_slice().is_empty(), "at least one", "none".into())?;
    Ok(declarations)
}

/// The adapters as `load_lora_weights` of diffusers takes them, which knows no alpha beside the numbers: A and scale · B.
///
/// # Errors
/// Those of candle.
pub fn exported(store: &ParamStore, spec: &LoraSpec) -> candle_core::Result<Vec<(String, Tensor)>> {
    let scaled = |(name, tensor): (&str, &Tensor)| {
        let is_up = name.ends_with(".lora_B.weight");
        let tensor = if is_up { (tensor * spec.scale())? } else { tensor.clone() };
        Ok((name.to_string(), tensor))
    };
    store.iter().map(scaled).collect()
}

/// The network's own parameters with the adapters added in, by name, in their order: W + scale · B·A.
///
/// # Errors
/// When `store` lies over no base, and those of candle.
pub fn merged(store: &ParamStore, spec: &LoraSpec) -> candle_core::Result<Vec<(String, Tensor)>> {
    let Some(base) = store.base() else {
        candle_core::bail!("adapters: they lie over no network");
    };
    let adapters: BTreeMap<&str, &Tensor> = store.iter().collect();
    // Adapters may come from a moving average that is kept in host memory.
    let wide = |t: &Tensor, w: &Tensor| t.to_device(w.device())?.to_dtype(DType::F64);
    let merge = |(name, w): (&str, &Tensor)| {
        let layer = name.strip_suffix(".weight").unwrap_or(name);
        let [a, b] = names(layer);
        let w = match (adapters.get(a.as_str()), adapters.get(b.as_str())) {
            (Some(a), Some(b)) => {
                let more = (wide(b, w)?.matmul(&wide(a, w)?)? * spec.scale())?;
                (w.to_dtype(DType::F64)? + more)?.to_dtype(w.dtype())?
            }
            _ => w.clone(),
        };
        Ok((name.to_string(), w))
    };
    base.iter().map(merge).collect()
}
