//! Our own files, damaged at random places: found by name, or made again to the same bytes; never other results.

use crate::chance::Damage;
use crate::process::{REFUSED, Rule, lethe, run};
use crate::runs::{Files, LATENT, TINY, broken_at, files, goes_on, restore, river, same, unbroken};
use crate::tally::{Place, Suite, Tally};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What a file is, whatever arm and task it is of: its path without their names.
fn kind(name: &Path) -> String {
    let text = name.to_string_lossy().into_owned();
    let parts = text.split('/').filter(|part| {
        !["seed-7", "none", "top-energy"].contains(part) && !part.starts_with("task-")
    });
    let parts: Vec<&str> = parts.collect();
    match parts.as_slice() {
        ["images", ..] => "images/*.png".into(),
        ["tables", ..] => "tables/*.csv".into(),
        [step, rest @ ..] if step.starts_with("step-") => format!("step/{}", rest.join("/")),
        parts => parts.join("/"),
    }
}

/// The files of each kind.
fn kinds(files: &Files) -> BTreeMap<String, Vec<&PathBuf>> {
    let mut kinds = BTreeMap::<String, Vec<&PathBuf>>::new();
    for name in files.keys().filter(|name| !name.to_string_lossy().contains(".partial")) {
        kinds.entry(kind(name)).or_default().push(name);
    }
    kinds
}

/// Damages as many files of every kind in `from` as `n` says, a folder's content, and runs `command` in `out` on each.
///
/// An exit 0 must leave `expected`; a refusal must name the file, and the right file put back must lead to `expected`.
fn each(
    n: impl Fn(&str) -> usize,
    suite: &Suite,
    tally: &mut Tally,
    (out, from, expected): (&Path, &Files, &Files),
    command: impl Fn() -> Command,
) {
    for (kind, names) in kinds(from) {
        let mut chance = suite.chance(&kind);
        for _ in 0..n(&kind) {
            let name = *chance.of(&names);
            let whole = &from[name];
            if whole.is_empty() {
                continue;
            }
            let damage = Damage::any(&mut chance, whole);
            restore(out, from);
            fs::write(out.join(name), damage.done_to(whole)).unwrap();
            let what = || format!("{}: {damage:?} of {}", name.display(), whole.len());
            let ended = run(&mut command(), Duration::from_secs(20));
            tally.saw(ended.outcome(), ended.wall, ended.peak);
            let file = name.file_name().unwrap().to_string_lossy().into_owned();
            let codes = [&[0], &REFUSED[..]].concat();
            let verdict = Rule::codes(&codes).saying(file).verdict(&ended);
            let verdict = verdict.and_then(|()| match ended.code() {
                0 => same(out, expected).map_err(|why| format!("silently accepted: {why}")),
                // To its end it goes now and then: that takes ten times as long.
                _ if chance.below(suite.tries(3, 20)) == 0 => {
                    fs::write(out.join(name), whole).unwrap();
                    goes_on(&mut command(), out, expected)
                }
                _ => Ok(()),
            });
            tally.count(what, verdict);
        }
    }
}

/// A run that has come to its end, and is asked for once more.
pub fn finished(suite: &Suite, tally: &mut Tally) {
    let (place, out) = (Place::new(), Place::new());
    let out = out.path("run");
    let (expected, _) = unbroken(&place, TINY, &out);
    each(
        |_| suite.tries(5, 500),
        suite,
        tally,
        (&out, &expected, &expected),
        || river(&place, TINY, &out),
    );
}

/// The same in latents, with the model that the run made.
pub fn finished_in_latents(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let out = place.path("run");
    let (expected, _) = unbroken(&place, LATENT, &out);
    each(
        |_| suite.tries(1, 20),
        suite,
        tally,
        (&out, &expected, &expected),
        || river(&place, LATENT, &out),
    );
}

/// A run that was killed in the middle of a task, with what it goes on from.
pub fn within_a_task(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let out = place.path("run");
    let (expected, _) = unbroken(&place, TINY, &place.path("whole"));
    broken_at(&place, TINY, &out, "seed-7/top-energy/task-2/step-00000002/checkpoint.json");
    let from = files(&out);
    // What a finished run holds, too, has its row already.
    let n = |kind: &str| suite.tries(5, if kind.contains("training") { 500 } else { 100 });
    each(n, suite, tally, (&out, &from, &expected), || river(&place, TINY, &out));
}

