//! Equally many from every part of the scale (`stratified-energy`).

use super::{
    Evidence, Group, SelectionPolicy, by_priority::ranked, group::fair_shares, reservoir::reservoir,
};
use crate::{
    ExampleId,
    draws::{Draws, shuffled_prefix},
    error::Result,
};

/// The strata are deciles.
const N_STRATA: usize = 10;

/// Equally many from each decile of the group's ranking, at random inside.
///
/// A quota that ten does not divide leaves a remainder of single places; they go to deciles drawn
/// at random, so that no end of the scale is favoured.
#[derive(Debug, Clone, Copy)]
pub struct Stratified;

impl SelectionPolicy for Stratified {
    fn select(
        &self,
        groups: &[Group],
        _evidence: Evidence<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let mut kept = Vec::new();
        for group in groups {
            let ranked: Vec<ExampleId> =
                ranked(&group.members)?.into_iter().map(|(_, id)| id).collect();
            let strata = shuffled_prefix(&strata(&ranked), N_STRATA, draws);
            let sizes = strata.iter().map(|stratum| stratum.len()).collect::<Vec<_>>();
            for (stratum, share) in strata.iter().zip(fair_shares(&sizes, group.quota)) {
                kept.extend(reservoir(stratum, share, draws));
            }
        }
        Ok(kept)
    }
}

/// Ten runs of a ranking whose lengths differ by at most one.
fn strata<T>(ranked: &[T]) -> Vec<&[T]> {
    let edge = |i| ranked.len() * i / N_STRATA;
    (0..N_STRATA).map(|i| &ranked[edge(i)..edge(i + 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strata_are_a_partition_into_equal_runs() {
        for n in 0..45 {
            let ranked: Vec<usize> = (0..n).collect();
            let strata = strata(&ranked);
            assert_eq!(strata.concat(), ranked);
            assert!(strata.iter().all(|s| s.len() == n / 10 || s.len() == n.div_ceil(10)));
        }
    }
}
