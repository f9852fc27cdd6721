//! What surrounds the program: variables, permissions, outputs, the network.

use crate::inputs::golden;
use crate::process::{Rule, lethe, run};
use crate::runs::{LATENT, TINY, goes_on, river, same, unbroken};
use crate::tally::{Place, Suite, Tally};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// None of it changes a byte.
pub fn surroundings(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let (expected, _) = unbroken(&place, TINY, &place.path("whole"));
    type Change = fn(&mut Command, &Place);
    let changes: [(&str, Change); 8] = [
        ("no HOME", |command, _| _ = command.env_remove("HOME").env_remove("LETHE_CACHE")),
        ("a HOME that is not there", |command, _| _ = command.env("HOME", "/nonexistent")),
        ("LC_ALL=de_DE.UTF-8", |command, _| {
            command.env("LC_ALL", "de_DE.UTF-8").env("LANG", "de_DE.UTF-8");
        }),
        ("no environment", |command, _| _ = command.env_clear()),
        ("another time zone", |command, _| _ = command.env("TZ", "Pacific/Kiritimati")),
        ("a temporary folder that is not there", |command, _| {
            command.env("TMPDIR", "/nonexistent");
        }),
        ("a backtrace", |command, _| _ = command.env("RUST_BACKTRACE", "full")),
        ("another working folder", |command, place| _ = command.current_dir(place.path(""))),
    ];
    for (what, change) in changes {
        let out = place.path("run");
        let mut command = river(&place, TINY, &out);
        change(&mut command, &place);
        let verdict = goes_on(&mut command, &out, &expected);
        tally.count(|| what.into(), verdict);
        fs::remove_dir_all(&out).unwrap_or_default();
    }
    outputs(&place, tally);
}

/// Outputs that nobody reads, or that cannot be written.
fn outputs(place: &Place, tally: &mut Tally) {
    let (expected, _) = unbroken(place, TINY, &place.path("spoken"));
    for (what, out, err) in [
        ("no reader of errors", false, true),
        ("no reader of results", true, false),
        ("no reader at all", true, true),
    ] {
        let folder = place.path("mute");
        let mut command = river(place, TINY, &folder);
        let closed = |is: bool| if is { broken_pipe() } else { Stdio::null() };
        command.stdout(closed(out)).stderr(closed(err));
        let code = command.status().unwrap().code();
        let verdict = match code {
            Some(0) => same(&folder, &expected),
            other => Err(format!("exit {other:?}")),
        };
        tally.count(|| what.into(), verdict);
        fs::remove_dir_all(&folder).unwrap_or_default();
    }
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return tally.not_run("there is no /dev/full");
    };
    let commands: [&[&str]; 3] =
        [&["--help"], &["data", "check", "fashion-mnist"], &["models", "verify", "--json"]];
    for arguments in commands {
        let mut command = lethe();
        command.args(arguments);
        if arguments[0] == "models" {
            command.arg(golden("unet/defaults-like"));
        }
        let status = command.stdout(full.try_clone().unwrap()).stderr(Stdio::null()).status();
        let verdict = match status.unwrap().code() {
            Some(74) => Ok(()),
            other => Err(format!("expected exit 74, got {other:?}")),
        };
        tally.count(|| format!("lethe {} into a full disk", arguments.join(" ")), verdict);
    }
}

