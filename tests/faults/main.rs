//! The fault suite: it tries to break the program from outside, counts the tries, and prints what survived.
//!
//! `cargo test --test faults` is the quick part, minutes; `LETHE_SLOW=1 cargo test --test faults` the long one.
//! Words behind `--` choose rows by their names. `LETHE_FAULT_SEED` repeats a run of this suite,
//! `LETHE_FUZZ_SECONDS` says how long each parser is fuzzed.
//!
//! The pass rule of every try: an exit code of the list, no panic, an error that names what is wrong, within its time and
//! memory; and what was committed before is still there, or comes back to the same bytes by the same command.
#![expect(clippy::print_stdout, reason = "the table is what this suite is for")]

mod chance;
mod controls;
mod damage;
mod disk;
mod environment;
mod folders;
mod fuzz;
mod hostile;
mod images;
mod inputs;
mod kills;
mod limits;
mod million;
mod models;
mod names;
mod numbers;
mod outside;
mod process;
mod runs;
mod strangers;
mod tally;
mod targets;
mod unpacked;
mod works;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use tally::{Suite, Tally};

/// What bounds the memory of fuzzed parsers; everywhere else it only passes on.
#[global_allocator]
static ALLOCATOR: fuzz::Bounded = fuzz::Bounded;

/// A row: its name, and what fills it.
type Row = (&'static str, fn(&Suite, &mut Tally));

const ROWS: &[Row] = &[
    ("controls: each check can fail", controls::checks_can_fail),
    ("kill -9 at random moments", kills::kill_minus_nine),
    ("kill -9 between a last checkpoint and its end", kills::at_the_last_checkpoint),
    ("SIGTERM, SIGINT, SIGUSR1, SIGXCPU at random moments", kills::signals),
    ("signals before the first step", kills::while_encoding),
    ("two processes on one run; the lock of a dead one", kills::two_processes),
    ("two processes making one model", kills::two_makers),
    ("our files damaged: a finished run", damage::finished),
    ("our files damaged: a finished run in latents", damage::finished_in_latents),
    ("our files damaged: a run within a task", damage::within_a_task),
    ("our files damaged: lethe report", damage::report),
    ("our files removed, cut at a line, or of another kind", damage::removed),
    ("our cache damaged", damage::cache),
    ("a model that changes between stop and resume", damage::another_model),
    ("data damaged: each reader", inputs::damaged),
    ("data changed between stop and resume", inputs::changed),
    ("protocol damaged under a run", inputs::protocol),
    ("models damaged: each file of a folder", models::damaged),
    ("models damaged: header lengths and counts", models::headers),
    ("models damaged: a single file, and its cache", unpacked::damaged),
    ("models: pickles, shards, families", models::strangers),
    ("disk: full, failing, writing half", disk::faults),
    ("hostile images", images::hostile),
    ("hostile data sets", hostile::data),
    ("hostile JSON and TOML", hostile::texts),
    ("hostile numbers in a protocol", numbers::protocol),
    ("pipes, folders, loops of links in place of files", hostile::kinds),
    ("a folder with twenty kinds of broken images", folders::broken),
    ("names that are no UTF-8, long, or of many lines", folders::names),
    ("markup and formulas in class names and captions", names::markup),
    ("no HOME, another locale, a closed output", environment::surroundings),
    ("parts of another run; a last step that diverges", strangers::parts),
    ("hard links, linked folders, a run in a run, devices", strangers::names),
    ("other work in a folder; lists; readers and writers", works::all),
    ("results within a run; files of others in their place", outside::all),
    ("limits of memory, files and threads; signals at the lab", limits::all),
    ("folders that may not be written or read", environment::permissions),
    ("offline: no socket", environment::offline),
    ("a ledger of many rows", million::ledger),
    ("fuzzed parsers", fuzz::all),
];

fn main() -> ExitCode {
    if let Some(code) = fuzz::as_a_child().or_else(million::as_a_child) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        ROWS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let suite = Suite::new();
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(*word));
    println!("seed {} (LETHE_FAULT_SEED repeats it)", suite.seed);
    let mut tallies = Vec::new();
    for (name, fill) in ROWS.iter().filter(|(name, _)| is_wanted(name)) {
        let mut tally = Tally::new(name);
        let filled = catch_unwind(AssertUnwindSafe(|| fill(&suite, &mut tally)));
        // What the row itself could not go on after is a loss, and no end of the others.
        tally.count(|| "the row itself".into(), filled.map_err(|_| "it broke off".to_string()));
        println!("{}", tally.in_words());
        tallies.push(tally);
    }
    suite.conclude(&tallies)
}