/// `lethe report` alone: the same page, or a refusal by name.
pub fn report(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let out = place.path("run");
    let (expected, _) = unbroken(&place, TINY, &out);
    let read = ["run.json", "examples.json", "ledger.jsonl", "training.jsonl", "images/*.png"];
    let from: Files = expected
        .iter()
        .filter(|(name, _)| read.contains(&kind(name).as_str()))
        .map(cloned)
        .collect();
    let rest: Files =
        expected.iter().filter(|(name, _)| !from.contains_key(*name)).map(cloned).collect();
    let command = || {
        // Everything else of the run is there, too.
        for (name, bytes) in &rest {
            let path = out.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let mut command = lethe();
        command.arg("report").arg(&out);
        command
    };
    each(|_| suite.tries(5, 500), suite, tally, (&out, &from, &expected), command);
}

fn cloned((name, bytes): (&PathBuf, &Vec<u8>)) -> (PathBuf, Vec<u8>) {
    (name.clone(), bytes.clone())
}

/// Every file of a finished run removed, cut at the end of a line, emptied, doubled, and taken from another place.
pub fn removed(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let out = place.path("run");
    let (expected, _) = unbroken(&place, TINY, &out);
    for (kind, names) in kinds(&expected) {
        let mut chance = suite.chance(&kind);
        for (how, change) in CHANGES {
            let name = *chance.of(&names);
            let whole = &expected[name];
            let Some(bytes) = change(whole) else { continue };
            for verb in ["run", "report"] {
                restore(&out, &expected);
                match &bytes {
                    Some(bytes) => fs::write(out.join(name), bytes).unwrap(),
                    None => fs::remove_file(out.join(name)).unwrap(),
                }
                let mut command = river(&place, TINY, &out);
                if verb == "report" {
                    command = lethe();
                    command.arg("report").arg(&out);
                }
                let ended = run(&mut command, Duration::from_secs(20));
                tally.saw(ended.outcome(), ended.wall, ended.peak);
                // Without its protocol a folder may be anybody's.
                let codes = [&[0, 73], &REFUSED[..]].concat();
                let verdict = Rule::codes(&codes).verdict(&ended);
                let verdict = verdict.and_then(|()| match (ended.code(), verb) {
                    (0, "run") => same(&out, &expected),
                    (0, _) => page(&out, &expected),
                    _ => Ok(()),
                });
                tally.count(|| format!("lethe {verb}, {} {how}", name.display()), verdict);
            }
        }
    }
}

/// The report is what it was; the file that was changed is not of those that it is made of.
fn page(out: &Path, expected: &Files) -> Result<(), String> {
    let name = Path::new("report.html");
    let found = fs::read(out.join(name)).unwrap_or_default();
    if found == expected[name] { Ok(()) } else { Err("silently another page".into()) }
}

/// What is done to a file's bytes; `Some(None)`: it is removed; `None`: it makes no difference here.
type Change = fn(&[u8]) -> Option<Option<Vec<u8>>>;

const CHANGES: [(&str, Change); 6] = [
    ("removed", |_| Some(None)),
    ("emptied", |_| Some(Some(Vec::new()))),
    ("without its last line", |bytes| Some(Some(without_line(bytes, usize::MAX)?))),
    ("without a line in its middle", |bytes| {
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        Some(Some(without_line(bytes, lines / 2)?))
    }),
    ("with its last line twice", |bytes| {
        let text = std::str::from_utf8(bytes).ok()?;
        Some(Some(format!("{text}{}\n", text.lines().last()?).into_bytes()))
    }),
    ("doubled", |bytes| Some(Some([bytes, bytes].concat()))),
];

/// A text without line `number`, or its last one.
fn without_line(bytes: &[u8], number: usize) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let gone = number.min(lines.len().checked_sub(1)?);
    let kept = lines.iter().enumerate().filter(|(at, _)| *at != gone);
    Some(kept.map(|(_, line)| format!("{line}\n")).collect::<String>().into_bytes())
}

/// What was computed once and kept: damaged, it is made again, and the run ends in the same bytes.
pub fn cache(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let out = place.path("run");
    let (expected, _) = unbroken(&place, LATENT, &out);
    let (folder, kept) = (place.path("cache"), files(&place.path("cache")));
    assert!(kept.len() >= 2, "latents and texts were kept: {:?}", kept.keys());
    let mut chance = suite.chance("cache");
    for _ in 0..suite.tries(6, 100) {
        let names: Vec<&PathBuf> = kept.keys().collect();
        let name = *chance.of(&names);
        let damage = Damage::any(&mut chance, &kept[name]);
        restore(&folder, &kept);
        fs::write(folder.join(name), damage.done_to(&kept[name])).unwrap();
        let verdict = goes_on(&mut river(&place, LATENT, &out), &out, &expected);
        let verdict = verdict.and_then(|()| same(&folder, &kept));
        tally.count(|| format!("{}: {damage:?}", name.display()), verdict);
    }
}

/// Any file of the model that a run starts from: what it goes on with must be what it began with.
pub fn another_model(suite: &Suite, tally: &mut Tally) {
    let (place, made) = (Place::new(), Place::new());
    unbroken(&made, LATENT, &made.path("run"));
    let model = made.path("run/model");
    let whole = files(&model);
    let protocol = LATENT.replace("[training]", "[model]\npretrained = \"MODEL\"\n\n[training]");
    let protocol = protocol.replace("MODEL", &model.display().to_string());
    let out = place.path("run");
    let (expected, _) = unbroken(&place, &protocol, &place.path("whole"));
    broken_at(&place, &protocol, &out, "seed-7/task-1/step-00000002/checkpoint.json");
    let from = files(&out);
    let mut chance = suite.chance("another model");
    let names = whole.keys().filter(|name| *name != Path::new("checkpoint.json"));
    for name in names {
        for _ in 0..suite.tries(1, 10) {
            let damage = Damage::any(&mut chance, &whole[name]);
            restore(&out, &from);
            fs::write(model.join(name), damage.done_to(&whole[name])).unwrap();
            let ended = run(&mut river(&place, &protocol, &out), Duration::from_secs(20));
            tally.saw(ended.outcome(), ended.wall, ended.peak);
            fs::write(model.join(name), &whole[name]).unwrap();
            let codes = [&[0], &REFUSED[..]].concat();
            let verdict = Rule::codes(&codes).verdict(&ended).and_then(|()| match ended.code() {
                0 => same(&out, &expected).map_err(|why| format!("silently accepted: {why}")),
                _ => Ok(()),
            });
            tally.count(|| format!("{}: {damage:?}", name.display()), verdict);
        }
    }
    let verdict = goes_on(&mut river(&place, &protocol, &out), &out, &expected);
    tally.count(|| "with the right model again".into(), verdict);
}
