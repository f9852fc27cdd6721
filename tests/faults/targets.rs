//! What is fuzzed: every parser of ours, each with the files around the one that is mutated.

use crate::fuzz::BROKEN;
use crate::inputs::{IMAGES, LABELS, golden, idx};
use crate::models::safetensors;
use candle_core::Device;
use lethe::candlex::weights::WeightFile;
use lethe::data::{ImageSet, ReadOptions, Shape};
use lethe::latent::{
    AutoencoderKl, AutoencoderKlConfig, Tokenizer, UNet2dCondition, UNet2dConditionConfig,
};
use lethe::ledger::{ExampleTable, Ledger, RunManifest, TrainingLog};
use lethe::prompts::{Prompts, templates, told};
use lethe::protocol::LatentSpec;
use lethe::study::Study;
use lethe::train::checkpoint::Checkpoint;
use std::fs;
use std::path::Path;

/// One parser.
pub struct Target {
    pub name: &'static str,
    /// Lays what the parser wants besides.
    pub prepare: fn(&Path),
    /// Parses the input; words where it is refused.
    pub run: fn(&Path, &[u8]) -> Result<(), String>,
}

const fn target(
    name: &'static str,
    prepare: fn(&Path),
    run: fn(&Path, &[u8]) -> Result<(), String>,
) -> Target {
    Target { name, prepare, run }
}

fn nothing(_: &Path) {}

/// The error in words, which are one line of bounded length.
fn words<T, E: std::fmt::Display>(outcome: Result<T, E>) -> Result<(), String> {
    let words = outcome.map(drop).map_err(|error| error.to_string());
    if let Err(words) = &words {
        assert!(!words.trim().is_empty(), "an error without words");
        assert!(words.len() < 100_000, "an error of {} bytes", words.len());
    }
    words
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn copy(folder: &Path, from: &str, names: &[&str]) {
    for name in names {
        put(folder, name, &fs::read(golden(from).join(name)).unwrap());
    }
}

fn check(path: &Path) -> Result<(), String> {
    let source = lethe::data::detect(path).map_err(|error| error.to_string())?;
    let summary = lethe::data::check(&source, &ReadOptions::default());
    words(summary.map(|summary| summary.to_string()))
}

const TOKENIZER: [&str; 4] =
    ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"];

fn tokenizer(folder: &Path) {
    copy(folder, "latent/tokenizer", &TOKENIZER);
}

fn tokenized(folder: &Path) -> Result<(), String> {
    let read = Tokenizer::read(folder).map_err(|error| error.to_string())?;
    let encoded = read.encode("A photo of a cat's <|endoftext|> 1234 \u{1f408}\u{e9}");
    assert_eq!(encoded.ids.len(), read.length());
    assert!(encoded.ids.iter().all(|&id| (id as usize) < read.n_tokens().max(1 << 20)));
    Ok(())
}

/// Lines whose checksums are made to fit, so that what is behind the checksum is fuzzed, too.
fn checked(bytes: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let body = line.strip_suffix(b"\n").and_then(|line| line.strip_suffix(b"}"));
        let Some(body) = body else {
            lines.extend(line);
            continue;
        };
        let check = blake3::hash(&[body, b"}"].concat()).to_hex();
        lines.extend([body, b",\"check\":\"", &check.as_bytes()[..8], b"\"}\n"].concat());
    }
    lines
}

fn protocol(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let path = put(folder, "p.toml", bytes);
    let spec = lethe::protocol::load(&path.display().to_string(), &[]);
    let spec = spec.map_err(|error| lethe::exit::in_words(&error))?;
    // Other sources have their own targets, and other files are none of this one's business.
    let is_large = spec.data.resolution.is_some_and(|side| side > 256);
    // Large images are made as asked for, and take the memory that they take.
    if spec.data.source != "fashion-mnist" || spec.model.pretrained.is_some() || is_large {
        return Ok(());
    }
    words(Study::sketch(spec, Device::Cpu, None).map_err(|error| lethe::exit::in_words(&error)))
}

fn idx_pair(folder: &Path) {
    put(folder, IMAGES, &idx(&[2, 2, 2], &[1; 8]));
    put(folder, LABELS, &idx(&[2], &[0, 1]));
}

fn cifar(folder: &Path) {
    for batch in 1..=5 {
        put(folder, &format!("data_batch_{batch}.bin"), &[1; 3073]);
    }
}

fn listed(folder: &Path) {
    fs::create_dir_all(folder.join("c")).unwrap();
    for name in ["c/a.png", "c/b.png"] {
        put(folder, name, &fs::read(golden("images/bits.png")).unwrap());
    }
}

fn class_folder(folder: &Path) {
    fs::create_dir_all(folder.join("c")).unwrap();
}

