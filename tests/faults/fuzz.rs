//! Every parser of ours, fed mutations of small files without end: no panic, no wait, no gigabyte.
//!
//! Each parser runs in a process of its own, so that whatever becomes of it is seen from outside. A mutation that is accepted,
//! or refused in words of another shape than before, is mutated further: words are what tells one path of a parser from
//! another. An input that breaks one is written below `target/fault-inputs`.

use crate::chance::Chance;
use crate::inputs::golden;
use crate::process::{Rule, run};
use crate::tally::{Place, Suite, Tally};
use crate::targets::{TARGETS, Target};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Bytes that a parser may hold at once.
const MEMORY: usize = 768 << 20;
/// Longest time of the processor that one small input may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest input.
const LARGEST: usize = 1 << 17;

const TARGET: &str = "LETHE_FUZZ_TARGET";
const SECONDS: &str = "LETHE_FUZZ_SECONDS";

/// The system's allocator, which refuses what is beyond a limit, once one is set.
pub struct Bounded;

static HELD: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: every call is passed on to the system's allocator as it is, or refused by a null pointer as the trait allows.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if HELD.fetch_add(layout.size(), Relaxed).saturating_add(layout.size())
            > LIMIT.load(Relaxed)
        {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

/// One row for all of them: a try is an input.
#[expect(clippy::print_stdout, reason = "what takes an hour says that it is done")]
pub fn all(suite: &Suite, tally: &mut Tally) {
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse::<f64>().ok());
    let seconds = seconds.unwrap_or(if suite.is_long { 60. } else { 1.5 });
    let inputs =
        Path::new(env!("CARGO_BIN_EXE_lethe")).ancestors().nth(2).unwrap().join("fault-inputs");
    fs::create_dir_all(&inputs).unwrap();
    control(&inputs, tally);
    let names = TARGETS.iter().map(|target| target.name).filter(|&name| name != BROKEN);
    let ahead = Mutex::new(names.collect::<VecDeque<_>>());
    let tally = Mutex::new(tally);
    let worker = || {
        while let Some(name) = next(&ahead) {
            let (found, tried) = fuzzed(name, suite.seed, seconds, &inputs);
            if suite.is_long {
                println!("  {name}: {tried} inputs, {found:?}");
            }
            let mut tally = tally.lock().unwrap();
            tally.saw(format!("{name} {tried}"), Duration::ZERO, 0);
            tally.count(|| name.into(), found);
            // Each input is a try, and those of a target that broke are not told apart from outside.
            (1..tried).for_each(|_| tally.count(String::new, Ok(())));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(worker))));
}

fn next(ahead: &Mutex<VecDeque<&'static str>>) -> Option<&'static str> {
    ahead.lock().unwrap().pop_front()
}

/// The name of a target that is broken on purpose.
pub const BROKEN: &str = "broken";

/// The fuzzer finds what is there to be found.
fn control(inputs: &Path, tally: &mut Tally) {
    let (found, _) = fuzzed(BROKEN, 1, 20., inputs);
    let verdict = match found {
        Err(why) if why.contains("a panic") => Ok(()),
        other => Err(format!("the control was not found broken: {other:?}")),
    };
    tally.count(|| BROKEN.into(), verdict);
}

/// Fuzzes one target in a process of its own; what it says of it, and how many inputs it tried.
fn fuzzed(name: &str, seed: u64, seconds: f64, inputs: &Path) -> (Result<(), String>, usize) {
    let place = Place::quick();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(TARGET, name).env(SECONDS, seconds.to_string()).env("HF_HUB_OFFLINE", "1");
    command.env("LETHE_FAULT_SEED", seed.to_string()).current_dir(place.path(""));
    command.env("LETHE_CACHE", place.path("cache"));
    // The seconds are those of a processor, which others may use too.
    let limit = Duration::from_secs_f64(10. * seconds + 60.);
    let ended = run(&mut command, limit);
    let tried = ended.out.lines().find_map(|line| line.strip_prefix("tried ")?.parse().ok());
    let verdict =
        match (ended.code(), Rule::codes(&[0]).within(1 << 30).memory(1 << 30).verdict(&ended)) {
            (0, Ok(())) => Ok(()),
            (2, _) => Err(format!("not one of {tried:?} inputs was accepted")),
            (_, verdict) => {
                let bytes = fs::read(place.path("input")).unwrap_or_default();
                let kept = inputs.join(format!("{name}-{}", &blake3::hash(&bytes).to_hex()[..8]));
                fs::write(&kept, bytes).unwrap();
                let why = verdict.err().unwrap_or_default();
                Err(format!("{}: {} {why}", kept.display(), ended.out.trim()))
            }
        };
    (verdict, tried.unwrap_or(0))
}

/// In the process of a target: fuzz it, and end.
pub fn as_a_child() -> Option<ExitCode> {
    let name = std::env::var(TARGET).ok()?;
    let target = TARGETS.iter().find(|target| target.name == name)?;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok());
    let (seed, seconds) = (number("LETHE_FAULT_SEED")? as u64, number(SECONDS)?);
    Some(fuzz(target, seed, Duration::from_secs_f64(seconds)))
}

