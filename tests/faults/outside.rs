//! Results that are asked for within a run, and files of a run, a model or a cache that stand in the place of others.

use crate::inputs::golden;
use crate::models::safetensors;
use crate::process::{Rule, lethe, run};
use crate::runs::{TINY, files, restore, river, same, unbroken};
use crate::tally::{Place, Suite, Tally};
use crate::unpacked::{single, verify};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// All of them.
pub fn all(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    unbroken(&place, TINY, &place.path("run"));
    let other = TINY.replace("learning_rate = 1e-3", "learning_rate = 2e-3");
    unbroken(&place, &other, &place.path("other"));
    within_a_run(&place, tally);
    pages_of_others(&place, tally);
    a_checkpoint_of_another(&place, tally);
    cached(&place, tally);
    unpacked(&place, tally);
}

/// What a command would write into a run is refused, and the run stays as it is.
fn within_a_run(place: &Place, tally: &mut Tally) {
    let (run, kept) = (place.path("run"), files(&place.path("run")));
    let arrays = json!({
        "patterns": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "queries": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    });
    let arrays = place.write("arrays.safetensors", safetensors(&arrays.to_string(), &[0; 16]));
    let file = place.write("single.safetensors", single());
    let mut words: Vec<(&str, Vec<PathBuf>, PathBuf)> = Vec::new();
    let energy = "energy --inverse-temperature 8 --form dot --queries {} --patterns {} --out {}";
    for name in ["ledger.jsonl", "progress.json", "run.json", "new.safetensors", "images/new.bin"] {
        words.push((energy, vec![arrays.clone(), arrays.clone()], run.join(name)));
    }
    let task = run.join("seed-7/none/task-3");
    for name in ["images/examples.png", "new.png", "seed-7/new.png"] {
        words.push(("sample {} --count 1 --stages 1 --out {}", vec![task.clone()], run.join(name)));
    }
    for name in ["", "seed-7/task-1/step-00000004", "images", "new"] {
        words.push(("mhn rise --rotations 2 --out {}", vec![], run.join(name)));
    }
    let unpack = "models unpack {} --like {} {}";
    words.push((unpack, vec![file, golden("latent")], task.join("step-00000009")));
    words.push(("models random {}", vec![], run.join("new")));
    let rule = Rule::codes(&[73]).saying("run");
    for (line, given, out) in words {
        let mut given = given.into_iter().chain([out.clone()]);
        let mut command = lethe();
        line.split(' ').for_each(|word| match word {
            "{}" => _ = command.arg(given.next().unwrap()),
            word => _ = command.arg(word),
        });
        rule.try_on(tally, &format!("{line} {}", out.display()), &mut command);
    }
    tally.count(|| "the run".into(), same(&run, &kept));
}

fn report(folder: &Path) -> Command {
    let mut command = lethe();
    command.arg("report").arg(folder);
    command
}

fn check(folder: &Path) -> Command {
    let mut command = lethe();
    command.args(["report", "check"]).arg(folder);
    command
}

/// A page is made of what the run wrote, and of nothing else.
fn pages_of_others(place: &Place, tally: &mut Tally) {
    let (run, kept) = (place.path("run"), files(&place.path("run")));
    let text = |name: &str| fs::read_to_string(place.path("run").join(name)).unwrap();
    let other = fs::read_to_string(place.path("other/run.json")).unwrap();
    let table = text("examples.json");
    let mut lines: Vec<&str> = table.lines().collect();
    let n = lines.len();
    lines.swap(n / 2, n / 2 + 1);
    let exchanged = lines.join("\n") + "\n";
    let swapped = [("run.json", other), ("examples.json", exchanged)];
    for (name, text) in swapped {
        fs::write(run.join(name), text).unwrap();
        for mut command in [report(&run), check(&run)] {
            Rule::codes(&[77]).try_on(tally, &format!("{name} of another"), &mut command);
        }
        restore(&run, &kept);
    }
    let ledger = text("ledger.jsonl");
    let cut = ledger.lines().take(ledger.lines().count() - 12).collect::<Vec<_>>().join("\n");
    fs::write(run.join("ledger.jsonl"), cut + "\n").unwrap();
    fs::remove_file(run.join("progress.json")).unwrap();
    Rule::codes(&[77]).try_on(tally, "without progress.json", &mut report(&run));
    restore(&run, &kept);
    fs::remove_file(run.join("protocol.toml")).unwrap();
    let rule = Rule::codes(&[77]).saying("protocol.toml");
    rule.try_on(tally, "without protocol.toml", &mut river(place, TINY, &run));
    restore(&run, &kept);
    Rule::codes(&[0]).try_on(tally, "the run as it was", &mut check(&run));
}

