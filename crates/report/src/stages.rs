//! How far a run has come: one that is not finished is read as far as it goes.

use lethe_ledger::RunManifest;
use std::collections::BTreeSet;

/// The stages of a run that is not finished: the tasks of each arm of each repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stages {
    /// (run, arm, task), as in the ledger, of those whose boundary was measured. Task 1 belongs to the arm `task-1`.
    pub measured: BTreeSet<(String, String, u32)>,
    /// How many there will be in the end.
    pub planned: usize,
    /// How much of `ledger.jsonl` and of `training.jsonl` is committed, in bytes; what stands behind it is not read.
    pub committed: Option<[u64; 2]>,
    /// The images that are committed, as paths within the run folder; no other is shown.
    pub images: Option<BTreeSet<String>>,
}

impl Stages {
    /// The repetitions with the most measured stages, by their places in the manifest.
    pub(crate) fn furthest(&self, manifest: &RunManifest) -> Vec<usize> {
        let measured = |run: &str| self.measured.iter().filter(|(of, ..)| of == run).count();
        let counts: Vec<usize> = manifest.runs.iter().map(|run| measured(&run.run)).collect();
        let most = counts.iter().max();
        (0..counts.len()).filter(|&run| counts.get(run) == most).collect()
    }
}
