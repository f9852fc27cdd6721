//! Batches: how many new and how many replayed examples, and which.
//!
//! The ids of a batch are a pure function of the sources and of (seed, task, step).
//! Each source is passed through in a fresh random order per epoch, without replacement; the
//! position in that order follows from the step alone, so that resuming needs no state.
//! No arm enters: all arms with the same new examples see the same new batches.

use crate::{
    ContinualError, ExampleId, Sources,
    draws::{DrawKey, DrawStream, Draws, shuffled_prefix},
    error::{Result, field},
};

/// Larger batches than this are a slip of the pen.
const MAX_BATCH: u64 = 1 << 20;

/// How a batch divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixture {
    new_per_batch: usize,
    replay_per_batch: usize,
}

/// The ids of one optimizer step, each list in the order drawn.
///
/// An id can stand twice in a list only where an epoch ends and the next begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// From the task being learned.
    pub new: Vec<ExampleId>,
    /// From the buffer; empty if there is nothing to replay.
    pub replayed: Vec<ExampleId>,
}

impl Mixture {
    /// So many new examples in every batch, and beside them so many replayed ones.
    ///
    /// # Errors
    /// No new example, or more than 2^20 examples in all.
    pub fn new(new_per_batch: u64, replay_per_batch: u64) -> Result<Self> {
        let total = new_per_batch.saturating_add(replay_per_batch);
        if new_per_batch == 0 || total > MAX_BATCH {
            let expected = format!("at least one new example and at most {MAX_BATCH} in all");
            let got = format!("{new_per_batch} new and {replay_per_batch} replayed");
            return Err(field("batch", expected, got));
        }
        let (new_per_batch, replay_per_batch) = (new_per_batch as usize, replay_per_batch as usize);
        Ok(Self { new_per_batch, replay_per_batch })
    }

    /// New examples in a batch.
    pub fn new_per_batch(&self) -> usize {
        self.new_per_batch
    }

    /// Replayed examples in a batch of an arm that replays.
    pub fn replay_per_batch(&self) -> usize {
        self.replay_per_batch
    }

    /// The batch of optimizer step `step` (the first is 0) of the task of `sources`.
    ///
    /// `draws` gives the words of a [`DrawKey`].
    /// Takes time linear in the size of the sources.
    ///
    /// # Errors
    /// [`ContinualError::NothingToDraw`] if there is no new example.
    pub fn batch<D: Draws>(
        &self,
        sources: &Sources,
        step: u64,
        draws: impl Fn(DrawKey) -> D,
    ) -> Result<Batch> {
        let task = sources.task;
        if sources.new.is_empty() {
            return Err(ContinualError::NothingToDraw { task });
        }
        let words = |stream| {
            let draws = &draws;
            move |index| draws(DrawKey { stream, task, index })
        };
        let new = draw(&sources.new, self.new_per_batch, step, words(DrawStream::NewBatches));
        let replay = words(DrawStream::ReplayBatches);
        let replayed = draw(&sources.replayed, self.replay_per_batch, step, replay);
        Ok(Batch { new, replayed })
    }
}

impl Batch {
    /// All ids, the new ones first.
    pub fn ids(&self) -> impl Iterator<Item = ExampleId> + '_ {
        self.new.iter().chain(&self.replayed).copied()
    }
}

