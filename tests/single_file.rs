//! A model in the original layout, through the real binary: unpacked to the very tensors, used directly, and refused in words.

use crate::golden;
use crate::river::{Place, fail, lethe, succeed};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A safetensors file with its bytes, of whatever types.
#[derive(Clone, Default)]
struct Raw(BTreeMap<String, Tensor>);

#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Raw {
    fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: BTreeMap<String, Value> = serde_json::from_slice(&file[8..start]).unwrap();
        let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
        let tensor = |info: Value| {
            let [from, to]: [usize; 2] =
                serde_json::from_value(info["data_offsets"].clone()).unwrap();
            Tensor {
                dtype: info["dtype"].as_str().unwrap().into(),
                shape: serde_json::from_value(info["shape"].clone()).unwrap(),
                bytes: file[start + from..start + to].to_vec(),
            }
        };
        Self(tensors.map(|(name, info)| (name, tensor(info))).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        let (mut header, mut body) = (serde_json::Map::new(), Vec::new());
        for (name, Tensor { dtype, shape, bytes }) in &self.0 {
            let offsets = [body.len(), body.len() + bytes.len()];
            let info = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
            header.insert(name.clone(), info);
            body.extend(bytes);
        }
        let header = Value::Object(header).to_string().into_bytes();
        [&(header.len() as u64).to_le_bytes()[..], &header, &body].concat()
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut Tensor)) -> Self {
        let mut changed = self.clone();
        change(changed.0.get_mut(name).expect(name));
        changed
    }
}

fn weights(folder: &Path, part: &str) -> Raw {
    let stem = if part == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
    Raw::read(&folder.join(part).join(format!("{stem}.safetensors")))
}

/// The golden model in small under the original names, with tensors that no part needs.
fn single() -> Raw {
    let table: BTreeMap<String, (String, String, Vec<usize>)> =
        golden::json("latent/single_file_names.json");
    let parts = ["unet", "vae", "text_encoder"];
    let parts = parts.map(|part| (part, weights(&golden::path("latent"), part)));
    let mut single = Raw::default();
    for (original, (part, name, published)) in table {
        let (_, tensors) = parts.iter().find(|(known, _)| *known == part).unwrap();
        // The golden text encoder has the names of transformers 5, and fewer layers.
        let name = name.strip_prefix("text_model.").unwrap_or(&name);
        let Some(tensor) = tensors.0.get(name) else { continue };
        let mut tensor = tensor.clone();
        if published.len() == tensor.shape.len() + 2 {
            tensor.shape.extend([1, 1]);
        }
        single.0.insert(original, tensor);
    }
    let held: usize = parts.iter().map(|(_, tensors)| tensors.0.len()).sum();
    assert_eq!(single.0.len(), held, "every tensor has its place");
    let stray = Tensor { dtype: "F32".into(), shape: vec![1], bytes: vec![0, 0, 192, 127] };
    for name in [
        "model_ema.diffusion_modelinput_blocks00weight",
        "model_ema.decay",
        "betas",
        "alphas_cumprod",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
    ] {
        single.0.insert(name.into(), stray.clone());
    }
    single
}

fn unpack(file: &Path, folder: &Path) -> Command {
    let mut command = lethe();
    command.args(["models", "unpack"]).arg(file).arg(folder);
    command.arg("--like").arg(golden::path("latent"));
    command
}

/// What is left beside `file` after unpacking it was refused with `code`: nothing; and in which words it was.
fn refused(place: &Place, bytes: &[u8], code: i32) -> String {
    let file = place.write("single.safetensors", bytes);
    let before = fs::read_dir(place.path("")).unwrap().count();
    let words = fail(&mut unpack(&file, &place.path("unpacked")), code);
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), before, "{words}");
    words
}

#[test]
fn every_tensor_comes_out_as_it_was_and_nothing_else() {
    let place = Place::new();
    let file = place.write("single.safetensors", single().bytes());
    let folder = place.path("unpacked");
    let said = succeed(&mut unpack(&file, &folder)).stdout;
    let said = String::from_utf8(said).unwrap();
    for line in ["moving averages, 2 t", "tables of the schedule, 2 t", "position numbers, 1 t"] {
        assert!(said.contains(line), "{said}");
    }
    let original = golden::path("latent");
    for part in ["unet", "vae", "text_encoder"] {
        let today = |(name, tensor): (String, Tensor)| {
            (name.strip_prefix("text_model.").map(String::from).unwrap_or(name), tensor)
        };
        let found: BTreeMap<_, _> = weights(&folder, part).0.into_iter().map(today).collect();
        assert!(found == weights(&original, part).0, "{part}");
        let config = format!("{part}/config.json");
        let read = |folder: &Path| fs::read(folder.join(&config)).unwrap();
        assert_eq!(read(&folder), read(&original));
    }
    for name in ["tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json"]
    {
        assert_eq!(fs::read(folder.join(name)).unwrap(), fs::read(original.join(name)).unwrap());
    }
    let index = fs::read_to_string(folder.join("model_index.json")).unwrap();
    assert!(index.contains("PNDMScheduler") && index.contains("StableDiffusionPipeline"));
    succeed(lethe().args(["models", "verify"]).arg(&folder));
    // The same bytes again, and never over what is there.
    let again = place.path("again");
    succeed(&mut unpack(&file, &again));
    assert!(weights(&again, "unet").0 == weights(&folder, "unet").0);
    assert!(fail(&mut unpack(&file, &again), 73).contains("there already"));
    // Without --like it is v1.5 that is expected, in its full widths.
    let plain = &mut lethe();
    plain.args(["models", "unpack"]).arg(&file).arg(place.path("plain"));
    let words = fail(plain, 77);
    assert!(words.contains("320") && words.contains("of 1130 tensors do not fit"), "{words}");
    assert!(!place.path("plain").exists() && !place.path(".plain.partial").exists());
}

