//! Selection policies: which examples of a finished task stay in the replay buffer.
//!
//! A policy sees ids, classes and numbers; what the numbers mean is the caller's knowledge
//! ([`Policy::needs`] says which to bring).
//! Candidates are sorted by id before anything else and ties are broken by id, so that a selection
//! never depends on the order in which candidates arrive.

mod by_priority;
mod energy_weighted;
mod feature;
mod gradient_diversity;
mod greedy;
mod group;
mod herding;
mod k_center;
mod named;
mod reservoir;
mod stratified;

pub use by_priority::ByPriority;
pub use energy_weighted::EnergyWeighted;
pub use feature::Features;
pub use gradient_diversity::GradientDiversity;
pub use greedy::{Coverage, Greedy, replay_gain};
pub use group::{Balance, Group};
pub use herding::Herding;
pub use k_center::KCenter;
pub use named::{Needs, Policy};
pub use reservoir::Reservoir;
pub use stratified::Stratified;

use crate::{ClassId, ContinualError, ExampleId, draws::Draws, error::Result};

/// An example that may stay in the buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The example.
    pub id: ExampleId,
    /// Its class.
    pub class: ClassId,
    /// The number that a ranking policy ranks by: an energy, a loss, a distance.
    pub priority: Option<f64>,
}

/// What some policies need beyond a number per candidate.
#[derive(Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// Feature vectors, for [`Herding`] and [`KCenter`]; gradients, for [`GradientDiversity`].
    pub features: Option<&'a dyn Features>,
    /// Affinities between candidates and targets, for [`Greedy`].
    pub coverage: Option<&'a dyn Coverage>,
}

/// A rule that chooses `quota` members of every group.
///
/// The groups come from [`Balance::divide`]: members sorted by id, quotas of at most the group's
/// size.
/// A rule returns exactly as many ids as the quotas add up to, in any order.
pub trait SelectionPolicy {
    /// Chooses the ids to keep.
    ///
    /// # Errors
    /// Missing or non-finite evidence, naming the example.
    fn select(
        &self,
        groups: &[Group],
        evidence: Evidence<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>>;
}

/// A named policy with its balance: what an arm of the protocol uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selector {
    /// The policy.
    pub policy: Policy,
    /// Whether each class gets an equal quota; see [`Policy::balance`] for the exceptions.
    pub balance: Balance,
}

impl Selector {
    /// Chooses `quota` of the candidates (all of them if there are fewer); ids ascending.
    ///
    /// # Errors
    /// A candidate listed twice, or evidence that is missing or not finite.
    pub fn select(
        &self,
        candidates: &[Candidate],
        quota: usize,
        evidence: Evidence<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let groups = self.policy.balance(self.balance).divide(candidates, quota)?;
        let mut kept = self.policy.rule().select(&groups, evidence, draws)?;
        kept.sort_unstable();
        Ok(kept)
    }
}

impl Candidate {
    /// The number to rank by.
    ///
    /// # Errors
    /// [`ContinualError::Priority`] if it is missing, a NaN or infinite.
    pub fn rank(&self) -> Result<f64> {
        match self.priority {
            // Adding zero turns -0 into +0, so that the two tie.
            Some(value) if value.is_finite() => Ok(value + 0.0),
            Some(value) => Err(self.unranked(value.to_string())),
            None => Err(self.unranked("none".to_owned())),
        }
    }

    fn unranked(&self, got: String) -> ContinualError {
        ContinualError::Priority { example: self.id, got }
    }
}

#[cfg(test)]
mod tests;