/// The shards that the corpus names, each with a tensor.
fn shards(folder: &Path) {
    for (name, tensor) in [("m-1.safetensors", "a"), ("m-2.safetensors", "b")] {
        let info = "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";
        put(folder, name, &safetensors(&format!("{{\"{tensor}\":{info}}}"), &[0; 4]));
    }
}

fn run_folder(folder: &Path) {
    for name in ["run.json", "examples.json", "training.jsonl"] {
        let corpus = ["run-manifest", "examples", "training"];
        let at = ["run.json", "examples.json", "training.jsonl"].iter().position(|n| *n == name);
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/corpus");
        let bytes = fs::read(from.join(corpus[at.unwrap()]).join("whole")).unwrap();
        put(folder, name, &if name == "run.json" { manifest(&bytes) } else { checked(&bytes) });
    }
}

/// A manifest in which the word DIGEST stands for that of its protocol, and whose own digest is made to fit.
fn manifest(bytes: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
    let text = text.replace("DIGEST", &lethe::ledger::digest("name = \"tiny\"\n"));
    let Some(body) = text.trim_end().strip_suffix("\n}") else { return text.into_bytes() };
    let check = lethe::ledger::digest(&format!("{body}\n}}\n"));
    format!("{body},\n  \"check\": \"{check}\"\n}}\n").into_bytes()
}

fn weights(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = WeightFile::open(&put(folder, "w.safetensors", bytes)).map_err(|e| e.to_string())?;
    let names: Vec<String> = file.names().map(String::from).collect();
    names.iter().try_for_each(|name| words(file.tensor(name)))
}

/// A checkpoint's manifest, its fields in the order in which they are written.
#[derive(serde::Serialize)]
struct Manifest {
    format: serde_json::Value,
    digest: String,
    state: serde_json::Value,
    files: serde_json::Value,
}

/// A checkpoint's manifest whose own digest is made to fit, where it still is JSON.
fn checkpoint(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut bytes = bytes.to_vec();
    if let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(&bytes)
        && value.is_object()
    {
        let inner = ["format", "state", "files"].map(|key| (key.to_string(), value[key].clone()));
        let inner: serde_json::Map<_, _> = inner.into_iter().collect();
        let digest = blake3::hash(serde_json::Value::Object(inner).to_string().as_bytes());
        let [state, files] = ["state", "files"].map(|key| value[key].take());
        let (format, digest) = (value["format"].take(), digest.to_hex().to_string());
        let text = serde_json::to_string_pretty(&Manifest { format, digest, state, files });
        bytes = (text.unwrap() + "\n").into_bytes();
    }
    put(folder, "checkpoint.json", &bytes);
    let found = Checkpoint::open(folder).map_err(|error| error.to_string())?;
    words(found.state::<lethe::learn::TaskState>())
}

fn unet(bytes: &str) -> Result<(), String> {
    words(UNet2dCondition::new(&UNet2dConditionConfig::parse(bytes)?))
}

fn vae(bytes: &str) -> Result<(), String> {
    words(AutoencoderKl::new(&AutoencoderKlConfig::parse(bytes)?))
}

fn text(bytes: &str) -> Result<(), String> {
    words(lethe::latent::ClipTextEncoder::new(&lethe::latent::ClipTextConfig::parse(bytes)?))
}

fn pixel(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let path = put(folder, "config.json", bytes);
    let config = lethe::pixel::folder::read_config(&path).map_err(|error| error.to_string())?;
    words(lethe::pixel::UNet2d::new(&config))
}

fn of_text(bytes: &[u8], parse: fn(&str) -> Result<(), String>) -> Result<(), String> {
    parse(std::str::from_utf8(bytes).map_err(|error| error.to_string())?)
}

fn scheduler(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    put(folder, "scheduler_config.json", bytes);
    let told = |error: anyhow::Error| lethe::exit::in_words(&error);
    words(lethe::pipeline::ending_of(folder).map_err(told))?;
    words(lethe::pipeline::scheduler_of(folder).map_err(told))
}

/// Each line a template, of images whose class and caption are templates themselves.
fn prompts(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let class = lines.first().cloned().filter(|line| !line.is_empty()).unwrap_or("a".into());
    let shape = Shape { width: 1, height: 1, channels: 1 };
    let images =
        ImageSet::new(shape, vec![class, "{b}".into()], vec![0, 1], vec![0, 1], vec![0; 2]);
    let images = images.and_then(|images| images.captioned(vec!["{class}".into(), text.into()]));
    let images = images.map_err(|error| error.to_string())?;
    let spec = LatentSpec { templates: Some(lines), ..LatentSpec::default() };
    spec.validate().map_err(|error| error.to_string())?;
    let spec = told(spec, &images).map_err(|error| error.to_string())?;
    let prompts = Prompts::new(&templates(&spec, &images), &images);
    assert_eq!(prompts.of_example.len(), 2);
    Ok(())
}

