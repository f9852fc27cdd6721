//! Which files of a repository a pipeline needs.

use anyhow::{Result, bail};
use lethe_latent::folder::{CONFIG, DIFFUSERS_STEM, FROZEN_PARTS, INDEX};
use lethe_latent::text;
use std::collections::BTreeSet;

/// What of `names`, a repository's files, a network or a pipeline with one is read from, the file that names the whole last:
/// where it is there, all others are.
///
/// # Errors
/// In words: there is no network, or its weights are pickles alone.
pub fn wanted(names: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut wanted = Vec::new();
    let folders = ["", "unet"].into_iter().chain(FROZEN_PARTS);
    for folder in folders {
        let inside = inside(names, folder);
        wanted.extend(texts(folder, &inside).map(|name| place(folder, name)));
        let stem = if folder == "text_encoder" { text::STEM } else { DIFFUSERS_STEM };
        let weights = weights(stem, &inside);
        let is_network = !["tokenizer", "scheduler"].contains(&folder) && inside.contains(CONFIG);
        if is_network && weights.is_empty() {
            bail!(
                "{}: no {stem}.safetensors beside it; pickles are refused",
                place(folder, CONFIG)
            );
        }
        wanted.extend(weights.into_iter().map(|name| place(folder, &name)));
    }
    let is_whole = |name: &String| name == INDEX || name == CONFIG;
    if !wanted.iter().any(is_whole) {
        bail!("expected {INDEX} or {CONFIG} in its root: a diffusers folder has one");
    }
    wanted.sort_by_key(|name| (is_whole(name), name == INDEX, name.clone()));
    Ok(wanted)
}

/// Names of the files that lie in `folder` itself.
fn inside<'a>(names: &'a BTreeSet<String>, folder: &str) -> BTreeSet<&'a str> {
    let rest = |name: &'a String| match folder {
        "" => Some(name.as_str()),
        folder => name.strip_prefix(folder)?.strip_prefix('/'),
    };
    names.iter().filter_map(rest).filter(|name| !name.contains('/')).collect()
}

fn place(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") }
}

/// Configurations, and what a tokenizer is made of; in the root there is more that nobody reads.
fn texts<'a>(folder: &str, inside: &BTreeSet<&'a str>) -> impl Iterator<Item = &'a str> {
    let is_root = folder.is_empty();
    inside.clone().into_iter().filter(move |name| {
        let is_read = [INDEX, CONFIG, "scheduler_config.json"].contains(name);
        let is_text = name.ends_with(".json") || name.ends_with(".txt");
        is_read || !is_root && is_text && !name.ends_with(".index.json")
    })
}

/// The weights called `stem`: in one file, in shards with their index, or else in half precision.
fn weights(stem: &str, inside: &BTreeSet<&str>) -> Vec<String> {
    let (whole, index) = (format!("{stem}.safetensors"), format!("{stem}.safetensors.index.json"));
    let half = format!("{stem}.fp16.safetensors");
    if inside.contains(whole.as_str()) {
        return vec![whole];
    }
    if inside.contains(index.as_str()) {
        let is_shard = |name: &&&str| {
            let rest = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
            rest.is_some_and(|rest| rest.ends_with(".safetensors"))
        };
        let shards = inside.iter().filter(is_shard).map(ToString::to_string);
        return shards.chain([index.clone()]).collect();
    }
    if inside.contains(half.as_str()) { vec![half] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<Vec<String>> {
        wanted(&names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_pipeline_is_its_parts_without_pickles_and_variants() {
        let found = of(&[
            "README.md",
            "v1-5-pruned.safetensors",
            "v1-5-pruned.ckpt",
            "model_index.json",
            "feature_extractor/preprocessor_config.json",
            "safety_checker/config.json",
            "safety_checker/model.safetensors",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/model.safetensors",
            "text_encoder/pytorch_model.bin",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "unet/deeper/config.json",
            "vae/config.json",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ]);
        assert_eq!(
            found.unwrap(),
            [
                "scheduler/scheduler_config.json",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "tokenizer/merges.txt",
                "tokenizer/vocab.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
                "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
                "unet/diffusion_pytorch_model.safetensors.index.json",
                "vae/config.json",
                "vae/diffusion_pytorch_model.fp16.safetensors",
                "model_index.json",
            ]
        );
    }

    #[test]
    fn a_network_alone_is_its_folder() {
        let all = [
            ".gitattributes",
            "config.json",
            "diffusion_pytorch_model.bin",
            "diffusion_pytorch_model.safetensors",
            "model_index.json",
            "scheduler_config.json",
        ];
        let expected = [
            "diffusion_pytorch_model.safetensors",
            "scheduler_config.json",
            "config.json",
            "model_index.json",
        ];
        assert_eq!(of(&all).unwrap(), expected);
        let pickles = of(&all[..3]).unwrap_err().to_string();
        assert!(pickles.contains("pickles"), "{pickles}");
        assert!(of(&["README.md"]).unwrap_err().to_string().contains("model_index.json"));
    }
}
