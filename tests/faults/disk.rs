//! A disk that is full, fails, or takes half: exit 74 in words, and later the same command ends in the same bytes.

use crate::process::{Rule, run};
use crate::runs::{TINY, goes_on, river, unbroken};
use crate::tally::{Place, Suite, Tally};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What fails, whether it goes on failing, and how the program may end then.
const KINDS: [(&str, bool, &[i32]); 6] = [
    // Nothing is wrong with a write that takes half: the rest follows.
    ("half", false, &[0]),
    ("full", true, &[74]),
    ("error", false, &[74]),
    ("sync", false, &[74]),
    ("rename", false, &[74]),
    // The folder of the run, or its lock, cannot be created.
    ("create", true, &[73, 74]),
];

/// The shim as a library, where there is a C compiler.
fn shim(place: &Place) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
    let library = place.path("shim.so");
    let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    match compiler.output() {
        Ok(output) if output.status.success() => Ok(library),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("no C compiler: {error}")),
    }
}

pub fn faults(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let library = match shim(&place) {
        Ok(library) => library,
        Err(why) => return tally.not_run(why),
    };
    let (expected, _) = unbroken(&place, TINY, &place.path("whole"));
    let (out, counted) = (place.path("run"), place.path("count"));
    let mut chance = suite.chance("disk");
    for (kind, stays, codes) in KINDS {
        let failing = |at: usize| {
            let mut command = river(&place, TINY, &out);
            command.env("LD_PRELOAD", &library).env("FAULT_ROOT", &out).env("FAULT_KIND", kind);
            command.env("FAULT_AT", at.to_string()).env("FAULT_COUNT", &counted);
            if stays {
                command.env("FAULT_STAYS", "1");
            }
            command
        };
        let ended = run(&mut failing(0), Duration::from_secs(60));
        fs::remove_dir_all(&out).unwrap();
        let calls = fs::read_to_string(&counted).unwrap_or_default();
        let calls: usize = calls.trim().parse().unwrap_or(0);
        if ended.code() != 0 || calls < 10 {
            // On a system where the shim has no say, nothing was shown.
            tally.not_run(format!("{kind}: the shim counted {calls} calls"));
            continue;
        }
        for _ in 0..suite.tries(3, 100) {
            let at = 1 + chance.below(calls);
            let ended = run(&mut failing(at), Duration::from_secs(20));
            tally.saw(format!("{kind}: {}", ended.outcome()), ended.wall, ended.peak);
            let verdict = Rule::codes(codes).saying(out.display().to_string()).verdict(&ended);
            let verdict =
                verdict.and_then(|()| goes_on(&mut river(&place, TINY, &out), &out, &expected));
            tally.count(|| format!("{kind} at call {at} of {calls}"), verdict);
            if out.exists() {
                fs::remove_dir_all(&out).unwrap();
            }
        }
    }
}
