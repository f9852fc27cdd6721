//! The verbs, one file each, and how they speak.

pub mod data;
pub mod doctor;
pub mod energy;
pub mod mhn;
pub mod models;
pub mod plan;
pub mod probe;
pub mod report;
pub mod run;
pub mod sample;
pub mod train;

use anyhow::Result;
use clap::Args;
use lethe::protocol::ProtocolSpec;
use lethe::study::{Place, Study};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a line could not be written.
static UNSAID: AtomicBool = AtomicBool::new(false);

/// A line on standard output; a reader that went away is no failure, a full disk is one, which [`all_said`] tells.
pub fn say(line: &str) {
    if let Err(error) = lethe::exit::tell(&line.chars().map(shown).collect::<String>())
        && !UNSAID.swap(true, Ordering::Relaxed)
    {
        complain(&error);
    }
}

/// Whether every line was written that was to be said.
pub fn all_said() -> bool {
    !UNSAID.load(Ordering::Relaxed)
}

/// A character that a terminal prints, or its number.
fn shown(c: char) -> String {
    match c {
        '\n' | '\t' => c.to_string(),
        // What turns the direction of writing, or is not seen, would show another name than the one that stands there.
        '\u{ad}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => c.escape_default().to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    }
}

/// Names come from files: what would move a terminal's cursor is shown, not done, and no line is without an end.
fn visible(words: &str) -> String {
    const LONGEST: usize = 2000;
    let line = |line: &str| {
        let rest = if line.chars().nth(LONGEST).is_some() { " …" } else { "" };
        line.chars().take(LONGEST).map(shown).collect::<String>() + rest
    };
    words.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// An error on standard error.
pub fn complain(error: &anyhow::Error) {
    let words = visible(&lethe::exit::in_words(error));
    let _ = writeln!(std::io::stderr(), "error: {words}");
}

/// The protocol, and where it is computed.
#[derive(Args)]
pub struct Protocol {
    /// A built-in protocol (fashion, latent, cifar10) or a protocol file
    #[arg(value_name = "PROTOCOL")]
    protocol: String,
    /// Override a field, such as --set training.steps=100; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Protocol {
    /// The protocol met with its data.
    pub fn study(&self) -> Result<Study> {
        Study::prepare(self.spec()?, lethe::device::named(&self.device)?, None)
    }

    /// The same, making in `folder` the model that the protocol may ask for.
    pub fn study_making(&self, spec: ProtocolSpec, making: Place) -> Result<Study> {
        Study::prepare(spec, lethe::device::named(&self.device)?, Some(making))
    }

    /// Where it is computed.
    pub fn device(&self) -> Result<candle_core::Device> {
        lethe::device::named(&self.device)
    }

    /// The protocol alone.
    pub fn spec(&self) -> Result<ProtocolSpec> {
        lethe::protocol::load(&self.protocol, &self.overrides)
    }
}
