//! Results that are asked for within a run, and files of a run, a model or a cache that stand in the place of others.

use crate::inputs::golden;
use crate::models::safetensors;
use crate::process::{Ended, Rule, lethe, run, start};
use crate::runs::{TINY, broken_at, files, restore, river, same, unbroken};
use crate::tally::{Place, Suite, Tally};
use crate::unpacked::{single, verify};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
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
    behind_what_is_committed(&place, tally);
    between_its_files(&place, tally);
    around_and_behind(&place, tally);
    a_broken_off_edit(&place, tally);
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
        let mut probe = river(place, TINY, &place.path("probe"));
        probe.arg("--checkpoint").arg(&task);
        let mut train = river(place, TINY, &place.path("train"));
        train.args(["--task", "2", "--from"]).arg(&task);
        let (probe, train) = (as_verb("probe", &probe), as_verb("train", &train));
        [("sample", sample), ("verify", verify), ("run", start), ("probe", probe), ("train", train)]
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
    for name in ["unet", "model_index.json"] {
        let from = place.path("other/seed-7/task-1/step-00000004").join(name);
        assert!(Command::new("cp").arg("-a").arg(from).arg(&task).status().unwrap().success());
        for (verb, mut command) in commands().into_iter().take(3) {
            let what = format!("{verb} with {name} beside the checkpoint");
            Rule::codes(&[77]).saying("name the checkpoint").try_on(tally, &what, &mut command);
        }
        restore(&run, &kept);
    }
    for (verb, mut command) in commands() {
        Rule::codes(&[0]).try_on(tally, &format!("{verb} of its own"), &mut command);
    }
}

/// `command` of a run as that of another verb.
fn as_verb(verb: &str, command: &Command) -> Command {
    let mut other = lethe();
    other.arg(verb).args(command.get_args().skip(1));
    command.get_envs().for_each(|(name, value)| _ = other.env(name, value.unwrap_or_default()));
    other
}

