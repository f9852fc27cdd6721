//! A single file, and what it was unpacked to once: damaged there, it is unpacked again; damaged itself, it is refused.

use crate::chance::Damage;
use crate::inputs::golden;
use crate::models::safetensors;
use crate::process::{REFUSED, Rule, lethe, run};
use crate::runs::{files, restore, same};
use crate::tally::{Place, Suite, Tally};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The golden model in small, under the names of the original layout.
pub fn single() -> Vec<u8> {
    let names = fs::read(golden("latent/single_file_names.json")).unwrap();
    let names: BTreeMap<String, (String, String, Vec<usize>)> =
        serde_json::from_slice(&names).unwrap();
    let parts = [
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ];
    let read = |(part, stem): (&str, &str)| {
        let file =
            fs::read(golden("latent").join(part).join(format!("{stem}.safetensors"))).unwrap();
        let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&file[8..start]).unwrap();
        (part.to_string(), (header, file[start..].to_vec()))
    };
    let parts: BTreeMap<_, _> = parts.into_iter().map(read).collect();
    let (mut header, mut body) = (Map::new(), Vec::new());
    for (original, (part, name, published)) in names {
        let (own, bytes) = &parts[&part];
        let Some(info) = own.get(name.strip_prefix("text_model.").unwrap_or(&name)) else {
            continue;
        };
        let mut info = info.clone();
        let [from, to]: [usize; 2] = serde_json::from_value(info["data_offsets"].clone()).unwrap();
        let mut shape: Vec<usize> = serde_json::from_value(info["shape"].clone()).unwrap();
        if published.len() == shape.len() + 2 {
            shape.extend([1, 1]);
        }
        info["shape"] = shape.into();
        info["data_offsets"] = vec![body.len(), body.len() + to - from].into();
        body.extend(&bytes[from..to]);
        header.insert(original, info);
    }
    safetensors(&Value::Object(header).to_string(), &body)
}

pub fn verify(file: &Path, cache: &Path) -> Command {
    let mut command = lethe();
    command.args(["models", "verify"]).arg(file).arg("--like").arg(golden("latent"));
    command.env("LETHE_CACHE", cache);
    command
}

pub fn damaged(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let (file, cache) = (place.write("single.safetensors", single()), place.path("cache"));
    Rule::codes(&[0]).try_on(tally, "unpacked", &mut verify(&file, &cache));
    let whole = files(&cache);
    let names: Vec<&PathBuf> = whole.keys().collect();
    assert!(names.len() > 8, "{names:?}");
    let mut chance = suite.chance("unpacked");
    for _ in 0..suite.tries(12, 200) {
        let name = *chance.of(&names);
        let damage = Damage::any(&mut chance, &whole[name]);
        restore(&cache, &whole);
        fs::write(cache.join(name), damage.done_to(&whole[name])).unwrap();
        let ended = run(&mut verify(&file, &cache), Duration::from_secs(20));
        tally.saw(ended.outcome(), ended.wall, ended.peak);
        let verdict = Rule::codes(&[0]).verdict(&ended).and_then(|()| same(&cache, &whole));
        tally.count(|| format!("{} in the cache: {damage:?}", name.display()), verdict);
    }
    let bytes = fs::read(&file).unwrap();
    for _ in 0..suite.tries(12, 500) {
        let damage = Damage::any(&mut chance, &bytes);
        let file = place.write("damaged.safetensors", damage.done_to(&bytes));
        let ended = run(&mut verify(&file, &place.path("other")), Duration::from_secs(20));
        tally.saw(ended.outcome(), ended.wall, ended.peak);
        let codes = [&[0], &REFUSED[..]].concat();
        let verdict = Rule::codes(&codes).saying("damaged.safetensors").memory(256).verdict(&ended);
        tally.count(|| format!("the single file: {damage:?}"), verdict);
        fs::remove_dir_all(place.path("other")).unwrap_or_default();
    }
}
