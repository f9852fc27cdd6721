//! Stable Diffusion on disk: a folder as diffusers' `save_pretrained` leaves it.
//!
//! `model_index.json`, and one folder each for `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler`.
//! Weights are safetensors, whole or in shards that an index names; pickles run code when they are read, and are refused.

use crate::tokenizer::content;
use crate::{LatentError, UNet2dCondition, UNet2dConditionConfig};
use candle_core::{DType, Device};
use lethe_candlex::params::Declarations;
use lethe_candlex::weights::{self, Loaded};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What names the parts of a pipeline.
pub const INDEX: &str = "model_index.json";
/// Name of a part's configuration.
pub const CONFIG: &str = "config.json";
/// Stem of the weights of U-Net and VAE.
pub const DIFFUSERS_STEM: &str = "diffusion_pytorch_model";
/// The parts that a U-Net on latents needs besides itself.
pub const FROZEN_PARTS: [&str; 4] = ["vae", "text_encoder", "tokenizer", "scheduler"];

/// Ends of the names of files whose reading would run whatever code is in them.
const PICKLES: [&str; 5] = ["bin", "ckpt", "pt", "pth", "pkl"];

/// Largest JSON or text file that is read.
pub(crate) const LARGEST_JSON: u64 = 64 << 20;

/// Whether `path` is the folder of a whole Stable Diffusion pipeline, or says that it is one.
pub fn is_pipeline(path: &Path) -> bool {
    let text = read_text(&path.join(INDEX)).unwrap_or_default();
    text.contains("StableDiffusion")
        || path.join("vae").join(CONFIG).exists() && path.join("unet").join(CONFIG).exists()
}

/// Checks that `model_index.json`, where there is one, names a pipeline of Stable Diffusion 1.
///
/// # Errors
/// [`LatentError::Content`] names the family that it is instead.
pub fn expect_family(root: &Path) -> Result<(), LatentError> {
    let path = root.join(INDEX);
    if !path.exists() {
        return Ok(());
    }
    let index: Value = parse(&path)?;
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or_default();
    let known = ["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"];
    if known.contains(&class) {
        return Ok(());
    }
    let reason = format!("expected a StableDiffusionPipeline, got `{class}`");
    Err(LatentError::Content { path, reason })
}

/// The safetensors files of `folder` called `stem`: one, or the shards that `stem.safetensors.index.json` names.
///
/// # Errors
/// [`LatentError::Content`] when there are none, or only pickles, or an index that names something outside the folder.
pub fn weight_files(folder: &Path, stem: &str) -> Result<Vec<PathBuf>, LatentError> {
    for variant in ["", ".fp16"] {
        let whole = folder.join(format!("{stem}{variant}.safetensors"));
        if whole.exists() {
            return Ok(vec![whole]);
        }
    }
    let index = folder.join(format!("{stem}.safetensors.index.json"));
    if index.exists() {
        return shards(&index, folder);
    }
    Err(content(
        folder,
        match pickle(folder) {
            Some(name) => format!(
                "there is only {name}, a pickle: reading one runs whatever code is in it; save the model as safetensors first (`safe_serialization=True`)"
            ),
            None => format!("there is no {stem}.safetensors, nor {stem}.safetensors.index.json"),
        },
    ))
}

/// The name of a pickle in `folder`, if there is one.
fn pickle(folder: &Path) -> Option<String> {
    let names = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    names.into_iter().find(|name| is_pickle(Path::new(name)))
}

/// Whether `path` is called as pickles are.
pub fn is_pickle(path: &Path) -> bool {
    path.extension().is_some_and(|end| PICKLES.iter().any(|known| end == *known))
}