/// The writing end of a pipe whose reader is gone.
fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// What may not be written is refused before the work, what may not be read by its name.
pub fn permissions(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let copy = place.path("lethe");
    fs::copy(env!("CARGO_BIN_EXE_lethe"), &copy).unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    open(&place.path(""), 0o755);
    // SAFETY: it only reads who we are.
    let is_root = unsafe { libc::geteuid() } == 0;
    // The superuser may do everything: somebody else tries.
    let other = |arguments: &[&str], paths: &[PathBuf]| {
        let mut command = Command::new(&copy);
        command.args(arguments).args(paths).stdin(Stdio::null()).env("LETHE_CACHE", "/nonexistent");
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        command
    };
    let protocol = place.write("tiny.toml", TINY);
    fs::create_dir(place.path("closed")).unwrap();
    open(&place.path("closed"), 0o555);
    let out = place.path("closed/run");
    let rule = Rule::codes(&[73]).saying(out.display().to_string());
    let arguments = [protocol.clone(), "--out".into(), out];
    rule.try_on(tally, "a run in a folder that is closed", &mut other(&["run"], &arguments));
    let secret = place.write("secret.toml", TINY);
    open(&secret, 0o000);
    let rule = Rule::codes(&[65, 66, 74]).saying("secret.toml");
    rule.try_on(tally, "a protocol that may not be read", &mut other(&["run"], &[secret]));
    let image = place.write("set/c/secret.png", fs::read(golden("images/bits.png")).unwrap());
    open(&image, 0o000);
    let ended = Rule::codes(&[65]).saying("set").try_on(
        tally,
        "an image that may not be read",
        &mut other(&["data", "check"], &[place.path("set")]),
    );
    let is_listed = ended.out.contains("secret.png");
    let verdict = if is_listed { Ok(()) } else { Err("it is not listed".to_string()) };
    tally.count(|| "that image, as told".into(), verdict);
    fs::create_dir(place.path("set/d")).unwrap();
    open(&place.path("set/d"), 0o000);
    let rule = Rule::codes(&[65]).saying("set");
    let mut command = other(&["data", "check"], &[place.path("set")]);
    rule.try_on(tally, "a class folder that may not be listed", &mut command);
    open(&place.path("set/d"), 0o755);
    let weights = place.path("model/diffusion_pytorch_model.safetensors");
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        let bytes = fs::read(golden("unet/defaults-like").join(name)).unwrap();
        place.write(&format!("model/{name}"), bytes);
    }
    open(&weights, 0o000);
    let rule = Rule::codes(&[66, 74, 77]).saying("diffusion_pytorch_model");
    let mut command = other(&["models", "verify"], &[place.path("model")]);
    rule.try_on(tally, "weights that may not be read", &mut command);
    let (expected, _) = unbroken(&place, TINY, &place.path("whole"));
    let rule = Rule::codes(&[73, 74]).saying("whole");
    rule.try_on(
        tally,
        "a report in a closed folder",
        &mut other(&["report"], &[place.path("whole")]),
    );
    tally.count(|| "that folder afterwards".into(), same(&place.path("whole"), &expected));
}

/// With a path for everything no socket is opened; with the hub's name and no network, it is refused.
pub fn offline(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let out = place.path("run");
    let hub = [
        "data.source=hub:uoft-cs/cifar10",
        "model.pretrained=hub:a/b@0123456789012345678901234567890123456789",
    ];
    for set in hub {
        let mut command = river(&place, TINY, &place.path("never"));
        command.args(["--offline", "--set", set]);
        let rule = Rule::codes(&[64, 66]).within(5);
        let ended = rule.try_on(tally, &format!("--offline, {set}"), &mut command);
        let word = if cfg!(feature = "hub") { "offline" } else { "hub" };
        let verdict = match ended.err.contains(word) {
            true => Ok(()),
            false => Err(format!("does not say {word}: {}", ended.err)),
        };
        tally.count(|| format!("--offline, {set}, as told"), verdict);
    }
    let traced = place.path("trace");
    let river = river(&place, LATENT, &out);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-q", "-e", "trace=%network", "-o"]).arg(&traced);
    strace.arg(river.get_program()).args(river.get_args()).env("LETHE_CACHE", place.path("cache"));
    let has_strace = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !has_strace.is_ok_and(|status| status.success()) {
        return tally.not_run("strace cannot trace here");
    }
    let ended = run(&mut strace, Duration::from_secs(300));
    tally.saw(ended.outcome(), ended.wall, ended.peak);
    tally.count(
        || "a traced run".into(),
        Rule::codes(&[0]).within(300).memory(1024).verdict(&ended),
    );
    let trace = fs::read_to_string(&traced).unwrap_or_default();
    let opened: Vec<&str> = trace.lines().filter(|line| line.contains("AF_INET")).collect();
    let verdict = match opened.first() {
        None => Ok(()),
        Some(line) => Err(format!("{} calls, the first: {line}", opened.len())),
    };
    tally.count(|| "sockets of the traced run".into(), verdict);
}
