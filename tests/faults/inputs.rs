//! What users give: every reader of data, fed damaged files.
//!
//! Most of these formats hold no checksum, and a flipped pixel may be a legal image. So a file is refused by its name, or
//! the digest of the data says that they are others; and a run that was begun with other data is not gone on with.

use crate::chance::Damage;
use crate::images::good;
use crate::process::{Ended, Rule, lethe, run};
use crate::runs::{TINY, broken_at, files, goes_on, restore, river, same, unbroken};
use crate::tally::{Place, Suite, Tally};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// An idx file of bytes with these dimensions.
pub fn idx(dimensions: &[u32], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    dimensions.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
    bytes.extend(body);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Bytes that look like nothing in particular.
pub fn noise(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * i / 7 + i * 31) as u8).collect()
}

pub const IMAGES: &str = "train-images-idx3-ubyte";
pub const LABELS: &str = "train-labels-idx1-ubyte";

/// A pair of idx files: `n` images of 8x8 of `classes` classes.
pub fn idx_pair(place: &Place, folder: &str, n: u32, classes: u32) {
    let labels: Vec<u8> = (0..n).map(|i| (i % classes) as u8).collect();
    place.write(&format!("{folder}/{IMAGES}"), idx(&[n, 8, 8], &noise(n as usize * 64)));
    place.write(&format!("{folder}/{LABELS}"), idx(&[n], &labels));
}

/// CIFAR-10's binary version with two images in each batch.
pub fn cifar(place: &Place, folder: &str) {
    for batch in 1..=5 {
        let records = [0, 1].map(|label| [vec![label], noise(3072)].concat()).concat();
        place.write(&format!("{folder}/data_batch_{batch}.bin"), records);
    }
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n";
    place.write(&format!("{folder}/batches.meta.txt"), names);
}

/// Two class folders of the golden image `name`, which must all have one shape.
fn class_folders(place: &Place, folder: &str, name: &str) {
    let bytes = fs::read(golden("images").join(name)).unwrap();
    for file in ["cat/a", "cat/b", "dog/a", "dog/b"] {
        place.write(&format!("{folder}/{file}.{name}"), &bytes);
    }
}

/// Four images that `text` lists.
fn listed(place: &Place, folder: &str, metadata: &str, text: &str) {
    for (number, file) in LISTED.iter().enumerate() {
        place.write(&format!("{folder}/{file}"), good(number));
    }
    place.write(&format!("{folder}/{metadata}"), text);
}

const LISTED: [&str; 4] = ["cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png"];

/// One data set of each kind; each reader in turn.
const SETS: [&str; 15] = [
    "idx",
    "idx-gz",
    "cifar",
    "parquet",
    "jsonl",
    "csv",
    "alpha.png",
    "bits.png",
    "deep.png",
    "palette.png",
    "progressive.jpg",
    "turned.jpg",
    "alpha.webp",
    "lossy.webp",
    "csv-crlf",
];

pub fn data_set(place: &Place, kind: &str) {
    match kind {
        "idx" => idx_pair(place, kind, 6, 2),
        "idx-gz" => {
            idx_pair(place, kind, 6, 2);
            for name in [IMAGES, LABELS] {
                let plain = place.path(kind).join(name);
                place.write(&format!("{kind}/{name}.gz"), gzip(&fs::read(&plain).unwrap()));
                fs::remove_file(plain).unwrap();
            }
        }
        "cifar" => cifar(place, kind),
        "parquet" => {
            let bytes = fs::read(golden("cifar10/hub.parquet")).unwrap();
            place.write("parquet/train-00000-of-00001.parquet", bytes);
        }
        "jsonl" => {
            let line = |name| serde_json::json!({ "file_name": name, "text": "a small picture" });
            let text = LISTED.map(|name| format!("{}\n", line(name))).concat();
            listed(place, kind, "metadata.jsonl", &text);
        }
        "csv" | "csv-crlf" => {
            let rows = LISTED.map(|name| format!("{name},\"one, two\",{}\n", &name[..3])).concat();
            let text = format!("file_name,text,label\n{rows}");
            let end = if kind == "csv" { "\n" } else { "\r\n" };
            listed(place, kind, "metadata.csv", &text.replace('\n', end));
        }
        image => class_folders(place, kind, image),
    }
}

/// The digest that `lethe data check` tells.
fn digest(ended: &Ended) -> Option<&str> {
    ended.out.lines().find_map(|line| line.strip_prefix("digest:")).map(str::trim)
}

