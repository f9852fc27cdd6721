//! A run so small that it can be broken hundreds of times, and the comparison of what runs leave.

use crate::process::{Rule, lethe, run, start};
use crate::tally::Place;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Three tasks of two classes at 8x8: a curve, a buffer, checkpoints within every task.
pub const TINY: &str = r#"
name = "tiny"
seeds = [7]

[data]
source = "fashion-mnist"
resolution = 8
per_class = 8
held_out = 0.25

[stream]
tasks = [[0, 1], [2, 3], [8, 9]]

[model]
channels = [8]
layers_per_block = 1
norm_groups = 4

[training]
steps = 4
later_steps = 4
batch = 4
warm_up = 2
learning_rate = 1e-3
ema_half_life = 20
checkpoint_every = 2
log_every = 2
validate_every = 2

[replay]
budget = 4
per_batch = 2
arms = ["none", "top-energy"]

[probe]
train_examples = 6
held_out_examples = 4
levels = [0.3]
headline = 0.3
stages = 2
draws = 1
bound_points = 0
perplexity = 3
curve_every = 2
curve_examples = 4
samples = 2
sample_stages = 2
"#;

/// The same in latents: a model is made first.
pub const LATENT: &str = include_str!("latent.toml");

/// What a run leaves, by name.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// `lethe run` of `protocol` in `out`.
pub fn river(place: &Place, protocol: &str, out: &Path) -> Command {
    let digest = blake3::hash(protocol.as_bytes()).to_hex();
    let file = place.path(&format!("{}.toml", &digest[..8]));
    if !file.exists() {
        fs::write(&file, protocol).unwrap();
    }
    let mut command = lethe();
    command.arg("run").arg(file).arg("--out").arg(out).env("LETHE_CACHE", place.path("cache"));
    command
}

/// An unbroken run: its files and how long it took.
pub fn unbroken(place: &Place, protocol: &str, out: &Path) -> (Files, Duration) {
    let began = Instant::now();
    let ended = run(&mut river(place, protocol, out), Duration::from_secs(120));
    if let Err(why) = Rule::codes(&[0]).within(120).verdict(&ended) {
        panic!("the unbroken run failed: {why}");
    }
    (files(out), began.elapsed())
}

/// A run that was killed as soon as the checkpoint `middle` was there.
pub fn broken_at(place: &Place, protocol: &str, out: &Path, middle: &str) {
    for _ in 0..50 {
        let mut running = start(&mut river(place, protocol, out));
        while !out.join(middle).exists() && running.ended().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        if out.join(middle).exists() {
            running.signal(libc::SIGKILL);
            // It may have been over, or have moved on, before the signal came.
            running.end(Duration::from_secs(20));
            if out.join(middle).exists() {
                return;
            }
        }
        fs::remove_dir_all(out).unwrap();
    }
    panic!("the run was never caught at {middle}");
}

/// Every file below `folder` but the lock, which says who ran last.
pub fn files(folder: &Path) -> Files {
    let (mut found, mut ahead) = (Files::new(), vec![folder.to_path_buf()]);
    while let Some(inner) = ahead.pop() {
        for path in fs::read_dir(inner).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(folder).unwrap().to_path_buf();
            match path.is_dir() {
                true => ahead.push(path),
                false if name == Path::new("lock") => {}
                false => _ = found.insert(name, fs::read(&path).unwrap()),
            }
        }
    }
    found
}

/// Makes `folder` hold `files` and nothing else.
pub fn restore(folder: &Path, files: &Files) {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Whether `folder` holds exactly `expected`.
pub fn same(folder: &Path, expected: &Files) -> Result<(), String> {
    let found = files(folder);
    for name in found.keys().chain(expected.keys()) {
        match (found.get(name), expected.get(name)) {
            (Some(_), None) => return Err(format!("{} is left over", name.display())),
            (None, Some(_)) => return Err(format!("{} is lost", name.display())),
            (Some(found), Some(expected)) if found != expected => {
                return Err(format!("{} differs", name.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The same command again, to the end: exit 0 and the bytes of the unbroken run.
pub fn goes_on(command: &mut Command, out: &Path, expected: &Files) -> Result<(), String> {
    let ended = run(command, Duration::from_secs(60));
    Rule::codes(&[0]).within(60).verdict(&ended).map_err(|why| format!("afterwards: {why}"))?;
    same(out, expected).map_err(|why| format!("afterwards: {why}"))
}
