//! The set with the largest replay gain (`greedy`).
//!
//! Law: keeping the set R lowers the energy of target x_k after the task change by
//! `G_R(x_k) = (1/b) log(1 + e^{b dE_k} sum_{r in R} p_r(x_k))`, and F(R) = sum_k G_R(x_k) is monotone
//! and submodular, so that greedy choice reaches at least 1 - 1/e of the best set (Nemhauser,
//! Wolsey, Fisher 1978), and at least 1/2 under a quota per class (Fisher, Nemhauser, Wolsey 1978).
//! Cross terms make it differ from ranking by energy: two neighbours cover each other.
//!
//! | symbol | meaning                                                                    |
//! |--------|----------------------------------------------------------------------------|
//! | b      | inverse temperature                                                        |
//! | dE_k   | rise of the energy of target k by the task change, `E_new(x_k) - E_old(x_k)` |
//! | p_r    | softmax weight of stored pattern r at the target before the change         |
//! | a_kr   | `b dE_k + log p_r(x_k)` = log of kernel(x_k, r) / Z_new(x_k), [`Coverage`] |
//! | u_k    | `b G_R(x_k)` = log(1 + sum of e^{a_kr} over the chosen r), in nats         |

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{Candidate, Evidence, Group, SelectionPolicy};
use crate::{ContinualError, ExampleId, draws::Draws, error::Result};

/// What the candidates do for the targets, given one candidate at a time.
pub trait Coverage {
    /// How many targets there are (the old examples that replay should protect).
    fn n_targets(&self) -> usize;

    /// Writes a_kr of candidate r for every target k; minus infinity means no effect at all.
    ///
    /// `out`: `[targets]`, nats.
    /// Called more than once per candidate, and must then write the same numbers.
    ///
    /// # Errors
    /// The candidate's affinities are not known; [`ContinualError::Feature`] fits.
    fn log_affinities(&self, candidate: ExampleId, out: &mut [f64]) -> Result<()>;
}

/// Lazy greedy maximization of the replay gain, under the quota of every group at once.
///
/// A gain found earlier bounds today's from above (submodularity), so that only the candidate on
/// top of the heap is measured again (Minoux 1978).
/// Equal gains go to the lower id.
#[derive(Debug, Clone, Copy)]
pub struct Greedy;

/// b F(R): the summed replay gain of a set over all targets, in nats (divide by b for an energy).
///
/// # Errors
/// No targets; an affinity that is unknown, a NaN or plus infinity.
pub fn replay_gain(coverage: &dyn Coverage, kept: &[ExampleId]) -> Result<f64> {
    let mut covered = Covered::new(coverage)?;
    for &id in kept {
        covered.add(id)?;
    }
    Ok(covered.u.iter().sum())
}

impl SelectionPolicy for Greedy {
    fn select(
        &self,
        groups: &[Group],
        evidence: Evidence<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let mut covered = Covered::new(evidence.coverage.ok_or_else(no_coverage)?)?;
        let mut left: Vec<usize> = groups.iter().map(|group| group.quota).collect();
        let mut heap = first_bounds(groups, &mut covered)?;
        let mut kept = Vec::with_capacity(left.iter().sum());
        while let Some(top) = heap.pop() {
            if left[top.group] == 0 {
                continue;
            }
            if top.at < kept.len() {
                heap.push(Bound { gain: covered.gain(top.id)?, at: kept.len(), ..top });
                continue;
            }
            covered.add(top.id)?;
            left[top.group] -= 1;
            kept.push(top.id);
        }
        Ok(kept)
    }
}

fn no_coverage() -> ContinualError {
    let needed = "affinities to one target or more";
    ContinualError::NoEvidence { policy: "greedy", needed }
}

/// An upper bound on a candidate's gain: its gain when `at` candidates were chosen.
struct Bound {
    gain: f64,
    id: ExampleId,
    group: usize,
    at: usize,
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> Ordering {
        self.gain.total_cmp(&other.gain).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Bound {}

/// Every candidate with the gain that it would bring alone.
fn first_bounds(groups: &[Group], covered: &mut Covered<'_>) -> Result<BinaryHeap<Bound>> {
    let mut heap = BinaryHeap::new();
    for (group, members) in groups.iter().map(|group| &group.members).enumerate() {
        for &Candidate { id, .. } in members {
            heap.push(Bound { gain: covered.gain(id)?, id, group, at: 0 });
        }
    }
    Ok(heap)
}

/// The targets as the chosen set covers them.
struct Covered<'a> {
    coverage: &'a dyn Coverage,
    u: Vec<f64>,
    a: Vec<f64>,
}

impl<'a> Covered<'a> {
    fn new(coverage: &'a dyn Coverage) -> Result<Self> {
        let n = coverage.n_targets();
        if n == 0 {
            return Err(no_coverage());
        }
        Ok(Self { coverage, u: vec![0.0; n], a: vec![0.0; n] })
    }

    /// By how much b F grows with `id`: the sum over targets of log(1 + e^{a - u}).
    fn gain(&mut self, id: ExampleId) -> Result<f64> {
        self.load(id)?;
        Ok(self.a.iter().zip(&self.u).map(|(a, u)| softplus(a - u)).sum())
    }

    fn add(&mut self, id: ExampleId) -> Result<()> {
        self.load(id)?;
        self.u.iter_mut().zip(&self.a).for_each(|(u, a)| *u += softplus(a - *u));
        Ok(())
    }

    fn load(&mut self, id: ExampleId) -> Result<()> {
        // Whatever the caller leaves unwritten is found.
        self.a.fill(f64::NAN);
        self.coverage.log_affinities(id, &mut self.a)?;
        match self.a.iter().position(|&a| a.is_nan() || a == f64::INFINITY) {
            Some(target) => {
                Err(ContinualError::Affinity { example: id, target, value: self.a[target] })
            }
            None => Ok(()),
        }
    }
}

/// log(1 + e^x) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests;
