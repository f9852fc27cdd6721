//! Data sets and texts that mean harm: headers that lie, bombs, paths that lead out, nesting without end, no files at all.

use crate::inputs::{IMAGES, LABELS, check, cifar, golden, idx, idx_pair, noise};
use crate::process::{REFUSED, Rule, lethe};
use crate::runs::{TINY, river};
use crate::tally::{Place, Suite, Tally};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Zeros of `n` bytes behind `start`, packed, into a file.
fn packed(path: &Path, start: &[u8], n: u64) {
    let file = File::create(path).unwrap();
    let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::new(6));
    packer.write_all(start).unwrap();
    let block = vec![0; 1 << 20];
    let mut left = n;
    while left > 0 {
        let n = left.min(block.len() as u64) as usize;
        packer.write_all(&block[..n]).unwrap();
        left -= n as u64;
    }
    packer.finish().unwrap();
}

/// Readers of data, given headers and tables that lie.
pub fn data(suite: &Suite, tally: &mut Tally) {
    idx_headers(tally);
    bombs(suite, tally);
    let place = Place::new();
    cifar(&place, "cifar");
    let batch = place.path("cifar/data_batch_3.bin");
    for (what, bytes) in [
        ("one byte short", noise(2 * 3073 - 1)),
        ("empty", Vec::new()),
        ("label 10", [vec![10], noise(3072)].concat()),
    ] {
        fs::write(&batch, bytes).unwrap();
        let rule = Rule::codes(&[65]).saying("data_batch_3.bin");
        rule.try_on(tally, &format!("CIFAR: {what}"), &mut check(&place.path("cifar")));
    }
    metadata(tally);
    parquet(tally);
}

fn idx_headers(tally: &mut Tally) {
    let headers: [(&str, Vec<u8>); 8] = [
        ("no bytes", Vec::new()),
        ("a magic number alone", vec![0, 0, 8, 3]),
        ("floats", vec![0, 0, 13, 3, 0, 0, 0, 6, 0, 0, 0, 8, 0, 0, 0, 8]),
        ("255 dimensions", [vec![0, 0, 8, 255], vec![0xff; 64]].concat()),
        ("2^32 - 1 images", idx(&[u32::MAX, 8, 8], &noise(384))),
        ("sides of 2^32 - 1", idx(&[6, u32::MAX, u32::MAX], &noise(384))),
        ("no images", idx(&[0, 8, 8], &[])),
        ("no pixels", idx(&[6, 0, 0], &[])),
    ];
    for (what, bytes) in headers {
        let place = Place::new();
        idx_pair(&place, "idx", 6, 2);
        place.write(&format!("idx/{IMAGES}"), bytes);
        let rule = Rule::codes(&[65]).saying("idx").memory(64).within(5);
        rule.try_on(tally, &format!("idx: {what}"), &mut check(&place.path("idx")));
    }
}

