//! Counting: a row of the table for each fault, and the table.

use crate::chance::Chance;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// What holds for the whole suite.
pub struct Suite {
    pub seed: u64,
    /// Whether all tries are wanted, or only what takes minutes.
    pub is_long: bool,
    began: Instant,
}

impl Suite {
    pub fn new() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs());
        let is_long = std::env::var_os("LETHE_SLOW").is_some();
        // What a change must pass is the same for everybody; what is left running looks at other places each time.
        let usual = || if is_long { clock() } else { 1 };
        Self {
            seed: number("LETHE_FAULT_SEED").unwrap_or_else(usual),
            is_long,
            began: Instant::now(),
        }
    }

    pub fn chance(&self, name: &str) -> Chance {
        Chance::new(self.seed, name)
    }

    /// `few` tries in the quick part, `many` in the long one.
    pub fn tries(&self, few: usize, many: usize) -> usize {
        if self.is_long { many } else { few }
    }

    /// Prints the table and keeps it; fails where something was lost.
    pub fn conclude(&self, tallies: &[Tally]) -> ExitCode {
        let table = self.table(tallies);
        println!("\n{table}");
        for tally in tallies {
            tally.lost.iter().for_each(|what| println!("LOST  {}: {what}", tally.fault));
        }
        let target = Path::new(env!("CARGO_BIN_EXE_lethe")).ancestors().nth(2);
        let place = target.map(|target| target.join("faults.md"));
        if let Some(Err(error)) = place.map(|place| std::fs::write(place, &table)) {
            println!("faults.md could not be written: {error}");
        }
        ExitCode::from(u8::from(tallies.iter().any(|tally| !tally.lost.is_empty())))
    }

    fn table(&self, tallies: &[Tally]) -> String {
        let first_line = |command: &mut Command| {
            let output = command.output().ok().filter(|output| output.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_string())
        };
        let date = first_line(Command::new("date").arg("+%Y-%m-%d"));
        let commit = first_line(Command::new("git").args(["rev-parse", "--short", "HEAD"]));
        let part = if self.is_long { "LETHE_SLOW=1 " } else { "" };
        let mut text = format!(
            "{}, commit {}, `{part}LETHE_FAULT_SEED={} cargo test --test faults`, {:.0} s\n\n",
            date.unwrap_or_default(),
            commit.unwrap_or_default(),
            self.seed,
            self.began.elapsed().as_secs_f64()
        );
        text += "| fault | tries | survived | lost | slowest | peak | outcomes |\n|---|---|---|---|---|---|---|\n";
        for tally in tallies {
            text += &tally.line();
        }
        let sum = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>();
        let (survived, lost) = (sum(|tally| tally.survived), sum(|tally| tally.lost.len()));
        text + &format!("| **all** | {} | {survived} | {lost} | | | |\n", survived + lost)
    }
}

/// One row.
pub struct Tally {
    fault: String,
    survived: usize,
    lost: Vec<String>,
    /// Why nothing was tried, or not all.
    unrun: Vec<String>,
    outcomes: std::collections::BTreeMap<String, usize>,
    slowest: Duration,
    /// Of the largest process, in bytes.
    peak: u64,
    began: Instant,
}

impl Tally {
    pub fn new(fault: &str) -> Self {
        Self {
            fault: fault.to_string(),
            survived: 0,
            lost: Vec::new(),
            unrun: Vec::new(),
            outcomes: Default::default(),
            slowest: Duration::ZERO,
            peak: 0,
            began: Instant::now(),
        }
    }

    /// Counts a try by its verdict.
    pub fn count(&mut self, what: impl FnOnce() -> String, verdict: Result<(), String>) {
        match verdict {
            Ok(()) => self.survived += 1,
            Err(why) => {
                let lost = format!("{}: {why}", what());
                println!("  lost: {lost}");
                self.lost.push(lost);
            }
        }
    }

    /// Counts how a process ended, for the last column.
    pub fn saw(&mut self, outcome: impl Into<String>, wall: Duration, peak: u64) {
        *self.outcomes.entry(outcome.into()).or_default() += 1;
        self.slowest = self.slowest.max(wall);
        self.peak = self.peak.max(peak);
    }

    /// What could not be tried here: printed as such, never as passed.
    pub fn not_run(&mut self, why: impl Into<String>) {
        self.unrun.push(why.into());
    }

    pub fn is_sound(&self) -> bool {
        self.lost.is_empty()
    }

    pub fn in_words(&self) -> String {
        let tries = self.survived + self.lost.len();
        let unrun = self.unrun.iter().map(|why| format!("; not run: {why}")).collect::<String>();
        let seconds = self.began.elapsed().as_secs_f64();
        let (fault, lost) = (&self.fault, self.lost.len());
        format!("{fault}: {tries} tries, {lost} lost, {seconds:.1} s{unrun}")
    }

    fn line(&self) -> String {
        let tries = self.survived + self.lost.len();
        let counted = self.outcomes.iter().map(|(outcome, n)| format!("{outcome} ×{n}"));
        let unrun = self.unrun.iter().map(|why| format!("not run: {why}"));
        let outcomes = counted.chain(unrun).collect::<Vec<_>>().join(", ");
        format!(
            "| {} | {tries} | {} | {} | {:.1} s | {} MiB | {outcomes} |\n",
            self.fault,
            self.survived,
            self.lost.len(),
            self.slowest.as_secs_f64(),
            self.peak >> 20,
        )
    }
}

/// A folder for one row, gone at its end.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// In memory where the system offers that: for thousands of small files.
    pub fn quick() -> Self {
        let memory = tempfile::tempdir_in("/dev/shm");
        memory.map_or_else(|_| Self::new(), Self)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and the folders above it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}
