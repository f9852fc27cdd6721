//! What greedy selection asks, answered from a kernel's values: how much each candidate does for each target.

use lethe_continual::{ContinualError, Coverage, ExampleId};
use std::collections::BTreeMap;

/// log (kernel(x_k, r) / Z_new(x_k)).
pub struct KernelCoverage {
    /// log kernel, [candidates][targets].
    affinities: Vec<Vec<f32>>,
    /// log Z_new of each target.
    log_partition: Vec<f64>,
    positions: BTreeMap<ExampleId, usize>,
}

impl KernelCoverage {
    /// `affinities`: log kernel(x_k, r), one row for each of `candidates`, one number for each target.
    pub fn new(affinities: Vec<Vec<f32>>, log_partition: Vec<f64>, candidates: &[u64]) -> Self {
        let positions = candidates.iter().map(|&id| ExampleId(id)).zip(0..).collect();
        Self { affinities, log_partition, positions }
    }
}

impl Coverage for KernelCoverage {
    fn n_targets(&self) -> usize {
        self.log_partition.len()
    }

    fn log_affinities(&self, candidate: ExampleId, out: &mut [f64]) -> Result<(), ContinualError> {
        // An id that is not known has no affinity to anything.
        let Some(&position) = self.positions.get(&candidate) else {
            out.fill(f64::NEG_INFINITY);
            return Ok(());
        };
        let rows = self.affinities[position].iter().zip(&self.log_partition);
        out.iter_mut()
            .zip(rows)
            .for_each(|(out, (affinity, log_z))| *out = f64::from(*affinity) - log_z);
        Ok(())
    }
}
