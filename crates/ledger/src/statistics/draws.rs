//! Counter-based random integers: draw `d` of seed `s` is the same on every machine and thread.
//!
//! Law: SplitMix64 (Steele, Lea and Flood 2014) started at a mix of seed and draw.
//! Bounded integers by multiplication with rejection (Lemire 2019), hence exactly uniform.

/// Increment of SplitMix64: the odd integer nearest to 2^64 over the golden ratio.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The random integers of one draw.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    state: u64,
}

impl Draws {
    /// The stream of draw number `draw`.
    pub(super) fn new(seed: u64, draw: u64) -> Self {
        Self { state: mix(seed).wrapping_add(mix(draw.wrapping_add(GAMMA))) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// A uniform integer below `bound`; 0 if the bound is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.next()) * u128::from(bound);
            let (high, low) = ((product >> 64) as u64, product as u64);
            // `2^64 mod bound` products are one too many for some integers: draw again.
            if low >= bound || low >= bound.wrapping_neg() % bound.max(1) {
                return high;
            }
        }
    }

    /// How often each of `counts.len()` items is drawn in as many draws with replacement.
    pub(super) fn resample(&mut self, counts: &mut [u32]) {
        counts.fill(0);
        let n = counts.len() as u64;
        for _ in 0..n {
            counts[self.below(n) as usize] += 1;
        }
    }

    /// As [`Self::resample`], but each of the consecutive groups of these sizes by itself.
    pub(super) fn resample_within(&mut self, sizes: &[usize], counts: &mut [u32]) {
        let mut rest = counts;
        for &size in sizes {
            let Some((group, tail)) = rest.split_at_mut_checked(size) else { return };
            self.resample(group);
            rest = tail;
        }
    }

    /// Shuffles the items (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// The finalizer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The published first outputs for the state 1234567.
        let mut draws = Draws { state: 1_234_567 };
        let outputs = [draws.next(), draws.next(), draws.next()];
        assert_eq!(
            outputs,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn resamples_are_multinomial() {
        // Mean 1 and variance (1 - 1/n) of each count.
        let (n, rounds) = (50, 4000);
        let (mut sum, mut squares) = (vec![0.0; n], 0.0);
        for draw in 0..rounds {
            let mut counts = vec![0; n];
            Draws::new(7, draw).resample(&mut counts);
            assert_eq!(counts.iter().sum::<u32>(), n as u32);
            for (sum, &count) in sum.iter_mut().zip(&counts) {
                *sum += f64::from(count);
                squares += (f64::from(count) - 1.0).powi(2);
            }
        }
        let chi: f64 = sum.iter().map(|sum| (sum - rounds as f64).powi(2) / rounds as f64).sum();
        assert!((20.0..=90.0).contains(&chi), "chi-square {chi} of {} degrees", n - 1);
        let variance = squares / (n as f64 * rounds as f64);
        assert!((variance - 0.98).abs() <= 0.02, "variance {variance}");
    }

    #[test]
    fn a_resample_within_groups_keeps_their_sizes() {
        let mut has_emptied_an_item = false;
        for draw in 0..100 {
            let mut counts = vec![9; 6];
            Draws::new(1, draw).resample_within(&[3, 1, 2], &mut counts);
            let totals =
                [&counts[..3], &counts[3..4], &counts[4..]].map(|group| group.iter().sum::<u32>());
            assert_eq!(totals, [3, 1, 2]);
            has_emptied_an_item |= counts[0] == 0;
        }
        assert!(has_emptied_an_item);
    }

    #[test]
    fn every_order_of_three_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for draw in 0..6000 {
            let mut items = [0, 1, 2];
            Draws::new(3, draw).shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (880..=1120).contains(count)), "{counts:?}");
    }

    #[test]
    fn no_bound_hangs_or_panics() {
        let mut draws = Draws::new(0, 0);
        assert_eq!((draws.below(0), draws.below(1)), (0, 0));
        assert!(draws.below(u64::MAX) < u64::MAX);
    }
}
