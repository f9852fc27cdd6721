//! Parts of a run that are another run's, or that go by another name besides: nothing of theirs is taken, or written.

use crate::process::{Rule, lethe, run};
use crate::runs::{TINY, broken_at, files, goes_on, river, same, unbroken};
use crate::tally::{Place, Suite, Tally};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// `cp -a` or `cp -al`.
fn copy(how: &str, from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(how).arg(from).arg(to).status().unwrap().success());
}

/// Both what goes on and what looks say that something is not this run's.
fn refused(tally: &mut Tally, what: &str, place: &Place, out: &Path) {
    let rule = Rule::codes(&[77]);
    rule.try_on(tally, what, &mut river(place, TINY, out));
    let mut check = lethe();
    rule.try_on(
        tally,
        &format!("report check of {what}"),
        check.args(["report", "check"]).arg(out),
    );
}

/// A checkpoint and journal lines of a run that became this one's protocol by an edit.
pub fn parts(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let other = TINY.replace("learning_rate = 1e-3", "learning_rate = 5e-2");
    assert_ne!(other, TINY);
    let (own, foreign) = (place.path("own"), place.path("foreign"));
    broken_at(&place, &other, &foreign, "seed-7/task-1/step-00000002");
    let mut edited = river(&place, TINY, &foreign);
    edited.args(["--allow-change", "training.learning_rate"]);
    Rule::codes(&[0]).try_on(tally, "an edited run", &mut edited);
    broken_at(&place, TINY, &own, "seed-7/none/task-2");
    fs::remove_dir_all(own.join("seed-7/task-1")).unwrap();
    copy("-a", &foreign.join("seed-7/task-1"), &own.join("seed-7/task-1"));
    refused(tally, "another run's first task", &place, &own);
    fs::remove_dir_all(&own).unwrap();
    // What lies behind the last finished stage is vouched for by the checkpoint that goes on from it.
    broken_at(&place, TINY, &own, "seed-7/none/task-3/step-00000002");
    let journal = own.join("ledger.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let n = lines.len();
    lines.swap(n - 1, n - 2);
    fs::write(&journal, lines.join("\n") + "\n").unwrap();
    refused(tally, "lines in another order", &place, &own);
    diverged(&place, tally);
}

/// An update after which no step follows, as large as may be asked for: it leaves finite numbers, or is refused.
fn diverged(place: &Place, tally: &mut Tally) {
    let one = TINY.replace("steps = 4", "steps = 1").replace("warm_up = 2", "warm_up = 0");
    let one = one.replace("validate_every = 2", "validate_every = 0");
    for (rate, code) in [("1e8", 64), ("1e3", 0)] {
        let out = place.path("diverged");
        let protocol = one.replace("learning_rate = 1e-3", &format!("learning_rate = {rate}"));
        let rule = Rule::codes(&[code]).saying("learning_rate");
        rule.try_on(tally, &format!("a last step of {rate}"), &mut river(place, &protocol, &out));
        fs::remove_dir_all(out).unwrap_or_default();
    }
}

/// Links, hard links, devices and other runs' folders.
pub fn names(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let (expected, _) = unbroken(&place, TINY, &place.path("whole"));
    let (first, second) = (place.path("first"), place.path("second"));
    broken_at(&place, TINY, &first, "seed-7/none/task-3");
    copy("-al", &first, &second);
    let kept = files(&second);
    for _ in 0..2 {
        let rule = Rule::codes(&[73, 77]).saying("hard links");
        rule.try_on(tally, "a run of hard links", &mut river(&place, TINY, &first));
        tally.count(|| "its other names".into(), same(&second, &kept));
        for folder in [&first, &second] {
            fs::remove_file(folder.join("lock")).unwrap_or_default();
        }
    }
    fs::remove_dir_all(&second).unwrap();
    tally.count(
        || "the same, alone".into(),
        goes_on(&mut river(&place, TINY, &first), &first, &expected),
    );
    let elsewhere = place.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("arms.csv"), "another's").unwrap();
    for name in ["tables", "images", "seed-7/none"] {
        let (own, aside) = (first.join(name), place.path("aside"));
        fs::rename(&own, &aside).unwrap();
        symlink(&elsewhere, &own).unwrap();
        let rule = Rule::codes(&[73]).saying("link");
        let mut report = lethe();
        rule.try_on(tally, &format!("{name}, a link"), report.arg("report").arg(&first));
        rule.try_on(tally, &format!("{name}, a link, run"), &mut river(&place, TINY, &first));
        fs::remove_file(&own).unwrap();
        fs::rename(&aside, &own).unwrap();
    }
    let is_kept = fs::read(elsewhere.join("arms.csv")).is_ok_and(|bytes| bytes == b"another's");
    let verdict =
        if is_kept && files(&elsewhere).len() == 1 { Ok(()) } else { Err("written".into()) };
    tally.count(|| "what lies behind the links".into(), verdict);
    let rule = Rule::codes(&[73]).saying("in the folder of a run");
    let inner = first.join("inner");
    rule.try_on(tally, "a run within a run", &mut river(&place, TINY, &inner));
    let left = if inner.exists() { Err("a folder".to_string()) } else { Ok(()) };
    tally.count(|| "what it left".into(), left);
    not_replaced(&place, tally);
    tally.count(|| "the run, at the end".into(), same(&first, &expected));
}

/// A pipe, as any device, is not put away for a result.
fn not_replaced(place: &Place, tally: &mut Tally) {
    let pipe = place.path("samples.png");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = lethe();
    command.args(["sample", "--count", "1", "--stages", "1", "--out"]).arg(&pipe);
    let ended = run(command.arg(place.path("whole/seed-7/task-1")), Duration::from_secs(20));
    tally.count(|| "a pipe as --out".into(), Rule::codes(&[73]).verdict(&ended));
    let is_pipe = !fs::symlink_metadata(&pipe).unwrap().is_file();
    tally.count(|| "that pipe".into(), if is_pipe { Ok(()) } else { Err("replaced".into()) });
    // As /dev/stdout is one.
    let link = place.path("link.png");
    symlink(&pipe, &link).unwrap();
    let mut command = lethe();
    command.args(["sample", "--count", "1", "--stages", "1", "--out"]).arg(&link);
    let ended = run(command.arg(place.path("whole/seed-7/task-1")), Duration::from_secs(20));
    tally.count(|| "a link to a pipe as --out".into(), Rule::codes(&[73]).verdict(&ended));
    let is_link = fs::symlink_metadata(&link).unwrap().is_symlink();
    tally.count(|| "that link".into(), if is_link { Ok(()) } else { Err("replaced".into()) });
}
