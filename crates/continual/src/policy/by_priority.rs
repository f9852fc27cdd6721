//! The two ends of a scale (`top-energy`, `bottom-energy`, `top-loss`, `nearest-neighbour`,
//! `interference`, `most-forgotten`).

use super::{Candidate, Evidence, Group, SelectionPolicy};
use crate::{ExampleId, draws::Draws, error::Result};

/// Keeps one end of each group's ranking; equal priorities go to the lower id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByPriority {
    /// The largest numbers.
    Highest,
    /// The smallest numbers.
    Lowest,
}

impl SelectionPolicy for ByPriority {
    fn select(
        &self,
        groups: &[Group],
        _evidence: Evidence<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let mut kept = Vec::new();
        for group in groups {
            let mut ranked = ranked(&group.members)?;
            if *self == Self::Highest {
                // Stable, so that ties stay in ascending order of id.
                ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            }
            kept.extend(ranked.iter().take(group.quota).map(|&(_, id)| id));
        }
        Ok(kept)
    }
}

/// (priority, id), ascending by priority and then by id.
pub(super) fn ranked(members: &[Candidate]) -> Result<Vec<(f64, ExampleId)>> {
    let pair = |member: &Candidate| Ok((member.rank()?, member.id));
    let mut ranked = members.iter().map(pair).collect::<Result<Vec<_>>>()?;
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    Ok(ranked)
}
