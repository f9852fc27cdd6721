//! Folders of one work that are given to another, readers beside a writer, and lists of files that lead elsewhere.

use crate::process::{Rule, lethe, run, start};
use crate::runs::{TINY, broken_at, files, goes_on, restore, river, same, unbroken};
use crate::tally::{Place, Suite, Tally};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LAST: &str = "seed-7/task-1/step-00000004";

/// `lethe VERB` of TINY with `words`.
fn verb(place: &Place, verb: &str, words: &[&str]) -> Command {
    let protocol = place.path("works.toml");
    if !protocol.exists() {
        fs::write(&protocol, TINY).unwrap();
    }
    let mut command = lethe();
    command.arg(verb).arg(protocol).args(words).env("LETHE_CACHE", place.path("cache"));
    command
}

/// All of them.
pub fn all(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    unbroken(&place, TINY, &place.path("run"));
    other_work(&place, tally);
    damaged_sources(&place, tally);
    names_in_lists(&place, tally);
    beside_a_writer(suite, &place, tally);
    gone_beneath(&place, tally);
}

/// A folder is of one verb, task, arm, seed and origin.
fn other_work(place: &Place, tally: &mut Tally) {
    let path = |name: &str| place.path(name).display().to_string();
    let (first, run_first) = (path("first"), path("run/seed-7/task-1"));
    let second = ["--task", "2", "--arm", "none", "--from", &first, "--out"];
    let with = |words: &[&str], out: &str| verb(place, "train", &[words, &[&path(out)]].concat());
    Rule::codes(&[0]).try_on(tally, "a first task", &mut with(&["--out"], "first"));
    Rule::codes(&[0]).try_on(tally, "a second task", &mut with(&second, "second"));
    let kept = files(&place.path("second"));
    let rule = Rule::codes(&[64, 77]).saying("--out");
    let arm = ["--task", "2", "--arm", "top-energy", "--from", &first, "--out"];
    rule.try_on(tally, "another arm in its folder", &mut with(&arm, "second"));
    rule.try_on(tally, "another task in its folder", &mut with(&["--out"], "second"));
    rule.try_on(tally, "a run in its folder", &mut river(place, TINY, &place.path("second")));
    let probe = ["--checkpoint", &run_first, "--out", &path("second")];
    rule.try_on(tally, "a probe in its folder", &mut verb(place, "probe", &probe));
    let rule = Rule::codes(&[64]).saying("--seed");
    let seed = ["--seed", "8", "--out", &path("third")];
    rule.try_on(tally, "a seed that the protocol has not", &mut verb(place, "train", &seed));
    tally.count(|| "what that folder holds".into(), same(&place.path("second"), &kept));
    measured(place, tally);
}

