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

/// A line on standard output; a reader that went away is no failure.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// An error on standard error.
pub fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "error: {}", lethe::exit::in_words(error));
}

/// The protocol, and where it is computed.
#[derive(Args)]
pub struct Protocol {
    /// A built-in protocol (fashion, latent) or a protocol file
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
