//! A protocol: everything a run depends on, in one TOML file.
//!
//! What the file says ([`ProtocolSpec`]) is kept with the run as it was resolved: defaults filled in, overrides applied.
//! An unknown key is an error that names the nearest known one.

mod spec;
mod text;

pub use spec::{
    DataSpec, DiffusionSpec, LatentSpec, MakeSpec, ModelSpec, Posterior, ProbeSpec, ProtocolSpec,
};
pub use text::{built_in, load, of_text, resolved_text};