/// A measurement is of the weights that it was begun with, and can be checked.
fn measured(place: &Place, tally: &mut Tally) {
    let (weights, out) = (place.path("weights"), place.path("probe"));
    copy(&place.path("run").join(LAST), &weights);
    fs::remove_file(weights.join("checkpoint.json")).unwrap();
    let probe = || {
        let mut command = verb(place, "probe", &["--checkpoint"]);
        command.arg(&weights).arg("--out").arg(&out);
        command
    };
    let check = || {
        let mut command = lethe();
        command.args(["report", "check"]).arg(&out);
        command
    };
    Rule::codes(&[0]).try_on(tally, "a probe", &mut probe());
    Rule::codes(&[0]).try_on(tally, "a probe, again", &mut probe());
    Rule::codes(&[0]).try_on(tally, "a probe, checked", &mut check());
    let ledger = fs::read(out.join("ledger.jsonl")).unwrap();
    flip(&weights.join("unet/diffusion_pytorch_model.safetensors"));
    let rule = Rule::codes(&[77]).saying("other weights");
    rule.try_on(tally, "a probe of other weights in its folder", &mut probe());
    flip(&out.join("ledger.jsonl"));
    Rule::codes(&[77]).try_on(tally, "a damaged probe, checked", &mut check());
    fs::write(out.join("ledger.jsonl"), ledger).unwrap();
    Rule::codes(&[0]).try_on(tally, "the mended probe, checked", &mut check());
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The lowest bit of the last byte but two.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A task's result is held to its list wherever it is read.
fn damaged_sources(place: &Place, tally: &mut Tally) {
    let source = place.path("run").join(LAST);
    let weights = source.join("unet/diffusion_pytorch_model.safetensors");
    let model = format!("model.pretrained='{}'", source.display());
    let path = |name: &str| place.path(name).display().to_string();
    let (given, out, picture) = (source.display().to_string(), path("never"), path("a.png"));
    let commands = || {
        let mut sample = lethe();
        sample.args(["sample", "--count", "1", "--stages", "1", "--out", &picture, &given]);
        let mut verify = lethe();
        verify.args(["models", "verify", &given]);
        let from = ["--task", "2", "--from", &given, "--out", &out];
        let train = verb(place, "train", &from);
        let probe = verb(place, "probe", &["--checkpoint", &given, "--out", &out]);
        let run = verb(place, "run", &["--set", &model, "--out", &out]);
        [("sample", sample), ("verify", verify), ("train", train), ("probe", probe), ("run", run)]
    };
    let rule = Rule::codes(&[77]).saying("diffusion_pytorch_model.safetensors");
    flip(&weights);
    for (name, mut command) in commands() {
        rule.try_on(tally, &format!("{name} of a damaged checkpoint"), &mut command);
        let verdict = match place.path("never").exists() || place.path("a.png").exists() {
            true => Err("something was written".to_string()),
            false => Ok(()),
        };
        tally.count(|| format!("what {name} left"), verdict);
    }
    flip(&weights);
    for (name, mut command) in commands() {
        Rule::codes(&[0]).try_on(tally, &format!("{name} of it, mended"), &mut command);
        fs::remove_dir_all(place.path("never")).unwrap_or_default();
    }
}

/// A list with names that lead out of its folder.
fn names_in_lists(place: &Place, tally: &mut Tally) {
    let out = place.path("listed");
    copy(&place.path("run"), &out);
    let path = out.join(LAST).join("checkpoint.json");
    let whole = fs::read_to_string(&path).unwrap();
    for name in ["../../../run.json", "/etc/hostname", ""] {
        let weights = "\"unet/config.json\"";
        assert!(whole.contains(weights));
        fs::write(&path, whole.replace(weights, &format!("{name:?}"))).unwrap();
        let rule = Rule::codes(&[77]).saying("checkpoint.json");
        rule.try_on(tally, &format!("a list with `{name}`"), &mut river(place, TINY, &out));
    }
    // A file that costs its maker nothing.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let rule = Rule::codes(&[77]).saying("checkpoint.json");
    rule.try_on(tally, "a list of 1 TB", &mut river(place, TINY, &out));
    fs::remove_dir_all(out).unwrap();
}

/// What only reads takes nothing from a run that goes on, and never finds half of anything.
fn beside_a_writer(suite: &Suite, place: &Place, tally: &mut Tally) {
    let out = place.path("beside");
    let slow = TINY
        .replace("steps = 4", "steps = 40")
        .replace("checkpoint_every = 2", "checkpoint_every = 1");
    let (expected, _) = unbroken(place, &slow, &place.path("slow"));
    for _ in 0..suite.tries(1, 10) {
        let mut writer = start(&mut river(place, &slow, &out));
        let task = out.join("seed-7/task-1");
        while !task.exists() && writer.ended().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        while writer.ended().is_none() {
            let picture = place.path("beside.png");
            let mut sample = lethe();
            sample.args(["sample", "--count", "1", "--stages", "1", "--out"]).arg(picture);
            // Before the first checkpoint there is no network.
            let rule = Rule::codes(&[0, 65, 66]);
            let ended = run(sample.arg(&task), Duration::from_secs(20));
            tally.count(|| "a sample of a run at work".into(), rule.verdict(&ended));
        }
        tally.count(|| "that run".into(), same(&out, &expected));
        fs::remove_dir_all(&out).unwrap();
    }
}

/// A run whose folder is taken away, or changed for another, writes no more.
fn gone_beneath(place: &Place, tally: &mut Tally) {
    let (out, aside) = (place.path("beneath"), place.path("aside"));
    broken_at(place, TINY, &out, "seed-7/none/task-2");
    let kept = files(&out);
    let writer = start(&mut river(place, TINY, &out));
    while !fs::read_to_string(out.join("lock"))
        .unwrap_or_default()
        .contains(&writer.id().to_string())
    {
        std::thread::sleep(Duration::from_micros(100));
    }
    writer.signal(libc::SIGSTOP);
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", writer.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| !state.starts_with(['R', 'S', 'D']))
    };
    while !is_stopped() {
        std::thread::sleep(Duration::from_micros(100));
    }
    fs::rename(&out, &aside).unwrap();
    restore(&out, &kept);
    writer.signal(libc::SIGCONT);
    let ended = writer.end(Duration::from_secs(20));
    let rule = Rule::codes(&[73, 74, 77]).saying("beneath");
    tally.count(|| "a run whose folder was moved".into(), rule.verdict(&ended));
    let (expected, _) = unbroken(place, TINY, &place.path("again"));
    let mut command = river(place, TINY, &out);
    tally.count(|| "what was put in its place".into(), goes_on(&mut command, &out, &expected));
    // What another program may have put where files are prepared.
    let (elsewhere, new) = (place.path("elsewhere"), place.path("fresh"));
    fs::create_dir_all(&elsewhere).unwrap();
    fs::write(elsewhere.join("own"), "another's").unwrap();
    symlink(&elsewhere, place.path(".fresh.partial")).unwrap();
    let mut random = lethe();
    random.args(["models", "random"]).arg(&new);
    Rule::codes(&[73]).saying(".partial").try_on(
        tally,
        "a link where a folder is filled",
        &mut random,
    );
    let verdict = match fs::read(elsewhere.join("own")) {
        Ok(bytes) if bytes == b"another's" => Ok(()),
        _ => Err("it was removed".to_string()),
    };
    tally.count(|| "what lies behind that link".into(), verdict);
}
