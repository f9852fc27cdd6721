//! The original layout of Stable Diffusion 1: one file for all parts, under the names of Rombach et al.'s code.
//!
//! Four levels are taken for granted, as every model of the family has them; the networks themselves refuse what does not fit.

/// The levels of U-Net and autoencoder.
const LEVELS: usize = 4;

/// A part of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `unet`.
    Unet,
    /// `vae`.
    Vae,
    /// `text_encoder`.
    TextEncoder,
}

impl Part {
    /// Name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
        }
    }
}

/// Where the tensor `name` of a single file belongs, and what diffusers calls it there.
///
/// `None` for what no part needs: moving averages, tables of the schedule, and names that are not of this layout.
pub fn place(name: &str) -> Option<(Part, String)> {
    if let Some(rest) = name.strip_prefix("model.diffusion_model.") {
        return Some((Part::Unet, unet(rest)?));
    }
    if let Some(rest) = name.strip_prefix("first_stage_model.") {
        return Some((Part::Vae, vae(rest)?));
    }
    let text = name.strip_prefix("cond_stage_model.transformer.")?;
    Some((Part::TextEncoder, text.to_string()))
}

/// "3.0.in_layers.0.weight" → (3, "0.in_layers.0.weight").
fn number(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn unet(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("input_blocks.") {
        let (n, rest) = number(rest)?;
        let Some(k) = n.checked_sub(1) else {
            return Some(format!("conv_in.{}", rest.strip_prefix("0.")?));
        };
        let (level, i) = (k / 3, k % 3);
        let place = format!("down_blocks.{level}");
        return match rest.strip_prefix("0.op.") {
            Some(rest) => Some(format!("{place}.downsamplers.0.conv.{rest}")),
            None => unit(&place, i, rest),
        };
    }
    if let Some(rest) = name.strip_prefix("output_blocks.") {
        let (n, rest) = number(rest)?;
        let (place, i) = (format!("up_blocks.{}", n / 3), n % 3);
        // The upsampler stands behind the attention, or where there is none in its place.
        let conv = rest.strip_prefix("1.conv.").or(rest.strip_prefix("2.conv."));
        return match conv {
            Some(rest) => Some(format!("{place}.upsamplers.0.conv.{rest}")),
            None => unit(&place, i, rest),
        };
    }
    if let Some(rest) = name.strip_prefix("middle_block.") {
        let (n, rest) = number(rest)?;
        return match n {
            0 | 2 => Some(format!("mid_block.resnets.{}.{}", n / 2, resnet(rest)?)),
            1 => Some(format!("mid_block.attentions.0.{rest}")),
            _ => None,
        };
    }
    renamed(
        name,
        &[
            ("time_embed.0.", "time_embedding.linear_1."),
            ("time_embed.2.", "time_embedding.linear_2."),
            ("out.0.", "conv_norm_out."),
            ("out.2.", "conv_out."),
        ],
    )
}

/// A residual block and the transformer behind it.
fn unit(place: &str, i: usize, rest: &str) -> Option<String> {
    let (n, rest) = number(rest)?;
    match n {
        0 => Some(format!("{place}.resnets.{i}.{}", resnet(rest)?)),
        1 => Some(format!("{place}.attentions.{i}.{rest}")),
        _ => None,
    }
}

fn resnet(rest: &str) -> Option<String> {
    renamed(
        rest,
        &[
            ("in_layers.0.", "norm1."),
            ("in_layers.2.", "conv1."),
            ("emb_layers.1.", "time_emb_proj."),
            ("out_layers.0.", "norm2."),
            ("out_layers.3.", "conv2."),
            ("skip_connection.", "conv_shortcut."),
        ],
    )
}

fn vae(name: &str) -> Option<String> {
    if name.starts_with("quant_conv.") || name.starts_with("post_quant_conv.") {
        return Some(name.to_string());
    }
    let (half, rest) = name.split_once('.')?;
    let inner = match (half, rest.split_once('.')?) {
        ("encoder", ("down", rest)) => {
            let (level, rest) = number(rest)?;
            format!("down_blocks.{level}.{}", stage(rest, "downsample", "downsamplers")?)
        }
        ("decoder", ("up", rest)) => {
            // The original counts from the image, diffusers from the latents.
            let (level, rest) = number(rest)?;
            let level = (LEVELS - 1).checked_sub(level)?;
            format!("up_blocks.{level}.{}", stage(rest, "upsample", "upsamplers")?)
        }
        ("encoder" | "decoder", ("mid", rest)) => format!("mid_block.{}", middle(rest)?),
        ("encoder" | "decoder", ("norm_out", rest)) => format!("conv_norm_out.{rest}"),
        ("encoder" | "decoder", ("conv_in" | "conv_out", _)) => rest.to_string(),
        _ => return None,
    };
    Some(format!("{half}.{inner}"))
}

/// A level of the autoencoder: "block.0.conv1.weight", or "downsample.conv.weight".
fn stage(rest: &str, sampler: &str, samplers: &str) -> Option<String> {
    let (kind, rest) = rest.split_once('.')?;
    if kind == sampler {
        return Some(format!("{samplers}.0.{rest}"));
    }
    let (i, rest) = number(rest).filter(|_| kind == "block")?;
    Some(format!("resnets.{i}.{}", rest.replace("nin_shortcut.", "conv_shortcut.")))
}

fn middle(rest: &str) -> Option<String> {
    if let Some(rest) = rest.strip_prefix("attn_1.") {
        let inner = renamed(
            rest,
            &[
                ("norm.", "group_norm."),
                ("q.", "to_q."),
                ("k.", "to_k."),
                ("v.", "to_v."),
                ("proj_out.", "to_out.0."),
            ],
        );
        return Some(format!("attentions.0.{}", inner?));
    }
    renamed(rest, &[("block_1.", "resnets.0."), ("block_2.", "resnets.1.")])
}

/// `name` with the first of the beginnings that it has exchanged.
fn renamed(name: &str, beginnings: &[(&str, &str)]) -> Option<String> {
    beginnings.iter().find_map(|(old, new)| Some(format!("{new}{}", name.strip_prefix(old)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// tests/golden/README.md says how the table was made.
    #[test]
    fn every_name_of_the_published_file_finds_its_place() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/latent/single_file_names.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let table: BTreeMap<String, (String, String, Vec<usize>)> =
            serde_json::from_str(&text).unwrap();
        assert_eq!(table.len(), 1_131);
        for (name, (part, expected, _)) in &table {
            let (found, renamed) = place(name).expect(name);
            assert_eq!((found.name(), &renamed), (part.as_str(), expected), "{name}");
        }
    }

    #[test]
    fn what_no_part_needs_has_no_place() {
        for name in [
            "model_ema.diffusion_modelinput_blocks00weight",
            "alphas_cumprod",
            "model.diffusion_model.input_blocks",
            "model.diffusion_model.middle_block.7.weight",
            "first_stage_model.decoder.up.9.block.0.conv1.weight",
            "first_stage_model.loss.logvar",
            "cond_stage_model.model.token_embedding.weight",
            "",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
    }
}