#[test]
fn half_precision_stays_half() {
    let place = Place::new();
    for dtype in ["F16", "BF16"] {
        let mut half = single();
        for tensor in half.0.values_mut().filter(|tensor| tensor.dtype == "F32") {
            // The upper half of a 32-bit float is a bfloat16, and some number as a half float: finite, unless its
            // exponent is full.
            let word = |word: &[u8]| [word[2], word[3] & 0xbf];
            tensor.bytes = tensor.bytes.chunks_exact(4).flat_map(word).collect();
            tensor.dtype = dtype.into();
        }
        let name = "first_stage_model.quant_conv.bias";
        let expected = half.0[name].clone();
        let file = place.write("single.safetensors", half.bytes());
        let folder = place.path(dtype);
        succeed(&mut unpack(&file, &folder));
        assert_eq!(weights(&folder, "vae").0["quant_conv.bias"], expected);
        assert_eq!(weights(&folder, "text_encoder").0.values().next().unwrap().dtype, "F16");
        succeed(lethe().args(["models", "verify"]).arg(&folder));
    }
}

#[test]
fn everything_that_does_not_fit_is_named_and_nothing_is_left() {
    let (place, single) = (Place::new(), single());
    let (conv, bias) =
        ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.quant_conv.bias");
    let mut missing = single.clone();
    missing.0.remove(conv);
    missing.0.remove("cond_stage_model.transformer.text_model.final_layer_norm.bias");
    let words = refused(&place, &missing.bytes(), 77);
    for name in ["`unet/conv_in.weight`", "`text_encoder/text_model.final_layer_norm.bias`"] {
        assert!(words.contains(name), "{words}");
    }
    let mut renamed = single.clone();
    let tensor = renamed.0.remove(conv).unwrap();
    renamed.0.insert("model.diffusion_model.input_blocks.0.9.weight".into(), tensor.clone());
    let words = refused(&place, &renamed.bytes(), 77);
    for part in ["missing: `unet/conv_in.weight`", "unexpected: `model.diffusion_model.input_bl"] {
        assert!(words.contains(part), "{words}");
    }
    let mut more = single.clone();
    more.0.insert("first_stage_model.encoder.more".into(), tensor);
    assert!(refused(&place, &more.bytes(), 77).contains("`first_stage_model.encoder.more`"));
    // An inpainting model takes nine channels.
    let shaped = single.with(conv, |tensor| tensor.shape.swap(0, 1));
    assert!(refused(&place, &shaped.bytes(), 77).contains(conv));
    let attention = "first_stage_model.encoder.mid.attn_1.q.weight";
    let flat = single.with(attention, |tensor| tensor.shape = vec![64]);
    assert!(refused(&place, &flat.bytes(), 77).contains(attention));
    let spoilt = single.with(bias, |t| t.bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(refused(&place, &spoilt.bytes(), 77).contains(&format!("`{bias}` at [2] is NaN")));
    let typed = single.with(bias, |tensor| tensor.dtype = "I32".into());
    assert!(refused(&place, &typed.bytes(), 77).contains("got I32"));
    let whole = single.bytes();
    for length in [0, 7, 1000, whole.len() / 2, whole.len() - 1] {
        assert!(refused(&place, &whole[..length], 77).contains("not a whole safetensors file"));
    }
}

#[test]
fn other_families_and_pickles_are_called_by_their_names() {
    let place = Place::new();
    for (name, family) in [
        ("conditioner.embedders.0.transformer.text_model.final_layer_norm.bias", "Diffusion XL"),
        ("cond_stage_model.model.ln_final.bias", "Stable Diffusion 2"),
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.0.x", "FLUX"),
        ("down_blocks.0.resnets.0.conv1.bias", "give the folder"),
        ("something.else", "`something.else`"),
    ] {
        let tensor = Tensor { dtype: "F32".into(), shape: vec![1], bytes: vec![0; 4] };
        let file = Raw(BTreeMap::from([(name.to_string(), tensor)])).bytes();
        assert!(refused(&place, &file, 77).contains(family), "{family}");
    }
    assert!(refused(&place, b"PK\x03\x04archive/data.pkl", 77).contains("a pickle"));
    let pickle = place.write("v1-5.ckpt", b"\x80\x02}");
    assert!(fail(&mut unpack(&pickle, &place.path("out")), 77).contains("a pickle"));
    assert!(
        fail(lethe().args(["models", "verify"]).arg(&pickle), 77).contains("take the same model")
    );
    let absent = place.path("absent.safetensors");
    assert!(fail(&mut unpack(&absent, &place.path("out")), 66).contains("absent.safetensors"));
    assert!(fail(lethe().args(["models", "verify"]).arg(&absent), 66).contains("absent"));
    let file = place.write("single.safetensors", single().bytes());
    let mut unlike = lethe();
    unlike.args(["models", "unpack"]).arg(&file).arg(place.path("out"));
    assert!(fail(unlike.arg("--like").arg(place.path("")), 66).contains("whole Stable Diffusion"));
}

/// The folder that the cache in `place` holds.
fn cached(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

#[test]
fn a_single_file_is_used_as_its_folder_and_unpacked_once() {
    let place = Place::new();
    let file = place.write("single.safetensors", single().bytes());
    let verify = || {
        let mut command = lethe();
        command.env("LETHE_CACHE", place.path("cache")).args(["models", "verify"]).arg(&file);
        command.arg("--like").arg(golden::path("latent"));
        String::from_utf8(succeed(&mut command).stderr).unwrap()
    };
    assert!(verify().contains("once") && verify().contains("unpacked before"));
    let [folder]: [PathBuf; 1] = cached(&place).try_into().unwrap();
    // What was cut is no longer whole, and made again.
    let unet = folder.join("unet/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&unet).unwrap();
    fs::write(&unet, &bytes[..bytes.len() - 1]).unwrap();
    assert!(verify().contains("once") && fs::read(&unet).unwrap() == bytes);
    // A folder has its own configurations.
    let like = &mut lethe();
    like.args(["models", "verify"]).arg(&folder).arg("--like").arg(&folder);
    assert!(fail(like, 64).contains("only a single file"));
    let mut draw = lethe();
    draw.env("LETHE_CACHE", place.path("cache")).arg("sample").arg("--model").arg(&file);
    draw.arg("--like").arg(golden::path("latent")).args(["--prompt", "a cat", "--count", "1"]);
    draw.args(["--stages", "2", "--size", "64", "--out"]).arg(place.path("drawn.png"));
    succeed(&mut draw);
    assert!(fs::read(place.path("drawn.png")).unwrap().starts_with(b"\x89PNG"));
    // Another file has another folder.
    let bias = "first_stage_model.quant_conv.bias";
    let other = single().with(bias, |t| t.bytes[..4].copy_from_slice(&1f32.to_le_bytes()));
    place.write("single.safetensors", other.bytes());
    assert!(verify().contains("once"));
    assert_eq!(cached(&place).len(), 2);
}

#[test]
fn a_protocol_starts_from_a_single_file() {
    let place = Place::new();
    let file = place.write("single.safetensors", single().bytes());
    let protocol = place.write("protocol.toml", PROTOCOL);
    let learn = |pretrained: &Path, like: Option<&Path>, out: &str| {
        let mut command = lethe();
        command.env("LETHE_CACHE", place.path("cache")).arg("train").arg(&protocol);
        command.arg("--set").arg(format!("model.pretrained={}", pretrained.display()));
        if let Some(like) = like {
            command.arg("--set").arg(format!("model.like={}", like.display()));
        }
        command.arg("--out").arg(place.path(out));
        let said = String::from_utf8(succeed(&mut command).stdout).unwrap();
        weights(Path::new(said.lines().last().unwrap()), "unet").0
    };
    let from_folder = learn(&golden::path("latent"), None, "folder");
    assert!(from_folder == learn(&file, Some(&golden::path("latent")), "file"));
}

/// One step over a few images.
const PROTOCOL: &str = r#"
name = "single"
seeds = [7]

[data]
source = "fashion-mnist"
resolution = 64
colour = "rgb"
per_class = 4
held_out = 0.25

[stream]
tasks = [[0], [1]]

[diffusion]
schedule = "scaled-linear"
beta_start = 0.00085
beta_end = 0.012

[training]
steps = 1
later_steps = 1
batch = 2

[replay]
budget = 1
per_batch = 1
arms = ["none"]

[probe]
train_examples = 2
held_out_examples = 1
levels = [0.3]
headline = 0.3
bound_points = 0
curve_examples = 2
samples = 1
sample_stages = 2
"#;
