//! Models from elsewhere: every file of a diffusers folder damaged, and headers that lie.

use crate::chance::Damage;
use crate::inputs::golden;
use crate::process::{Ended, REFUSED, Rule, lethe, run};
use crate::runs::{Files, files, restore};
use crate::tally::{Place, Suite, Tally};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

fn verify(folder: &Path) -> Command {
    let mut command = lethe();
    command.args(["models", "verify"]).arg(folder);
    command
}

/// A network on pixels, and a whole Stable Diffusion in small with an index of shards for its U-Net.
fn folders() -> [(&'static str, Files); 2] {
    let keep = |from: &str, wanted: fn(&str) -> bool| -> Files {
        let all = files(&golden(from)).into_iter();
        all.filter(|(name, _)| wanted(&name.to_string_lossy())).collect()
    };
    let pixel = keep("unet/defaults-like", |name| ["config.json", WEIGHTS].contains(&name));
    const PARTS: [&str; 6] =
        ["unet/", "vae/", "text_encoder/", "tokenizer/", "scheduler/", "model_index.json"];
    let mut whole = keep("latent", |name| PARTS.iter().any(|part| name.starts_with(part)));
    shard(&mut whole);
    [("UNet2DModel", pixel), ("Stable Diffusion", whole)]
}

/// The autoencoder's weights as one shard that an index names.
fn shard(model: &mut Files) {
    let bytes = model.remove(Path::new("vae").join(WEIGHTS).as_path()).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let shard = "diffusion_pytorch_model-00001-of-00001.safetensors";
    let names = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
    let map: serde_json::Map<_, _> = names.map(|name| (name.clone(), shard.into())).collect();
    let index = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
    model.insert(Path::new("vae").join(shard), bytes);
    model.insert(Path::new("vae").join(format!("{WEIGHTS}.index.json")), index.into_bytes());
}

/// Refused with the file's name, or still a model: numbers without a checksum may be legal numbers.
pub fn damaged(suite: &Suite, tally: &mut Tally) {
    for (what, whole) in folders() {
        let place = Place::new();
        let folder = place.path("model");
        restore(&folder, &whole);
        Rule::codes(&[0]).try_on(tally, &format!("{what}, whole"), &mut verify(&folder));
        for name in whole.keys() {
            let mut chance = suite.chance(&format!("{what} {}", name.display()));
            for _ in 0..suite.tries(5, 500) {
                let damage = Damage::any(&mut chance, &whole[name]);
                fs::write(folder.join(name), damage.done_to(&whole[name])).unwrap();
                let ended = run(&mut verify(&folder), Duration::from_secs(20));
                tally.saw(ended.outcome(), ended.wall, ended.peak);
                let verdict = judged(&ended, name);
                tally.count(|| format!("{what}: {}: {damage:?}", name.display()), verdict);
            }
            fs::write(folder.join(name), &whole[name]).unwrap();
        }
    }
}

fn judged(ended: &Ended, name: &Path) -> Result<(), String> {
    let codes = [&[0], &REFUSED[..]].concat();
    Rule::codes(&codes).memory(256).within(5).verdict(ended)?;
    // Parts that do not fit together are named by their folders.
    let part = name.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let file = name.file_name().unwrap().to_string_lossy();
    let is_named = ended.err.contains(&*file) || !part.is_empty() && ended.err.contains(&*part);
    let is_family = file == "model_index.json";
    match ended.code() == 0 || is_named || is_family {
        true => Ok(()),
        false => Err(format!("{file} is not named: {}", ended.err)),
    }
}

/// Headers of safetensors that lie about lengths, offsets, shapes, names.
pub fn headers(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let folder = place.path("model");
    let config = fs::read(golden("unet/defaults-like/config.json")).unwrap();
    place.write("model/config.json", config);
    let rule = Rule::codes(&[77]).saying(WEIGHTS).memory(128).within(5);
    for length in [0, 7, 100, 9_000, 100_000_001, 1 << 40, 1 << 63, u64::MAX] {
        let bytes = [&length.to_le_bytes()[..], &[b'{'; 92]].concat();
        place.write(&format!("model/{WEIGHTS}"), bytes);
        rule.try_on(tally, &format!("a header of {length} bytes"), &mut verify(&folder));
    }
    let tensor = |shape: &str, from: u64, to: u64| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    let (one, two) = (tensor("[2]", 0, 8), tensor("[2]", 8, 16));
    let huge = tensor("[4294967296,4294967296,4294967296]", 0, 16);
    let headers = [
        ("no JSON", "no".to_string()),
        ("an array", "[]".into()),
        ("the same name twice", format!("{{\"a\":{one},\"a\":{two}}}")),
        ("tensors that overlap", format!("{{\"a\":{one},\"b\":{}}}", tensor("[3]", 4, 16))),
        ("a hole", format!("{{\"a\":{one},\"b\":{}}}", tensor("[1]", 12, 16))),
        ("offsets behind the end", format!("{{\"a\":{}}}", tensor("[1000]", 0, 4000))),
        ("offsets that run backwards", format!("{{\"a\":{}}}", tensor("[2]", 16, 8))),
        ("a shape beyond all numbers", format!("{{\"a\":{huge}}}")),
        ("a shape of no number", format!("{{\"a\":{}}}", tensor("[-1]", 0, 16))),
        ("deep nesting", "{\"a\":".repeat(50_000)),
        ("a name of markup", format!("{{\"<script>\\n\\u001b[2J\":{one},\"b\":{two}}}")),
        ("no bytes described", "{}".into()),
    ];
    for (what, header) in headers {
        place.write(&format!("model/{WEIGHTS}"), safetensors(&header, &[0; 16]));
        let ended = rule.try_on(tally, what, &mut verify(&folder));
        let verdict = match ended.err.contains('\u{1b}') {
            true => Err("control characters reach the terminal".into()),
            false => Ok(()),
        };
        tally.count(|| format!("{what}, as told"), verdict);
    }
    // A hundred megabytes of a header: sparse, and of a million tensors.
    let path = folder.join(WEIGHTS);
    let mut file = File::create(&path).unwrap();
    file.write_all(&99_999_990u64.to_le_bytes()).unwrap();
    file.set_len(100_000_100).unwrap();
    rule.clone().memory(256).try_on(tally, "a header of zeros", &mut verify(&folder));
    let mut header = String::from("{");
    for n in 0..1_000_000 {
        header += &format!("\"t{n}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}},");
    }
    header.truncate(header.len() - 1);
    fs::write(&path, safetensors(&(header + "}"), &[])).unwrap();
    rule.memory(512).within(20).try_on(tally, "a million tensors", &mut verify(&folder));
}

pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Pickles, shards that lead out, other families, a folder where a file should be.
pub fn strangers(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let [(_, pixel), (_, whole)] = folders();
    let folder = place.path("model");
    let code = "__import__('os').system('touch PICKLED')";
    for end in ["bin", "ckpt", "pt", "pth", "pkl"] {
        restore(&folder, &pixel);
        fs::remove_file(folder.join(WEIGHTS)).unwrap();
        fs::write(folder.join(format!("diffusion_pytorch_model.{end}")), code).unwrap();
        let what = format!("a folder with a .{end} alone");
        Rule::codes(&[66, 77]).saying("model").try_on(tally, &what, &mut verify(&folder));
        let file = place.write(&format!("v1-5.{end}"), code);
        let rule = Rule::codes(&[77]).saying("pickle");
        rule.try_on(tally, &format!("a single .{end}"), &mut verify(&file));
    }
    let zip = place.write("zip.safetensors", b"PK\x03\x04 a pickle under another name");
    Rule::codes(&[77]).saying("pickle").try_on(tally, "a zip", &mut verify(&zip));
    for target in ["../../etc/passwd", "/etc/passwd", "../x.safetensors", "sub/x.safetensors", ""] {
        restore(&folder, &whole);
        let index = format!("{{\"weight_map\": {{\"a\": {target:?}}}}}");
        fs::write(folder.join("vae").join(format!("{WEIGHTS}.index.json")), index).unwrap();
        let rule = Rule::codes(&[77]).saying("index.json");
        rule.try_on(tally, &format!("an index that names `{target}`"), &mut verify(&folder));
    }
    for (what, name, field, value, word) in [
        ("XL", "unet/config.json", "addition_embed_type", "\"text_time\"", "XL"),
        ("XL's width", "unet/config.json", "cross_attention_dim", "2048", "XL"),
        ("2's width", "unet/config.json", "cross_attention_dim", "1024", "Diffusion 2"),
        ("a family", "model_index.json", "_class_name", "\"FluxPipeline\"", "FluxPipeline"),
        ("layers", "unet/config.json", "layers_per_block", "9999999999", "layers_per_block"),
        ("tokens", "text_encoder/config.json", "vocab_size", "999999999999", "vocab_size"),
        ("channels", "vae/config.json", "latent_channels", "99999999999", "latent_channels"),
    ] {
        restore(&folder, &whole);
        let path = folder.join(name);
        let mut config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config.insert(field.into(), serde_json::from_str(value).unwrap());
        fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
        let rule = Rule::codes(&[64, 77]).saying(word).memory(256).within(5);
        rule.try_on(tally, what, &mut verify(&folder));
    }
    restore(&folder, &whole);
    let path = folder.join("vae/config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('{', "{\"latent_channels\": 99,", 1)).unwrap();
    let rule = Rule::codes(&[77]).saying("latent_channels").saying("twice");
    rule.try_on(tally, "the same key twice", &mut verify(&folder));
    pixel_configurations(&place, &pixel, tally);
    let folder = restored(&place, &pixel);
    fs::remove_file(folder.join(WEIGHTS)).unwrap();
    fs::create_dir(folder.join(WEIGHTS)).unwrap();
    Rule::codes(&[77]).saying(WEIGHTS).try_on(tally, "a folder of this name", &mut verify(&folder));
}

fn restored(place: &Place, files: &Files) -> PathBuf {
    restore(&place.path("pixel"), files);
    place.path("pixel")
}

/// Configurations that ask for more than any machine has.
fn pixel_configurations(place: &Place, pixel: &Files, tally: &mut Tally) {
    let numbers = [
        ("layers_per_block", "1000000000000"),
        ("block_out_channels", "[18446744073709551615, 8]"),
        ("block_out_channels", "[1152921504606846976, 1152921504606846976]"),
        ("norm_num_groups", "0"),
        ("attention_head_dim", "0"),
        ("num_class_embeds", "1000000000000000"),
        ("in_channels", "4611686018427387904"),
        ("time_embedding_dim", "9223372036854775807"),
        ("norm_eps", "-1"),
        ("dropout", "1e999"),
    ];
    for (field, value) in numbers {
        let folder = restored(place, pixel);
        let path = folder.join("config.json");
        let mut config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&pixel[Path::new("config.json")]).unwrap();
        config.remove(field);
        let text = serde_json::to_string(&config).unwrap();
        let text = text.replacen('{', &format!("{{\"{field}\": {value},"), 1);
        fs::write(&path, text).unwrap();
        // Where a number is absurd only in what it costs, the weights do not fit it.
        let rule = Rule::codes(&[64, 77]).memory(256).within(5);
        rule.try_on(tally, &format!("{field} = {value}"), &mut verify(&folder));
    }
}
