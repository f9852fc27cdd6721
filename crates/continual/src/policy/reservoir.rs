//! A uniform sample of a stream (`random`, `class-balanced`).

use super::{Evidence, Group, SelectionPolicy};
use crate::{ExampleId, draws::Draws, error::Result};

/// Reservoir sampling: every subset of the quota's size is equally likely.
///
/// Source: Vitter 1985, "Random Sampling with a Reservoir", algorithm R; the stream is the group
/// in ascending order of id.
#[derive(Debug, Clone, Copy)]
pub struct Reservoir;

impl SelectionPolicy for Reservoir {
    fn select(
        &self,
        groups: &[Group],
        _evidence: Evidence<'_>,
        draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let mut kept = Vec::new();
        for group in groups {
            let stream: Vec<ExampleId> = group.members.iter().map(|member| member.id).collect();
            kept.extend(reservoir(&stream, group.quota, draws));
        }
        Ok(kept)
    }
}

/// `size` items of `stream` (all if there are fewer), every subset equally likely.
pub(super) fn reservoir<T: Copy>(stream: &[T], size: usize, draws: &mut dyn Draws) -> Vec<T> {
    let mut kept = stream[..size.min(stream.len())].to_vec();
    for (seen, &item) in stream.iter().enumerate().skip(size) {
        // With the item itself `seen` + 1 have passed; it stays with probability size/(seen + 1).
        let slot = draws.uniform_up_to(seen as u64) as usize;
        if let Some(place) = kept.get_mut(slot) {
            *place = item;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::draws::tests::{chi_square, split_mix};

    type Sampler = fn(&[u8], usize, &mut dyn Draws) -> Vec<u8>;

    /// Algorithm R with the classic mistake of not counting the item that arrives.
    fn off_by_one(stream: &[u8], size: usize, draws: &mut dyn Draws) -> Vec<u8> {
        let mut kept = stream[..size].to_vec();
        for seen in size..stream.len() {
            let slot = draws.uniform_up_to(seen as u64 - 1) as usize;
            if slot < size {
                kept[slot] = stream[seen];
            }
        }
        kept
    }

    /// How far the 20 possible subsets of 3 out of 6 are from equally likely.
    fn unevenness(sampler: Sampler) -> f64 {
        let mut counts = BTreeMap::<Vec<u8>, u64>::new();
        for seed in 0..40_000 {
            let mut kept = sampler(b"abcdef", 3, &mut split_mix(seed));
            kept.sort_unstable();
            *counts.entry(kept).or_default() += 1;
        }
        let mut counts: Vec<u64> = counts.into_values().collect();
        counts.resize(20, 0);
        chi_square(&counts)
    }

    #[test]
    fn every_subset_is_equally_likely_and_the_test_sees_a_bias() {
        // 19 degrees of freedom: the 1e-6 quantile is 63.7.
        assert!(unevenness(reservoir) <= 63.7, "{}", unevenness(reservoir));
        assert!(unevenness(off_by_one) > 1_000.0, "{}", unevenness(off_by_one));
    }

    #[test]
    fn a_short_stream_is_kept_whole() {
        assert_eq!(reservoir(b"ab", 3, &mut split_mix(1)), b"ab");
        assert_eq!(reservoir(b"ab", 0, &mut split_mix(1)), b"");
    }
}
