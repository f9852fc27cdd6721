//! What the system grants a process: memory, threads, the length of its files, how many of them, and its time.

use crate::process::{Rule, lethe, run, start};
use crate::runs::{TINY, goes_on, river, unbroken};
use crate::tally::{Place, Suite, Tally};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// `command` under `ulimit`, whose units are the shell's: KiB of memory, 512 or 1024 bytes of a file.
fn limited(command: &Command, limit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Too little of anything ends in words, and the same command with more of it in the right bytes.
pub fn all(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let (expected, _) = unbroken(&place, TINY, &place.path("whole"));
    let (memory, files) = (Rule::codes(&[0, 65, 71, 73]), Rule::codes(&[0, 74]));
    let limits = [
        ("-v 65000", &memory),
        ("-v 70000", &memory),
        ("-v 76000", &memory),
        ("-v 82000", &memory),
        ("-f 1", &files),
        ("-f 8", &files),
        ("-f 64", &files),
        ("-f 400", &files),
        ("-n 6", &files),
        ("-n 9", &files),
    ];
    for (limit, rule) in limits {
        let out = place.path("run");
        let command = &mut limited(&river(&place, TINY, &out), limit);
        rule.try_on(tally, &format!("ulimit {limit}"), command);
        let verdict = goes_on(&mut river(&place, TINY, &out), &out, &expected);
        tally.count(|| format!("behind ulimit {limit}"), verdict);
        fs::remove_dir_all(&out).unwrap();
    }
    let mut command = lethe();
    command.args(["data", "check", "fashion-mnist"]).env("RAYON_NUM_THREADS", "100000");
    Rule::codes(&[64]).saying("RAYON_NUM_THREADS").try_on(tally, "too many threads", &mut command);
    ended_where_nothing_is_kept(&place, tally);
}

/// What has nothing to go on from says so, and leaves a scheduler the code that it knows.
fn ended_where_nothing_is_kept(place: &Place, tally: &mut Tally) {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGXCPU] {
        let mut command = lethe();
        command.args(["mhn", "rise", "--rotations", "190000", "--out"]).arg(place.path("pages"));
        let running = start(&mut command);
        std::thread::sleep(Duration::from_millis(500));
        running.signal(signal);
        let rule = Rule::codes(&[75]).saying("run the same command again");
        let verdict = rule.verdict(&running.end(Duration::from_secs(5)));
        tally.count(|| format!("signal {signal} at the theory lab"), verdict);
    }
    // What was left is no hindrance.
    let mut command = lethe();
    command.args(["mhn", "rise", "--rotations", "200", "--out"]).arg(place.path("pages"));
    let verdict = Rule::codes(&[0]).verdict(&run(&mut command, Duration::from_secs(60)));
    tally.count(|| "the theory lab, again".into(), verdict);
}
