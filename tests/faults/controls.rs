//! The controls: each check of this suite, shown a fault, fails.

use crate::process::{Ended, Rule, run};
use crate::runs::{Files, same};
use crate::tally::{Place, Suite, Tally};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn shell(script: &str) -> Ended {
    run(Command::new("sh").args(["-c", script]), Duration::from_secs(1))
}

pub fn checks_can_fail(_: &Suite, tally: &mut Tally) {
    let rule = Rule::codes(&[0, 65]).saying("a.png").within(1);
    let ends = [
        ("a panic", "echo \"thread 'main' panicked at\" >&2; exit 65", "panic"),
        ("a panic's exit code", "echo error: a.png >&2; exit 101", "expected exit"),
        ("an abort", "kill -ABRT $$", "expected exit"),
        ("a code that is not meant here", "echo error: a.png >&2; exit 74", "expected exit"),
        ("an error without words", "exit 65", "no error in words"),
        ("an error that names nothing", "echo error: no >&2; exit 65", "does not say"),
        ("a process that hangs", "exec sleep 5", "took"),
        ("a flood of words", "yes error: a.png | head -c 30000 >&2; exit 65", "bytes of words"),
    ];
    for (name, script, expected) in ends {
        let verdict = match rule.verdict(&shell(script)) {
            Err(why) if why.contains(expected) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        tally.count(|| name.into(), verdict);
    }
    let good = shell("sleep 0.3; echo error: a.png is broken >&2; exit 65");
    tally.count(|| "a good end".into(), rule.verdict(&good));
    let small = Rule { memory: 1, ..rule };
    let verdict = match small.verdict(&good) {
        Err(why) if why.contains("of memory") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    tally.count(|| "too much memory".into(), verdict);
    tally.count(|| "comparison of folders".into(), comparison());
    let mut other = Tally::new("lost");
    other.count(|| "deliberate".into(), Err("this line is no loss: a control".into()));
    let verdict = if other.is_sound() { Err("a loss is not counted".into()) } else { Ok(()) };
    tally.count(|| "a loss is counted".into(), verdict);
}

/// A file that differs, is lost, or is left over is found.
fn comparison() -> Result<(), String> {
    let place = Place::new();
    place.write("run/a/b", "1");
    let folder = place.path("run");
    let files = |names: &[(&str, &str)]| -> Files {
        names.iter().map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec())).collect()
    };
    same(&folder, &files(&[("a/b", "1")]))?;
    for (expected, word) in [
        (files(&[("a/b", "2")]), "differs"),
        (files(&[("a/b", "1"), ("c", "")]), "is lost"),
        (files(&[]), "is left over"),
    ] {
        match same(&folder, &expected) {
            Err(why) if why.contains(word) => {}
            other => return Err(format!("{word}: {other:?}")),
        }
    }
    Ok(())
}