fn shards(index: &Path, folder: &Path) -> Result<Vec<PathBuf>, LatentError> {
    let content = |reason: String| LatentError::Content { path: index.to_path_buf(), reason };
    let text: Value = parse(index)?;
    let map = text.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| content("expected a `weight_map` of tensors to files".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, name) in map {
        let name = name.as_str().unwrap_or_default();
        let is_plain = name.ends_with(".safetensors") && !name.contains(['/', '\\', '\0']);
        if !is_plain {
            return Err(content(format!(
                "`{tensor}`: expected the name of a safetensors file beside the index, got `{name}`"
            )));
        }
        names.insert(name.to_string());
    }
    expect_listed(index, folder, map, &names)?;
    if names.is_empty() {
        return Err(content("its `weight_map` names no file".into()));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Checks that every tensor lies in the shard that the index names, and no other beside it.
fn expect_listed(
    index: &Path,
    folder: &Path,
    map: &serde_json::Map<String, Value>,
    names: &BTreeSet<String>,
) -> Result<(), LatentError> {
    let mut held = BTreeSet::new();
    for name in names {
        let file = weights::WeightFile::open(&folder.join(name))?;
        held.extend(file.names().map(|tensor| (tensor.to_string(), name.clone())));
    }
    let listed: BTreeSet<(String, String)> = map
        .iter()
        .map(|(tensor, name)| (tensor.clone(), name.as_str().unwrap_or_default().to_string()))
        .collect();
    match listed.symmetric_difference(&held).next() {
        None => Ok(()),
        Some((tensor, name)) if listed.contains(&(tensor.clone(), name.clone())) => {
            Err(content(index, format!("`{tensor}`: expected in {name}, which does not hold it")))
        }
        Some((tensor, name)) => {
            Err(content(index, format!("`{tensor}` lies in {name}, which the index does not say")))
        }
    }
}

/// The text of `path`, of a size that a configuration may have.
///
/// # Errors
/// [`LatentError::Io`], and [`LatentError::Content`] for a file that is too large.
pub fn read_text(path: &Path) -> Result<String, LatentError> {
    let io = |source| LatentError::Io { path: path.to_path_buf(), action: "read", source };
    let mut bytes = Vec::new();
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(content(path, "expected a file"));
    }
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(LARGEST_JSON + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LARGEST_JSON {
        return Err(content(path, format!("expected at most {LARGEST_JSON} bytes, it has more")));
    }
    String::from_utf8(bytes).map_err(|error| content(path, format!("expected UTF-8: {error}")))
}

fn parse(path: &Path) -> Result<Value, LatentError> {
    serde_json::from_str(&read_text(path)?).map_err(|error| LatentError::Content {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

/// A U-Net's configuration, its structure, and what it declares.
pub type Structure = (UNet2dConditionConfig, UNet2dCondition, Declarations);

/// Structure of the U-Net in `folder`, the `unet` of a pipeline.
///
/// # Errors
/// [`LatentError`] names the file and the field that does not fit.
pub fn read_unet_folder(folder: &Path) -> Result<Structure, LatentError> {
    let path = folder.join(CONFIG);
    let content = |reason| LatentError::Content { path: path.clone(), reason };
    let config = UNet2dConditionConfig::parse(&read_text(&path)?).map_err(content)?;
    let (unet, declarations) =
        UNet2dCondition::new(&config).map_err(|error| content(error.to_string()))?;
    Ok((config, unet, declarations))
}

/// The numbers of the U-Net in `folder`.
///
/// # Errors
/// [`LatentError`] names the file and everything in it that does not fit.
pub fn read_unet_weights(
    folder: &Path,
    declarations: &Declarations,
    dtype: DType,
    device: &Device,
) -> Result<Loaded, LatentError> {
    let files = weight_files(folder, DIFFUSERS_STEM)?;
    Ok(weights::load(declarations, &files, str::to_string, dtype, device)?)
}

/// Every file of the pipeline `root` but the U-Net's weights: (its place in a pipeline, where it lies).
///
/// # Errors
/// [`LatentError::Io`] when a folder cannot be listed.
pub fn other_files(root: &Path) -> Result<Vec<(String, PathBuf)>, LatentError> {
    let mut files = Vec::new();
    for name in [INDEX.to_string(), format!("unet/{CONFIG}")] {
        let path = root.join(&name);
        if path.exists() {
            files.push((name, path));
        }
    }
    for part in FROZEN_PARTS {
        let folder = root.join(part);
        let io = |source| LatentError::Io { path: folder.clone(), action: "list", source };
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).map(String::from);
            let is_wanted = ["json", "txt", "safetensors"]
                .iter()
                .any(|end| path.extension().is_some_and(|extension| extension == *end));
            if let (Some(name), true, true) = (name, is_wanted, path.is_file()) {
                // A variant in half precision goes by the common name, which is looked for first; beside it, it is not needed.
                let common = name.replace(".fp16.", ".");
                if common == name || !folder.join(&common).exists() {
                    files.push((format!("{part}/{common}"), path));
                }
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_variant_goes_by_the_common_name() {
        let folder = tempfile::tempdir().unwrap();
        for part in FROZEN_PARTS {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let put = |name: &str| std::fs::write(folder.path().join(name), name).unwrap();
        let stem = "diffusion_pytorch_model";
        put(&format!("vae/{stem}.fp16.safetensors"));
        put("text_encoder/model.fp16.safetensors");
        put("text_encoder/model.safetensors");
        let found = other_files(folder.path()).unwrap();
        let text = |name: &str| {
            let (_, path) = found.iter().find(|(place, _)| place == name).unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        let common = format!("vae/{stem}.safetensors");
        assert_eq!(text(&common), format!("vae/{stem}.fp16.safetensors"));
        assert_eq!(text("text_encoder/model.safetensors"), "text_encoder/model.safetensors");
        assert_eq!(found.len(), 2);
    }

    fn names(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let folder = folder(files);
        let found = weight_files(folder.path(), "model").map_err(|error| error.to_string())?;
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
        Ok(found.into_iter().map(name).collect())
    }

    #[test]
    fn whole_files_come_before_shards_and_pickles_are_refused() {
        let index = r#"{"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}"#;
        let shard = |tensors: &[&str]| {
            let one = candle_core::Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            let tensors: Vec<_> = tensors.iter().map(|&name| (name, one.clone())).collect();
            // All bytes of so small a file are ASCII.
            String::from_utf8(weights::serialize(&tensors, None).unwrap()).unwrap()
        };
        let (first, second) = (shard(&["b"]), shard(&["a", "c"]));
        let all = [
            ("model.safetensors.index.json", index),
            ("model-1.safetensors", first.as_str()),
            ("model-2.safetensors", second.as_str()),
            ("model.safetensors", ""),
        ];
        assert_eq!(names(&all).unwrap(), ["model.safetensors"]);
        assert_eq!(names(&all[..3]).unwrap(), ["model-1.safetensors", "model-2.safetensors"]);
        // A tensor that lies elsewhere than the index says, and one of which it says nothing.
        let less = shard(&["a"]);
        let moved = [all[0], all[1], ("model-2.safetensors", less.as_str())];
        assert!(names(&moved).unwrap_err().contains("`c`: expected in model-2.safetensors"));
        let more = shard(&["b", "d"]);
        let unsaid = [all[0], ("model-1.safetensors", more.as_str()), all[2]];
        assert!(names(&unsaid).unwrap_err().contains("`d` lies in model-1.safetensors"));
        assert!(names(&[("model.bin", "")]).unwrap_err().contains("a pickle"));
        assert!(names(&[]).unwrap_err().contains("there is no model.safetensors"));
    }

    #[test]
    fn an_index_does_not_lead_out_of_its_folder() {
        for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "model.bin", ""] {
            let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
            let words = names(&[("model.safetensors.index.json", &index)]).unwrap_err();
            assert!(words.contains("`a`") && words.contains(name), "{words}");
        }
        let words = names(&[("model.safetensors.index.json", "{}")]).unwrap_err();
        assert!(words.contains("weight_map"), "{words}");
    }

    #[test]
    fn another_family_is_named() {
        let index = r#"{"_class_name": "StableDiffusionXLPipeline"}"#;
        let xl = folder(&[(INDEX, index)]);
        let words = expect_family(xl.path()).unwrap_err().to_string();
        assert!(words.contains("StableDiffusionXLPipeline"), "{words}");
        expect_family(folder(&[]).path()).unwrap();
    }
}
