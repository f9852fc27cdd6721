//! A process from its start to its end, and the verdict on how it ended.

use crate::tally::Tally;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The exit codes of the README.
pub const CODES: [i32; 11] = [0, 64, 65, 66, 70, 71, 73, 74, 75, 76, 77];
/// Those that say that something given is not as it should be.
pub const REFUSED: [i32; 4] = [64, 65, 66, 77];

/// How a process ended.
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
    pub wall: Duration,
    /// Largest resident set in bytes, as the kernel saw it.
    pub peak: u64,
    pub is_late: bool,
}

/// A process that was started, with its output drained.
pub struct Running {
    child: Child,
    began: Instant,
    /// Largest resident set seen so far, in bytes.
    seen: u64,
    out: Option<std::thread::JoinHandle<String>>,
    err: Option<std::thread::JoinHandle<String>>,
}

/// `lethe`, with an empty cache of its own where the caller names none, and no input.
pub fn lethe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
    command.stdin(Stdio::null()).env_remove("LETHE_OFFLINE").env("HF_HUB_OFFLINE", "1");
    command
}

pub fn start(command: &mut Command) -> Running {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let (out, err) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
    Running { child, began, seen: 0, out: Some(out), err: Some(err) }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What a killed process left unsaid is no error.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Running {
    pub fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved; the process is ours and was not waited for.
        unsafe { libc::kill(self.id(), signal) };
    }

    pub fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for its end, kills it after `limit`.
    pub fn end(mut self, limit: Duration) -> Ended {
        let mut is_late = false;
        let (status, peak) = loop {
            if let Some(found) = self.ended() {
                break found;
            }
            if !is_late && self.began.elapsed() > limit {
                is_late = true;
                self.signal(libc::SIGKILL);
            }
            let pause = if self.began.elapsed() < Duration::from_millis(100) { 1 } else { 4 };
            std::thread::sleep(Duration::from_millis(pause));
        };
        let wall = self.began.elapsed();
        let text = |reader: Option<std::thread::JoinHandle<String>>| {
            reader.map(|reader| reader.join().unwrap()).unwrap_or_default()
        };
        Ended { status, out: text(self.out), err: text(self.err), wall, peak, is_late }
    }

    /// Status and peak memory, if it has ended.
    pub fn ended(&mut self) -> Option<(ExitStatus, u64)> {
        let mut status = 0;
        // SAFETY: all zeros are a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both places live through the call; nobody else waits for this process.
        let found = unsafe { libc::wait4(self.id(), &mut status, libc::WNOHANG, &mut usage) };
        if found != self.id() {
            self.seen = self.seen.max(peak_of(&self.id().to_string()));
            return None;
        }
        // The kernel counts what this process held when it started that one, too: below that it says nothing.
        let counted = usage.ru_maxrss as u64 * 1024;
        // And what it held then is known to a few megabytes only.
        let own = peak_of("self");
        let peak = if counted > own + own / 4 + (8 << 20) { counted } else { self.seen };
        Some((ExitStatus::from_raw(status), peak))
    }
}

/// Largest resident set of a process so far, in bytes; 0 where it cannot be read.
fn peak_of(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// Runs `command` to its end, or to `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Ended {
    start(command).end(limit)
}

impl Ended {
    /// Its code, or its signal, in words.
    pub fn outcome(&self) -> String {
        match (self.is_late, self.status.code(), self.status.signal()) {
            (true, ..) => "late".into(),
            (_, Some(code), _) => format!("exit {code}"),
            (_, _, signal) => format!("signal {}", signal.unwrap_or_default()),
        }
    }

    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

/// What an end must be.
#[derive(Clone)]
pub struct Rule {
    pub codes: Vec<i32>,
    /// What the error must say, wherever there is one.
    pub words: Vec<String>,
    pub within: Duration,
    /// Bytes.
    pub memory: u64,
}

impl Rule {
    /// One of these codes, within 20 seconds and 512 MiB.
    pub fn codes(codes: &[i32]) -> Self {
        Self {
            codes: codes.to_vec(),
            words: Vec::new(),
            within: Duration::from_secs(20),
            memory: 512 << 20,
        }
    }

    pub fn saying(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    pub fn within(self, seconds: u64) -> Self {
        Self { within: Duration::from_secs(seconds), ..self }
    }

    pub fn memory(self, megabytes: u64) -> Self {
        Self { memory: megabytes << 20, ..self }
    }

    /// What is wrong with `ended`, if anything.
    pub fn verdict(&self, ended: &Ended) -> Result<(), String> {
        let outcome = ended.outcome();
        let told: String = ended.err.chars().take(600).collect();
        let fault = |what: String| Err(format!("{what}; {outcome}; said: {}", told.trim()));
        if ended.is_late || ended.wall > self.within {
            return fault(format!("took {:.1} s", ended.wall.as_secs_f64()));
        }
        if ended.err.contains("panicked") || ended.out.contains("panicked") {
            return fault("a panic".into());
        }
        if !CODES.contains(&ended.code()) || !self.codes.contains(&ended.code()) {
            return fault(format!("expected exit {:?}", self.codes));
        }
        if ended.peak > self.memory {
            return fault(format!("{} MiB of memory", ended.peak >> 20));
        }
        if ended.code() == 0 {
            return Ok(());
        }
        if !ended.err.contains("error: ") {
            return fault("no error in words".into());
        }
        if ended.err.len() > 20_000 {
            return fault(format!("{} bytes of words", ended.err.len()));
        }
        match self.words.iter().find(|word| !ended.err.contains(word.as_str())) {
            Some(word) => fault(format!("does not say `{word}`")),
            None => Ok(()),
        }
    }

    /// Runs `command` and counts the verdict on it.
    pub fn try_on(&self, tally: &mut Tally, what: &str, command: &mut Command) -> Ended {
        let ended = run(command, self.within);
        tally.saw(ended.outcome(), ended.wall, ended.peak);
        tally.count(|| what.to_string(), self.verdict(&ended));
        ended
    }
}
