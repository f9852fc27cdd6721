//! The door: `lethe VERB`. The table of contents is [`Command`]; each verb is one file.

mod verb;

use anyhow::{Result, anyhow};
use clap::{Parser, Subcommand};
use lethe::exit::{Fault, fault_of};
use lethe::interrupt::{listen, outlive_large_files};
use std::io::{Write, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: lethe::allocator::Allocator = lethe::allocator::Allocator;

/// What does a diffusion model forget when it is fine-tuned on one task after another, which examples go first,
/// and what should be replayed?
///
/// Exit codes: 0 done · 64 usage or protocol · 65 bad data · 66 missing input · 70 a fault of lethe itself ·
/// 71 no memory, or no threads · 73 the run is held by another process, or does not fit (plan) · 74 the disk refused ·
/// 75 interrupted, or not finished (report check): the same command goes on ·
/// 76 training diverged · 77 something is not as it was written.
#[derive(Parser)]
#[command(name = "lethe", version, max_term_width = 100)]
struct Cli {
    /// Open no socket: models by hub id come from the hub's cache alone; LETHE_OFFLINE=1 and HF_HUB_OFFLINE=1 say the same
    #[arg(long, global = true)]
    offline: bool,
    #[command(subcommand)]
    command: Command,
}

// What a verb says of itself stands at its arguments: a comment here would hide it.
#[derive(Subcommand)]
enum Command {
    Doctor(verb::doctor::Arguments),
    Plan(verb::plan::Arguments),
    Run(verb::run::Arguments),
    Train(verb::train::Arguments),
    Probe(verb::probe::Arguments),
    Sample(verb::sample::Arguments),
    Report(verb::report::Arguments),
    /// Look at data sets.
    #[command(subcommand)]
    Data(verb::data::Command),
    Energy(verb::energy::Arguments),
    Mhn(verb::mhn::Arguments),
    /// Look at checkpoints.
    #[command(subcommand)]
    Models(verb::models::Command),
}

/// What is said of a panic, whose own words stand above it.
const BROKEN: &str = "this is a fault of lethe itself, not of what it was given; what was committed stays, and the same \
    command may go on. Please report the lines above.";

fn main() -> ExitCode {
    lethe::allocator::keep_freed_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_said = error.print().and_then(|()| stdout().flush()).is_ok();
            return ExitCode::from(match (error.use_stderr(), is_said) {
                (true, _) => Fault::Usage.code(),
                (false, true) => 0,
                (false, false) => Fault::Disk.code(),
            });
        }
    };
    if cli.offline {
        lethe::hub::stay_offline();
    }
    // On one of rayon's own threads: from any other, each of an operation's parallel parts costs two context switches.
    let work = || begin().and_then(|()| rayon::scope(|_| run(cli.command)));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let outcome = outcome.unwrap_or_else(|_| Err(Fault::Bug.because(anyhow!(BROKEN))));
    match outcome {
        Ok(()) if !verb::all_said() => ExitCode::from(Fault::Disk.code()),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            verb::complain(&error);
            ExitCode::from(fault_of(&error).code())
        }
    }
}

/// Threads at most: more than any machine has processors.
const MOST_THREADS: usize = 1024;

/// What holds for the whole process: its threads, and what signals mean.
fn begin() -> Result<()> {
    // Rayon heeds both.
    for name in ["RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS"] {
        let asked = std::env::var(name).ok().and_then(|text| text.parse().ok());
        if let Some(asked) = asked.filter(|asked: &usize| *asked > MOST_THREADS) {
            let error = anyhow!("{name}: expected at most {MOST_THREADS}, got {asked}");
            return Err(Fault::Usage.because(error));
        }
    }
    // Whatever the environment says of stacks.
    let threads = rayon::ThreadPoolBuilder::new().stack_size(2 << 20).build_global();
    threads.map_err(|error| Fault::Memory.because(anyhow!("no threads: {error}")))?;
    outlive_large_files()?;
    listen(verb::complain)
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Doctor(arguments) => verb::doctor::run(&arguments),
        Command::Plan(arguments) => verb::plan::run(&arguments),
        Command::Run(arguments) => verb::run::run(&arguments),
        Command::Train(arguments) => verb::train::run(&arguments),
        Command::Probe(arguments) => verb::probe::run(&arguments),
        Command::Sample(arguments) => verb::sample::run(&arguments),
        Command::Report(arguments) => verb::report::run(&arguments),
        Command::Data(command) => verb::data::run(&command),
        Command::Energy(arguments) => verb::energy::run(&arguments),
        Command::Mhn(arguments) => verb::mhn::run(&arguments),
        Command::Models(command) => verb::models::run(&command),
    }
}