/// A few megabytes that claim, or unpack to, gigabytes.
fn bombs(suite: &Suite, tally: &mut Tally) {
    let gigabytes = suite.tries(1, 8) as u64;
    let header = |dimensions: &[u32]| idx(dimensions, &[]);
    let cases: [(&str, Vec<u8>, u64); 3] = [
        ("more than its header says", header(&[6, 8, 8]), gigabytes << 30),
        ("2^32 - 1 images of 16384x16384", header(&[u32::MAX, 16_384, 16_384]), 1 << 20),
        ("a million images of 8192x8192", header(&[1_000_000, 8192, 8192]), gigabytes << 30),
    ];
    for (what, start, n) in cases {
        let place = Place::new();
        let labels = if start[4..8] == [0, 0, 0, 6] { 6 } else { 1_000_000 };
        idx_pair(&place, "idx", 6, 2);
        fs::remove_file(place.path("idx").join(IMAGES)).unwrap();
        packed(&place.path("idx").join(format!("{IMAGES}.gz")), &start, n);
        if labels > 6 {
            let count = u32::from_be_bytes(start[4..8].try_into().unwrap());
            fs::remove_file(place.path("idx").join(LABELS)).unwrap();
            let labels = place.path("idx").join(format!("{LABELS}.gz"));
            packed(&labels, &idx(&[count], &[]), u64::from(count).min(4_000_000));
        }
        let rule = Rule::codes(&[65]).saying("idx").memory(256).within(30);
        rule.try_on(tally, &format!("a gzip bomb: {what}"), &mut check(&place.path("idx")));
    }
    // Sparse files cost their maker nothing.
    let place = Place::new();
    idx_pair(&place, "idx", 6, 2);
    let (count, side) = (100_000u32, 4096u32);
    let images = place.write(&format!("idx/{IMAGES}"), header(&[count, side, side]));
    let length = 16 + u64::from(count) * u64::from(side) * u64::from(side);
    File::options().write(true).open(images).unwrap().set_len(length).unwrap();
    place.write(&format!("idx/{LABELS}"), idx(&[count], &vec![0; count as usize]));
    let rule = Rule::codes(&[65]).saying("idx").memory(256).within(5);
    rule.try_on(tally, "a sparse idx of 1.6 TB", &mut check(&place.path("idx")));
}