/// What a task left is known by the run around it, whoever reads it.
fn a_checkpoint_of_another(place: &Place, tally: &mut Tally) {
    let (run, kept) = (place.path("run"), files(&place.path("run")));
    let task = run.join("seed-7/task-1");
    let own = task.join("step-00000004");
    let commands = || {
        let mut sample = lethe();
        sample.args(["sample", "--count", "1", "--stages", "1", "--out"]).arg(place.path("a.png"));
        sample.arg(&task);
        let mut verify = lethe();
        verify.args(["models", "verify"]).arg(&task);
        let model = format!("model.pretrained='{}'", task.display());
        let mut start = river(place, TINY, &place.path("never"));
        start.args(["--set", &model]);
        [("sample", sample), ("verify", verify), ("run", start)]
    };
    for name in ["step-00000004", "step-00000009"] {
        fs::remove_dir_all(&own).unwrap();
        let from = place.path("other/seed-7/task-1/step-00000004");
        let copied = Command::new("cp").arg("-a").arg(from).arg(task.join(name)).status();
        assert!(copied.unwrap().success());
        for (verb, mut command) in commands() {
            let rule = Rule::codes(&[77]).saying("elsewhere");
            rule.try_on(tally, &format!("{verb} of another run's {name}"), &mut command);
        }
        fs::remove_dir_all(task.join(name)).unwrap();
        restore(&run, &kept);
    }
    for (verb, mut command) in commands() {
        Rule::codes(&[0]).try_on(tally, &format!("{verb} of its own"), &mut command);
    }
}

/// A kept file under another's name is made again.
fn cached(place: &Place, tally: &mut Tally) {
    let protocol = include_str!("latent.toml");
    let others = [
        ("texts-", protocol.replace("worn once", "worn twice")),
        ("latents-", protocol.replace("per_class = 8", "per_class = 10")),
    ];
    let cache = place.path("cache");
    let own = |kind: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(&cache).into_iter().flatten().map(|entry| entry.unwrap().path());
        let is_of = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(kind);
        entries.filter(is_of).collect()
    };
    let before: Vec<Vec<PathBuf>> = others.iter().map(|(kind, _)| own(kind)).collect();
    let (expected, _) = unbroken(place, protocol, &place.path("latent"));
    for ((kind, other), before) in others.iter().zip(before) {
        let mine = own(kind).into_iter().find(|path| !before.contains(path)).unwrap();
        let known = own(kind);
        unbroken(place, other, &place.path(&format!("latent-{kind}")));
        let theirs = own(kind).into_iter().find(|path| !known.contains(path)).unwrap();
        fs::copy(theirs, &mine).unwrap();
        let out = place.path(&format!("again-{kind}"));
        let ended = run(&mut river(place, protocol, &out), Duration::from_secs(60));
        let verdict = Rule::codes(&[0]).verdict(&ended).and_then(|()| same(&out, &expected));
        tally.count(|| format!("{kind} of another protocol in the cache"), verdict);
    }
}

/// What another file was unpacked to is not taken for this one's.
fn unpacked(place: &Place, tally: &mut Tally) {
    let cache = place.path("models");
    let bytes = single();
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    let one = place.write("one.safetensors", bytes);
    let two = place.write("two.safetensors", changed);
    Rule::codes(&[0]).try_on(tally, "one model", &mut verify(&one, &cache));
    let folder = |known: &[PathBuf]| {
        let entries = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).find(|path| !known.contains(path)).unwrap()
    };
    let first = folder(&[]);
    Rule::codes(&[0]).try_on(tally, "another model", &mut verify(&two, &cache));
    let second = folder(std::slice::from_ref(&first));
    let (theirs, own) = (files(&first), files(&second));
    fs::remove_dir_all(&second).unwrap();
    restore(&second, &theirs);
    let ended = run(&mut verify(&two, &cache), Duration::from_secs(20));
    let verdict = Rule::codes(&[0]).verdict(&ended).and_then(|()| same(&second, &own));
    tally.count(|| "another model's folder in the cache".into(), verdict);
}