/// `lethe data check`, also of images of several shapes.
pub fn check(path: &Path) -> std::process::Command {
    let mut command = lethe();
    command.args(["data", "check"]).arg(path);
    command
}

/// Refused with the file's name, or accepted with a digest of what is really there.
pub fn damaged(suite: &Suite, tally: &mut Tally) {
    for kind in SETS {
        let place = Place::new();
        data_set(&place, kind);
        let (folder, mut chance) = (place.path(kind), suite.chance(kind));
        let whole = files(&folder);
        let names: Vec<&PathBuf> = whole.keys().collect();
        Rule::codes(&[0]).try_on(tally, &format!("{kind}, whole"), &mut check(&folder));
        for _ in 0..suite.tries(12, 500) {
            let name = *chance.of(&names);
            let damage = Damage::any(&mut chance, &whole[name]);
            restore(&folder, &whole);
            fs::write(folder.join(name), damage.done_to(&whole[name])).unwrap();
            let ended = run(&mut check(&folder), Duration::from_secs(20));
            tally.saw(format!("{kind}: {}", ended.outcome()), ended.wall, ended.peak);
            let verdict = Rule::codes(&[0, 65]).memory(128).within(5).verdict(&ended);
            let verdict = verdict.and_then(|()| match ended.code() {
                0 if digest(&ended).is_none() => Err("accepted without a digest".into()),
                0 => Ok(()),
                _ => names_it(&ended, name),
            });
            tally.count(|| format!("{kind}: {}: {damage:?}", name.display()), verdict);
        }
    }
}

/// The file, or in a set of several the data set's own list of what is bad, is named.
fn names_it(ended: &Ended, name: &Path) -> Result<(), String> {
    let file = name.file_name().unwrap().to_string_lossy().into_owned();
    let all = format!("{}{}", ended.out, ended.err);
    // Of a pair that does not fit, either may be the wrong one.
    let is_named = all.contains(&file) || file.contains("idx") && all.contains("-ubyte");
    if is_named { Ok(()) } else { Err(format!("{file} is not named: {all}")) }
}

/// A run on data of which then another byte is flipped, where both are legal images.
pub fn changed(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    idx_pair(&place, "data", 60, 6);
    let protocol = TINY
        .replace(
            "source = \"fashion-mnist\"",
            "source = \"path\"\npath = \"DATA\"\nclasses = [NAMES]",
        )
        .replace("NAMES", "\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"")
        .replace("[8, 9]", "[4, 5]")
        .replace("DATA", &place.path("data").display().to_string());
    let out = place.path("run");
    let (expected, _) = unbroken(&place, &protocol, &place.path("whole"));
    broken_at(&place, &protocol, &out, "seed-7/none/task-2/step-00000002/checkpoint.json");
    let begun = files(&out);
    let (images, mut chance) = (place.path("data").join(IMAGES), suite.chance("changed"));
    let whole = fs::read(&images).unwrap();
    for _ in 0..suite.tries(5, 50) {
        // Of each class the first eight images are read: of six classes the first 48.
        let at = 16 + chance.below(48 * 64);
        let bytes = Damage::Bit(at, 1 << chance.below(8)).done_to(&whole);
        fs::write(&images, bytes).unwrap();
        let rule = Rule::codes(&[77]).saying("the data");
        rule.try_on(tally, &format!("pixel {at}"), &mut river(&place, &protocol, &out));
        let verdict = same(&out, &begun).map_err(|why| format!("a refusal changed the run: {why}"));
        tally.count(|| format!("after the refusal of pixel {at}"), verdict);
    }
    fs::write(&images, &whole).unwrap();
    let verdict = goes_on(&mut river(&place, &protocol, &out), &out, &expected);
    tally.count(|| "with the right data again".into(), verdict);
}

/// The protocol's file is damaged while a run of it is there: it is another protocol, none, or the same.
pub fn protocol(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let out = place.path("run");
    let (expected, _) = unbroken(&place, TINY, &out);
    let mut chance = suite.chance("protocol");
    for _ in 0..suite.tries(20, 500) {
        let damage = Damage::any(&mut chance, TINY.as_bytes());
        let file = place.write("damaged.toml", damage.done_to(TINY.as_bytes()));
        let mut command = lethe();
        command.arg("run").arg(&file).arg("--out").arg(&out);
        let ended = run(&mut command, Duration::from_secs(20));
        tally.saw(ended.outcome(), ended.wall, ended.peak);
        let verdict =
            Rule::codes(&[0, 64, 65]).verdict(&ended).and_then(|()| same(&out, &expected));
        tally.count(|| format!("{damage:?}"), verdict);
    }
}