/// Lists of images that lie, lead out, or are no lists.
fn metadata(tally: &mut Tally) {
    let long = format!("{{\"file_name\": \"a.png\", \"text\": \"{}\"}}", "a".repeat(20_000));
    let deep = format!("{{\"file_name\": \"a.png\", \"text\": {}", "[".repeat(100_000));
    let lines: [(&str, &str, i32); 16] = [
        ("a path upwards", r#"{"file_name": "../../etc/passwd", "text": "a"}"#, 65),
        ("an absolute path", r#"{"file_name": "/etc/passwd", "text": "a"}"#, 65),
        ("a path through itself", r#"{"file_name": "a/../../b.png", "text": "a"}"#, 65),
        ("no path", r#"{"file_name": "", "text": "a"}"#, 65),
        ("a path of zero bytes", r#"{"file_name": "a\u0000.png", "text": "a"}"#, 65),
        ("a path of 5000 bytes", "LONG", 65),
        ("a path that is a number", r#"{"file_name": 7, "text": "a"}"#, 65),
        ("a list for a caption", r#"{"file_name": "a.png", "text": ["a"]}"#, 65),
        ("a huge label", r#"{"file_name": "a.png", "label": 99999999999999999999}"#, 65),
        ("a negative label", r#"{"file_name": "a.png", "label": -1}"#, 65),
        ("a label beyond all classes", r#"{"file_name": "a.png", "label": 4000000000}"#, 65),
        ("no JSON", "file_name: a.png", 65),
        ("an array", "[1, 2]", 65),
        ("an empty file", "", 65),
        ("a caption of 20,000 bytes", &long, 65),
        ("nesting 100,000 deep", &deep, 65),
    ];
    for (what, line, code) in lines {
        let place = Place::new();
        place.write("set/a.png", fs::read(golden("images/bits.png")).unwrap());
        let line = match line {
            "LONG" => format!("{{\"file_name\": \"{}.png\", \"text\": \"a\"}}", "a".repeat(5000)),
            line => line.to_string(),
        };
        place.write("set/metadata.jsonl", line + "\n");
        let rule = Rule::codes(&[code]).memory(64).within(5);
        let ended =
            rule.try_on(tally, &format!("metadata: {what}"), &mut check(&place.path("set")));
        let verdict = match ended.err.contains("root:") || ended.out.contains("root:") {
            true => Err("a file outside was read".to_string()),
            false => Ok(()),
        };
        tally.count(|| format!("metadata: {what}, as told"), verdict);
    }
    let place = Place::new();
    place.write(
        "set/metadata.jsonl",
        "{\"file_name\": \"link.png\", \"text\": \"a\", \"label\": 0}\n",
    );
    symlink("/etc/passwd", place.path("set/link.png")).unwrap();
    let rule = Rule::codes(&[65]).saying("set");
    rule.try_on(tally, "metadata: a link that leads out", &mut check(&place.path("set")));
}

fn parquet(tally: &mut Tally) {
    let whole = fs::read(golden("cifar10/hub.parquet")).unwrap();
    let footer = |length: u32| {
        let body = &whole[..whole.len() - 8];
        [body, &length.to_le_bytes(), b"PAR1"].concat()
    };
    for (what, bytes) in [
        ("a footer of 4 GB", footer(u32::MAX)),
        ("a footer of no bytes", footer(0)),
        ("its ends alone", b"PAR1PAR1".to_vec()),
        ("an encrypted footer", [&whole[..whole.len() - 4], b"PARE"].concat()),
    ] {
        let place = Place::new();
        let file = place.write("train.parquet", bytes);
        let rule = Rule::codes(&[65]).saying("train.parquet").memory(64).within(5);
        rule.try_on(tally, &format!("Parquet: {what}"), &mut check(&file));
    }
}

/// Texts that a parser might follow until its stack or memory ends.
pub fn texts(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let deep = |open: &str, n: usize| open.repeat(n);
    let protocols = [
        ("arrays 100,000 deep", format!("a = {}", deep("[", 100_000))),
        ("tables 100,000 deep", format!("a = {}", deep("{a=", 100_000))),
        ("a key of 100,000 parts", format!("{}a = 1", deep("a.", 100_000))),
        ("a header of 100,000 parts", format!("[{}a]", deep("a.", 100_000))),
        ("the same key twice", "name = \"a\"\nname = \"b\"".into()),
        ("the same table twice", "[data]\n[data]".into()),
        ("no UTF-8", String::new()),
        ("a number beyond all", "[training]\nsteps = 99999999999999999999".into()),
        ("not a number", format!("{TINY}\n").replace("1e-3", "nan")),
        ("no end", format!("{TINY}\n").replace("1e-3", "inf")),
        ("a million keys", (0..1_000_000).map(|n| format!("k{n} = 1\n")).collect()),
        ("an endless line", format!("name = \"{}\"", "a".repeat(20 << 20))),
        ("control characters", "name = \"a\u{1b}[2J\"\nseeds = [1]".into()),
        ("a name that leads out", TINY.replace("\"tiny\"", "\"../out\"")),
        ("a name of 5000 bytes", TINY.replace("\"tiny\"", &format!("{:?}", "n".repeat(5000)))),
    ];
    for (what, text) in protocols {
        let bytes =
            if text.is_empty() { b"name = \"\xff\xfe\"".to_vec() } else { text.into_bytes() };
        let file = place.write("hostile.toml", bytes);
        let mut command = lethe();
        command.arg("run").arg(&file).arg("--out").arg(place.path("never"));
        let rule = Rule::codes(&[64, 65]).memory(512).within(10);
        let ended = rule.try_on(tally, &format!("a protocol: {what}"), &mut command);
        let verdict = match (place.path("never").exists(), ended.err.contains('\u{1b}')) {
            (true, _) => Err("it left a folder".to_string()),
            (_, true) => Err("control characters reach the terminal".into()),
            _ => Ok(()),
        };
        tally.count(|| format!("a protocol: {what}, what it left"), verdict);
        fs::remove_dir_all(place.path("never")).unwrap_or_default();
    }
    json(&place, tally);
}

/// Every file of a run and of a model that is JSON.
fn json(place: &Place, tally: &mut Tally) {
    let deep = "[".repeat(100_000);
    let texts = [
        ("nesting", deep.as_str()),
        ("objects", &"{\"a\":".repeat(100_000)),
        ("a huge number", "1e999999999"),
        ("digits", &"9".repeat(1 << 20)),
        ("half a surrogate", "\"\\ud800\""),
        ("nothing", ""),
        ("null", "null"),
    ];
    let (expected, _) = crate::runs::unbroken(place, TINY, &place.path("run"));
    let checkpoint = "seed-7/task-1/step-00000004/checkpoint.json";
    for name in ["run.json", "progress.json", "examples.json", checkpoint] {
        for (what, text) in texts {
            let path = place.path("run").join(name);
            let whole = &expected[Path::new(name)];
            fs::write(&path, text).unwrap();
            let codes = [&[0], &REFUSED[..]].concat();
            let ended = crate::process::run(
                &mut river(place, TINY, &place.path("run")),
                std::time::Duration::from_secs(10),
            );
            tally.saw(ended.outcome(), ended.wall, ended.peak);
            let verdict =
                Rule::codes(&codes).memory(128).verdict(&ended).and_then(|()| {
                    match ended.code() == 0 && fs::read(&path).unwrap() != *whole {
                        true => Err("silently accepted".into()),
                        false => Ok(()),
                    }
                });
            tally.count(|| format!("{name}: {what}"), verdict);
            fs::write(&path, whole).unwrap();
        }
    }
}

/// Pipes, folders and loops where files should be: a refusal at once, never a wait without end.
pub fn kinds(_: &Suite, tally: &mut Tally) {
    type Put = fn(&Path);
    let puts: [(&str, Put); 4] = [
        ("a pipe", |path| {
            let path = CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: the path ends in a zero byte and lives through the call.
            assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        }),
        ("a folder", |path| fs::create_dir(path).unwrap()),
        ("a loop of links", |path| symlink(path, path).unwrap()),
        ("an endless device", |path| symlink("/dev/zero", path).unwrap()),
    ];
    let place = Place::new();
    let (expected, _) = crate::runs::unbroken(&place, TINY, &place.path("run"));
    let model = crate::runs::files(&golden("latent"));
    for (what, put) in puts {
        let mut replaced = |folder: &str, name: &str, command: &mut Command| {
            let path = place.path(folder).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let remove = |path: &Path| match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap_or_default(),
            };
            let whole = fs::read(&path).ok();
            remove(&path);
            put(&path);
            let codes = [&[0, 73, 74], &REFUSED[..]].concat();
            let rule = Rule::codes(&codes).within(10).memory(256);
            rule.try_on(tally, &format!("{what} in place of {folder}/{name}"), command);
            remove(&path);
            if let Some(whole) = whole {
                fs::write(&path, whole).unwrap();
            }
        };
        let mut protocol = lethe();
        protocol.arg("plan").arg(place.path("protocol/p.toml"));
        replaced("protocol", "p.toml", &mut protocol);
        let checkpoint = "seed-7/task-1/step-00000004/checkpoint.json";
        let files =
            ["run.json", "progress.json", "protocol.toml", "ledger.jsonl", "lock", checkpoint];
        for name in files {
            let mut command = river(&place, TINY, &place.path("run"));
            replaced("run", name, &mut command);
            crate::runs::restore(&place.path("run"), &expected);
        }
        for name in ["run.json", "examples.json", "ledger.jsonl", "images/examples.png"] {
            let mut command = lethe();
            command.arg("report").arg(place.path("run"));
            replaced("run", name, &mut command);
            crate::runs::restore(&place.path("run"), &expected);
        }
        idx_pair(&place, "idx", 6, 2);
        for name in [IMAGES, LABELS] {
            replaced("idx", name, &mut check(&place.path("idx")));
        }
        crate::runs::restore(&place.path("model"), &model);
        for name in model_files() {
            let mut command = lethe();
            command.args(["models", "verify"]).arg(place.path("model"));
            replaced("model", name, &mut command);
        }
        place.write("set/c/a.png", fs::read(golden("images/bits.png")).unwrap());
        for name in ["c/b.png", "d", "metadata.jsonl", "metadata.csv"] {
            replaced("set", name, &mut check(&place.path("set")));
        }
    }
}

fn model_files() -> [&'static str; 8] {
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
    ]
}
