//! What was run and what was measured, and the statistics of forgetting.
//!
//! A run folder holds
//!
//! | file             | type                              | written by                     |
//! |------------------|-----------------------------------|--------------------------------|
//! | `run.json`       | [`RunManifest`]                   | replaced at once               |
//! | `examples.json`  | [`ExampleTable`]                  | replaced at once               |
//! | `ledger.jsonl`   | [`Ledger`] of [`Measurement`]s    | appended, one line at a time   |
//! | `training.jsonl` | [`TrainingLog`] of [`TrainingRecord`]s | appended, one line at a time |
//! | `ledger.parquet` | the ledger as one table           | [`write_parquet`], at the end  |
//!
//! ```
//! use lethe_ledger::{Ledger, Measurement, Quantity};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("ledger.jsonl");
//! let mut ledger = Ledger::open(&path)?;
//! ledger.append(&Measurement {
//!     run: "seed-1".into(),
//!     arm: "none".into(),
//!     learned_through: 2,
//!     step: 300,
//!     quantity: Quantity::ReconstructionError,
//!     level: Some(0.3),
//!     examples: vec![17, 4],
//!     values: vec![0.021, 0.034],
//! })?;
//! ledger.sync()?;
//! let checkpoint = ledger.offset();
//!
//! // After a kill: everything behind the checkpoint is dropped and measured again.
//! let ledger = Ledger::resume(&path, checkpoint)?;
//! assert_eq!(Ledger::read(&path)?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`statistics`] and [`forgetting`] define every number that a report may print.
//! This room knows no model, no image and no plot.

pub mod durable;
mod error;
mod examples;
pub mod forgetting;
mod journal;
mod line;
mod manifest;
mod measurement;
mod parquet;
mod quantity;
pub mod statistics;
mod training;

pub use error::{Error, Result};
pub use examples::{ExampleRow, ExampleTable, Split};
pub use journal::{Journal, Record};
pub use manifest::{
    ChosenTemperature, DataProvenance, FORMAT, InverseTemperatures, Repetition, RunManifest,
    SpriteLayout, digest,
};
pub use measurement::Measurement;
pub use parquet::{MANIFEST_KEY, write_parquet};
pub use quantity::{LevelMeaning, Orientation, Quantity};
pub use training::TrainingRecord;

/// The append-only ledger of measurements, `ledger.jsonl`.
pub type Ledger = Journal<Measurement>;

/// The append-only log of a training, `training.jsonl`.
pub type TrainingLog = Journal<TrainingRecord>;
