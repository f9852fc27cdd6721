//! Processes that run rounds on orders: `round` in, seconds out; at the end of the orders, the peak memory in MiB.

use crate::place::Place;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

/// Whose rounds.
pub enum Racer<'a> {
    /// This program.
    Ours { case: &'a str, quick: bool },
    /// One of the scripts beside this file, run by `python`, with its images laid out as `layout` says.
    Peer { python: &'a Path, scripts: &'a Path, case: &'a str, layout: &'a str, quick: bool },
}

/// Peak memory in MiB.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    /// Of the whole process.
    pub peak: f64,
    /// Before the case began: the program, or the interpreter and its libraries.
    pub floor: f64,
}

/// A process at work.
pub struct Child {
    process: std::process::Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    what: String,
    floor: f64,
}

impl Child {
    /// Starts `racer` and waits until its results were found right and it is warm.
    pub fn start(racer: &Racer, device: &str, threads: usize, folder: &Path) -> Result<Self> {
        let (mut command, what) = command(racer)?;
        if device != "cpu" {
            command.args(["--device", device]);
        }
        command.arg("--folder").arg(folder).env("RAYON_NUM_THREADS", threads.to_string());
        if let Racer::Peer { .. } = racer {
            command.arg("--threads").arg(threads.to_string());
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| what.clone())?;
        let orders = process.stdin.take().context("no pipe to the process")?;
        let answers = BufReader::new(process.stdout.take().context("no pipe from the process")?);
        let mut child = Self { process, orders, answers, what, floor: 0. };
        child.floor = child.answer("ready")?;
        Ok(child)
    }

    /// Seconds of one round.
    pub fn round(&mut self) -> Result<f64> {
        writeln!(self.orders, "round").with_context(|| self.what.clone())?;
        self.answer("seconds")
    }

    /// Ends the process.
    pub fn finish(mut self) -> Result<Memory> {
        writeln!(self.orders, "end").with_context(|| self.what.clone())?;
        let memory = Memory { peak: self.answer("peak")?, floor: self.floor };
        self.process.wait()?;
        Ok(memory)
    }

    fn answer(&mut self, word: &str) -> Result<f64> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim().split_once(' ') {
            Some((found, number)) if found == word => {
                number.parse().with_context(|| format!("{}: `{}`", self.what, line.trim()))
            }
            _ => bail!("{}: expected `{word} <number>`, got `{}`", self.what, line.trim()),
        }
    }
}

fn command(racer: &Racer) -> Result<(Command, String)> {
    let (mut command, what) = match racer {
        Racer::Ours { case, .. } => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--case", case]);
            (command, format!("ours, {case}"))
        }
        Racer::Peer { python, scripts, case, layout, .. } => {
            let mut command = Command::new(python);
            let script = match *case {
                "theory" => "peer_theory.py",
                case if case.starts_with("sd-") => "peer_latent.py",
                case if case.starts_with("op-") => "peer_operation.py",
                _ => "peer.py",
            };
            command.arg(scripts.join(script)).args(["--case", case, "--layout", layout]);
            (command, format!("peer, {case}, {layout}"))
        }
    };
    let (Racer::Ours { quick, .. } | Racer::Peer { quick, .. }) = racer;
    if *quick {
        command.arg("--quick");
    }
    Ok((command, what))
}

/// The other end of [`Child`] in this program: `round` returns its seconds.
pub fn serve_rounds(place: &Place, mut round: impl FnMut() -> Result<f64>) -> Result<()> {
    let mut answers = std::io::stdout();
    // As the peer: what setting up took is not counted.
    lethe_kernels::device::forget_peak(&place.device)?;
    writeln!(answers, "ready 0")?;
    for order in std::io::stdin().lines() {
        match order?.as_str() {
            "round" => writeln!(answers, "seconds {}", round()?)?,
            _ => break,
        }
    }
    Ok(writeln!(answers, "peak {}", place.peak()?)?)
}