/// Of a run that is not finished, a page is made of what is committed; of a finished one, of nothing besides.
fn behind_what_is_committed(place: &Place, tally: &mut Tally) {
    let (out, image) = (place.path("begun"), "images/seed-7/top-energy-task3-samples.png");
    broken_at(place, TINY, &out, "seed-7/top-energy/task-2");
    Rule::codes(&[0]).try_on(tally, "a page of a begun run", &mut report(&out));
    let page = fs::read(out.join("report.html")).unwrap();
    let ledger = fs::read_to_string(place.path("other/ledger.jsonl")).unwrap();
    let foreign = ledger.lines().filter(|line| line.contains(r#""arm":"none""#));
    let foreign: String = foreign.map(|line| format!("{line}\n")).collect();
    let mut kept = fs::read_to_string(out.join("ledger.jsonl")).unwrap();
    kept.push_str(&foreign);
    fs::write(out.join("ledger.jsonl"), kept).unwrap();
    fs::copy(place.path("run/images/seed-7/none-task3-samples.png"), out.join(image)).unwrap();
    Rule::codes(&[0]).try_on(tally, "a page of a begun run, again", &mut report(&out));
    let is_same = fs::read(out.join("report.html")).unwrap() == page;
    let verdict = if is_same { Ok(()) } else { Err("it shows what is not the run's".to_string()) };
    tally.count(|| "lines and images behind what is committed".into(), verdict);
    let run = place.path("run");
    let kept = files(&run);
    fs::copy(run.join("images/examples.png"), run.join("images/seed-7/more.png")).unwrap();
    let rule = Rule::codes(&[77]).saying("more.png");
    rule.try_on(tally, "an image too many", &mut report(&run));
    Rule::codes(&[77]).try_on(tally, "an image too many, checked", &mut check(&run));
    restore(&run, &kept);
    fs::write(run.join("tables/trainings.csv"), "of another page").unwrap();
    Rule::codes(&[77]).try_on(tally, "a table too many", &mut check(&run));
    Rule::codes(&[0]).try_on(tally, "its page", &mut report(&run));
    tally.count(|| "the table too many".into(), same(&run, &kept));
}

/// A kill between two files of a run is no damage, and what a task has not finished is no task's result.
fn between_its_files(place: &Place, tally: &mut Tally) {
    let kept = files(&place.path("run"));
    for (number, middle) in ["run.json", "ledger.jsonl", "ledger.parquet"].iter().enumerate() {
        let out = place.path(&format!("between-{number}"));
        broken_at(place, TINY, &out, middle);
        let what = format!("a run that was killed at {middle}");
        Rule::codes(&[75]).try_on(tally, &format!("{what}, checked"), &mut check(&out));
        Rule::codes(&[0, 75]).try_on(tally, &format!("the page of {what}"), &mut report(&out));
        let ended = ended(&mut river(place, TINY, &out));
        let verdict = Rule::codes(&[0]).verdict(&ended).and_then(|()| same(&out, &kept));
        tally.count(|| what, verdict);
    }
    let out = place.path("halfway");
    broken_at(place, TINY, &out, "seed-7/task-1/step-00000002");
    for verb in ["train", "probe"] {
        let mut command = river(place, TINY, &place.path("from-half"));
        let words: &[&str] = match verb {
            "train" => &["--task", "2", "--from"],
            _ => &["--checkpoint"],
        };
        command.args(words).arg(out.join("seed-7/task-1"));
        let rule = Rule::codes(&[66]).saying("not finished");
        rule.try_on(tally, &format!("{verb} of a task half learned"), &mut as_verb(verb, &command));
    }
    // What a power failure leaves behind the committed lines.
    for name in ["ledger.jsonl", "training.jsonl"] {
        let before = fs::read(out.join(name)).unwrap();
        for tail in [&b"\xff\xfe"[..], &[0; 50], b"x\n"] {
            fs::write(out.join(name), [&before, tail].concat()).unwrap();
            let what = format!("{tail:?} behind {name}");
            Rule::codes(&[75]).try_on(tally, &format!("{what}, checked"), &mut check(&out));
            Rule::codes(&[0, 75]).try_on(
                tally,
                &format!("the page with {what}"),
                &mut report(&out),
            );
        }
        fs::write(out.join(name), before).unwrap();
    }
}

/// A link leads into a run, a run lies around another: neither is begun; what was begun goes on.
fn around_and_behind(place: &Place, tally: &mut Tally) {
    let (run, link) = (place.path("run"), place.path("link"));
    let kept = files(&run);
    symlink(run.join("images"), &link).unwrap();
    let rule = Rule::codes(&[73]).saying("in the folder of a run");
    rule.try_on(tally, "a run behind a link into a run", &mut river(place, TINY, &link));
    let rule = Rule::codes(&[73]).saying("the folder of another run");
    rule.try_on(tally, "a run around runs", &mut river(place, TINY, &place.path("")));
    tally.count(|| "the run".into(), same(&run, &kept));
    let stranger = place.path("stranger");
    fs::create_dir(&stranger).unwrap();
    for name in ["progress.json", "run.json"] {
        fs::write(stranger.join(name), "{}").unwrap();
    }
    let out = stranger.join("run");
    let ended = ended(&mut river(place, TINY, &out));
    let verdict = Rule::codes(&[0]).verdict(&ended).and_then(|()| same(&out, &kept));
    tally.count(|| "a run beside files of another program".into(), verdict);
}

fn ended(command: &mut Command) -> Ended {
    run(command, Duration::from_secs(60))
}

/// A kill while an edited protocol is taken over is no damage.
fn a_broken_off_edit(place: &Place, tally: &mut Tally) {
    let (out, edited) = (place.path("edited"), place.path("grown"));
    for folder in [&out, &edited] {
        restore(folder, &files(&place.path("run")));
    }
    let with = |folder: &Path| {
        let mut command = river(place, TINY, folder);
        command.args(["--set", "seeds=[7, 8]", "--allow-change", "seeds"]);
        command
    };
    Rule::codes(&[0]).try_on(tally, "a run that grows by a seed", &mut with(&edited));
    let grown = files(&edited);
    let windows = [["progress.json"].as_slice(), &["progress.json", "protocol.toml"]];
    // The edit's first moments: what is recorded, and not yet done.
    let mut command = with(&out);
    let running = start(&mut command);
    let before = fs::read(place.path("run/progress.json")).unwrap();
    while fs::read(out.join("progress.json")).unwrap() == before {
        std::thread::yield_now();
    }
    running.signal(libc::SIGKILL);
    drop(running.end(Duration::from_secs(5)));
    let recorded = fs::read(out.join("progress.json")).unwrap();
    for names in windows {
        restore(&out, &files(&place.path("run")));
        fs::write(out.join("progress.json"), &recorded).unwrap();
        if names.len() > 1 {
            fs::write(out.join("protocol.toml"), &grown[Path::new("protocol.toml")]).unwrap();
        }
        for mut command in [report(&out), check(&out)] {
            let what = format!("an edit broken off behind {}", names.join(" and "));
            Rule::codes(&[75]).saying("broken off").try_on(tally, &what, &mut command);
        }
        let ended = ended(&mut with(&out));
        let verdict = Rule::codes(&[0]).verdict(&ended).and_then(|()| same(&out, &grown));
        tally.count(|| "that edit, to its end".into(), verdict);
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