/// Breaks on one byte, for the control.
fn broken(_: &Path, bytes: &[u8]) -> Result<(), String> {
    assert!(!bytes.starts_with(b"b"), "broken on purpose");
    Ok(())
}

pub const TARGETS: &[Target] = &[
    target(BROKEN, nothing, broken),
    target("protocol", nothing, protocol),
    target("metadata-jsonl", listed, |at, bytes| {
        check(put(at, "metadata.jsonl", bytes).parent().unwrap())
    }),
    target("metadata-csv", listed, |at, bytes| {
        check(put(at, "metadata.csv", bytes).parent().unwrap())
    }),
    target("shard-index", shards, |at, bytes| {
        put(at, "m.safetensors.index.json", bytes);
        words(lethe::latent::folder::weight_files(at, "m"))
    }),
    target("model-index", nothing, |at, bytes| {
        put(at, "model_index.json", bytes);
        lethe::latent::folder::is_pipeline(at);
        words(lethe::latent::folder::expect_family(at))
    }),
    target("run-manifest", nothing, |at, bytes| {
        words(RunManifest::load(put(at, "run.json", &manifest(bytes))))
    }),
    target("ledger", nothing, |at, bytes| {
        words(Ledger::read_committed(put(at, "ledger.jsonl", &checked(bytes))))
    }),
    target("training", nothing, |at, bytes| {
        words(TrainingLog::read_committed(put(at, "training.jsonl", &checked(bytes))))
    }),
    target("examples", nothing, |at, bytes| {
        words(ExampleTable::load(put(at, "examples.json", &checked(bytes))))
    }),
    target("journal", nothing, |at, bytes| words(Ledger::open(put(at, "raw.jsonl", bytes)))),
    target("report", run_folder, |at, bytes| {
        put(at, "ledger.jsonl", &checked(bytes));
        words(lethe::report::write(at, None))
    }),
    target("idx-images", idx_pair, |at, bytes| check(put(at, IMAGES, bytes).parent().unwrap())),
    target("idx-labels", idx_pair, |at, bytes| check(put(at, LABELS, bytes).parent().unwrap())),
    target("cifar", cifar, |at, bytes| check(put(at, "data_batch_2.bin", bytes).parent().unwrap())),
    target("cifar-names", cifar, |at, bytes| {
        check(put(at, "batches.meta.txt", bytes).parent().unwrap())
    }),
    target("parquet", nothing, |at, bytes| check(&put(at, "train.parquet", bytes))),
    target("png", class_folder, check_image),
    target("jpeg", class_folder, check_image),
    target("webp", class_folder, check_image),
    target("safetensors", nothing, weights),
    target("checkpoint", nothing, checkpoint),
    target("vocab", tokenizer, |at, bytes| {
        tokenized(put(at, "vocab.json", bytes).parent().unwrap())
    }),
    target("merges", tokenizer, |at, bytes| {
        tokenized(put(at, "merges.txt", bytes).parent().unwrap())
    }),
    target("tokenizer-config", tokenizer, |at, bytes| {
        tokenized(put(at, "tokenizer_config.json", bytes).parent().unwrap())
    }),
    target("special-tokens", tokenizer, |at, bytes| {
        tokenized(put(at, "special_tokens_map.json", bytes).parent().unwrap())
    }),
    target("tokenizer-json", nothing, |at, bytes| {
        tokenized(put(at, "tokenizer.json", bytes).parent().unwrap())
    }),
    target("prompt", tokenizer, |at, bytes| {
        let read = Tokenizer::read(at).map_err(|error| error.to_string())?;
        of_text(bytes, |_| Ok(()))?;
        assert_eq!(read.encode(&String::from_utf8_lossy(bytes)).ids.len(), read.length());
        Ok(())
    }),
    target("templates", nothing, |_, bytes| prompts(bytes)),
    target("pixel-config", nothing, pixel),
    target("unet-config", nothing, |_, bytes| of_text(bytes, unet)),
    target("vae-config", nothing, |_, bytes| of_text(bytes, vae)),
    target("text-config", nothing, |_, bytes| of_text(bytes, text)),
    target("scheduler", nothing, scheduler),
];

fn check_image(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    put(folder, "c/a.png", bytes);
    let source = lethe::data::detect(folder).map_err(|error| error.to_string())?;
    let found = lethe::data::check(&source, &ReadOptions::default()).map_err(|e| e.to_string())?;
    match found.bad.first() {
        Some(bad) => Err(bad.reason.clone()),
        None => Ok(()),
    }
}