/// The places `step` · `size` to `step` · `size` + `size` - 1 of an endless sequence of epochs.
fn draw<D: Draws>(
    ids: &[ExampleId],
    size: usize,
    step: u64,
    words: impl Fn(u64) -> D,
) -> Vec<ExampleId> {
    let mut batch = Vec::new();
    // 128 bits hold every position; an epoch beyond 64 bits wraps, which only renames its words.
    let mut position = u128::from(step) * size as u128;
    let n = ids.len() as u128;
    while n > 0 && batch.len() < size {
        let (epoch, offset) = ((position / n) as u64, (position % n) as usize);
        let taken = (ids.len() - offset).min(size - batch.len());
        let order = shuffled_prefix(ids, offset + taken, &mut words(epoch));
        batch.extend(&order[offset..]);
        position += taken as u128;
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::draws::tests::{chi_square, keyed};

    fn sources(task: u32, n_new: u64, n_replayed: u64) -> Sources {
        let new = (0..n_new).map(ExampleId).collect();
        let replayed = (0..n_replayed).map(|i| ExampleId(1_000 + i)).collect();
        Sources { task, new, replayed }
    }

    fn batches(mixture: Mixture, sources: &Sources, n_steps: u64) -> Vec<Batch> {
        (0..n_steps).map(|step| mixture.batch(sources, step, keyed(5)).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(crate::draws::tests::repeatable())]

        #[test]
        fn every_epoch_meets_every_example_once(
            n_new in 1_u64..40, n_replayed in 1_u64..20, new in 1_u64..50, replay in 1_u64..30,
        ) {
            let (sources, mixture) = (sources(2, n_new, n_replayed), Mixture::new(new, replay)?);
            let batches = batches(mixture, &sources, 30);
            prop_assert!(batches.iter().all(|b| b.new.len() as u64 == new));
            prop_assert!(batches.iter().all(|b| b.replayed.len() as u64 == replay));
            let drawn = |list: fn(&Batch) -> &Vec<ExampleId>| {
                batches.iter().flat_map(list).copied().collect::<Vec<_>>()
            };
            for (drawn, ids) in [
                (drawn(|b| &b.new), &sources.new),
                (drawn(|b| &b.replayed), &sources.replayed),
            ] {
                for epoch in drawn.chunks_exact(ids.len()) {
                    let mut epoch = epoch.to_vec();
                    epoch.sort_unstable();
                    prop_assert_eq!(&epoch, ids);
                }
            }
        }

        #[test]
        fn new_batches_do_not_depend_on_what_is_replayed(
            n_replayed in 0_u64..20, replay in 0_u64..30, step in any::<u64>(),
        ) {
            let alone = Mixture::new(8, 0)?.batch(&sources(2, 21, 0), step, keyed(5))?;
            let mixture = Mixture::new(8, replay)?;
            let beside = mixture.batch(&sources(2, 21, n_replayed), step, keyed(5))?;
            prop_assert_eq!(alone.new, beside.new);
            prop_assert!(alone.replayed.is_empty());
        }
    }

    #[test]
    fn epochs_tasks_seeds_and_streams_differ() {
        let mixture = Mixture::new(32, 32).unwrap();
        let mut both = sources(2, 32, 0);
        both.replayed = both.new.clone();
        let batch =
            |sources: &Sources, step, seed| mixture.batch(sources, step, keyed(seed)).unwrap();
        let first = batch(&both, 0, 5);
        assert_eq!(first, batch(&both, 0, 5));
        assert_ne!(first.new, first.replayed);
        assert_ne!(first.new, batch(&both, 1, 5).new);
        assert_ne!(first.new, batch(&both, 0, 6).new);
        assert_ne!(first.new, batch(&Sources { task: 3, ..both.clone() }, 0, 5).new);
    }

    #[test]
    fn an_epoch_has_every_order_with_equal_chance() {
        let (mixture, sources) = (Mixture::new(2, 0).unwrap(), sources(1, 4, 0));
        let mut pairs = BTreeMap::<Vec<ExampleId>, u64>::new();
        for seed in 0..12_000 {
            // The second half of an epoch: what remains after two were drawn.
            let batch = mixture.batch(&sources, 1, keyed(seed)).unwrap();
            *pairs.entry(batch.new).or_default() += 1;
        }
        let counts: Vec<u64> = pairs.into_values().collect();
        assert_eq!(counts.len(), 12);
        // 11 degrees of freedom: the 1e-6 quantile is 48.9.
        assert!(chi_square(&counts) <= 48.9, "{counts:?}");
    }

    #[test]
    fn impossible_batches_are_refused() {
        for (new, replay) in [(0, 4), (1 << 20, 1), (u64::MAX, u64::MAX)] {
            let error = Mixture::new(new, replay).unwrap_err().to_string();
            assert!(error.contains(&new.to_string()), "{error}");
        }
        let nothing = Mixture::new(1, 0).unwrap().batch(&sources(3, 0, 5), 0, keyed(1));
        assert_eq!(nothing, Err(ContinualError::NothingToDraw { task: 3 }));
    }

    #[test]
    fn the_last_step_of_all_can_be_drawn() {
        let mixture = Mixture::new(3, 3).unwrap();
        assert_eq!(mixture.batch(&sources(1, 2, 1), u64::MAX, keyed(1)).unwrap().ids().count(), 6);
    }
}