thread_local! {
    /// Where the last panic was, and what it said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

#[expect(clippy::print_stdout, reason = "the parent process reads it")]
fn fuzz(target: &Target, seed: u64, time: Duration) -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with(|place| *place.borrow_mut() = Some(info.to_string().replace('\n', " ")));
    }));
    let folder = PathBuf::from("scratch");
    fs::create_dir_all(&folder).unwrap();
    (target.prepare)(&folder);
    let mut chance = Chance::new(seed, target.name);
    let mut pool = corpus(target.name);
    let mut shapes = BTreeSet::new();
    let (began, mut tried, mut accepted) = (spent(), 0, 0);
    LIMIT.store(HELD.load(Relaxed) + MEMORY, Relaxed);
    let mut next = 0;
    while spent() - began < time {
        // First what is in the corpus, as it is.
        let input = if next < pool.len() && shapes.len() < 1 << 12 && tried == next {
            next += 1;
            pool[tried].clone()
        } else {
            mutated(&mut chance, &pool)
        };
        fs::write("input", &input).unwrap();
        let asked = spent();
        let outcome = std::panic::catch_unwind(|| (target.run)(&folder, &input));
        tried += 1;
        let panic = PANIC.with(|place| place.borrow_mut().take());
        let verdict = match (panic, outcome) {
            (Some(words), _) => Err(format!("a panic: {words}")),
            (None, Err(_)) => Err("a panic".into()),
            _ if spent() - asked > PATIENCE => Err(format!("{:?} for one input", spent() - asked)),
            (None, Ok(outcome)) => {
                accepted += usize::from(outcome.is_ok());
                Ok(shape(outcome))
            }
        };
        match verdict {
            Err(why) => {
                println!("tried {tried}\n{why}");
                return ExitCode::FAILURE;
            }
            Ok(shape) => {
                if shapes.len() < 1 << 12 && shapes.insert(shape) {
                    pool.push(input);
                }
            }
        }
    }
    println!("tried {tried}");
    // What refuses everything was not fuzzed behind its first check.
    match accepted {
        0 => ExitCode::from(2),
        _ => ExitCode::SUCCESS,
    }
}

/// What this process has taken of the processor so far.
fn spent() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call, which writes nothing else.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Words without what differs from input to input.
fn shape(outcome: Result<(), String>) -> String {
    let words = outcome.err().unwrap_or_default();
    let quoted: String = words.split('`').step_by(2).collect();
    quoted.chars().filter(|c| c.is_alphabetic() || *c == ' ').take(160).collect()
}

/// The small files that a target starts from.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/corpus").join(name);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    // Too large to be kept twice.
    paths.extend((name == "parquet").then(|| golden("cifar10/hub.parquet")));
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// What parsers trip over.
const TOKENS: [&[u8]; 36] = [
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967296",
    b"9223372036854775807",
    b"0.1",
    b"null",
    b"true",
    b"\"\"",
    b"[]",
    b"{}",
    b"[[",
    b"{\"a\":",
    b"\\ud800",
    b"\\u0000",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r\n",
    b"\"",
    b"'",
    b",",
    b"=",
    b"../",
    b"/",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xf0\x9f\x90\x88",
    b"<script>",
    b" ",
];

fn mutated(chance: &mut Chance, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = chance.of(pool).clone();
    for _ in 0..1 + chance.below(4) {
        mutate(chance, &mut bytes, pool);
    }
    bytes.truncate(LARGEST);
    bytes
}

fn mutate(chance: &mut Chance, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
    let n = bytes.len();
    let (a, b) = (chance.below(n + 1), chance.below(n + 1));
    let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 64));
    match chance.below(9) {
        0 if n > 0 => bytes[a.min(n - 1)] ^= 1 << chance.below(8),
        1 if n > 0 => bytes[a.min(n - 1)] = chance.word() as u8,
        2 => bytes.truncate(a),
        3 => drop(bytes.splice(from..to, chance.of(&TOKENS).iter().copied())),
        4 => drop(bytes.splice(a..a, chance.of(&TOKENS).iter().copied())),
        5 => drop(bytes.drain(from..to)),
        6 => {
            let block = bytes[from..to].repeat(1 + chance.below(64));
            drop(bytes.splice(from..from, block));
        }
        7 => {
            let other = chance.of(pool);
            let cut = chance.below(other.len() + 1);
            bytes.truncate(a);
            bytes.extend(&other[cut..]);
        }
        _ => digits(chance, bytes),
    }
}

/// One of the numbers in a text becomes another one.
fn digits(chance: &mut Chance, bytes: &mut Vec<u8>) {
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_digit()))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = *chance.of(&starts);
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = match chance.below(4) {
        0 => chance.below(20).to_string(),
        1 => (1u128 << chance.below(70)).to_string(),
        2 => (chance.word() >> chance.below(64)).to_string(),
        _ => format!("-{}", chance.below(3)),
    };
    drop(bytes.splice(start..start + length, number.into_bytes()));
}
