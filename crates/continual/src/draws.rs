//! Randomness as an argument: uniform words in, unbiased choices out.
//!
//! The room owns no generator.
//! The caller turns a [`DrawKey`] and its seed into words (a counter-based generator does it without
//! state), so that every choice is a pure function of (seed, stream, task, index).

/// A sequence of independent, uniform 64-bit words; any `FnMut() -> u64` is one.
pub trait Draws {
    /// The next word.
    fn uniform_u64(&mut self) -> u64;

    /// A uniform integer in `0..=last`, without bias.
    ///
    /// Source: Lemire 2019, "Fast Random Integer Generation in an Interval", algorithm 5: the high
    /// half of a 128-bit product, redrawn where the low half falls into the incomplete interval.
    fn uniform_up_to(&mut self, last: u64) -> u64 {
        let Some(n) = last.checked_add(1) else {
            return self.uniform_u64();
        };
        // 2^64 mod n: so many of the 2^64 words have no equal share and are drawn again.
        let excess = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.uniform_u64()) * u128::from(n);
            if product as u64 >= excess {
                return (product >> 64) as u64;
            }
        }
    }

    /// A uniform number strictly between 0 and 1, of 2^52 equidistant ones; its logarithms are finite.
    fn uniform_open(&mut self) -> f64 {
        // One bit less than a double holds: with 53 the last half would round up to 1.
        let halves = (self.uniform_u64() >> 12) as f64 + 0.5;
        halves / (1_u64 << 52) as f64
    }
}

impl<F: FnMut() -> u64 + ?Sized> Draws for F {
    fn uniform_u64(&mut self) -> u64 {
        self()
    }
}

/// Which decision a sequence of words is for; two streams never share words.
///
/// Names and numbers belong to the results: another name or number means other batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrawStream {
    /// The order of the current task's examples; `index` is the epoch.
    NewBatches = 1,
    /// The order of the replayed examples; `index` is the pass over the buffer.
    ReplayBatches = 2,
    /// The choice of what stays in the buffer; `index` is the task whose examples are chosen.
    Selection = 3,
}

impl DrawStream {
    /// The name to derive the sequence from, for generators whose streams have names.
    pub fn name(self) -> &'static str {
        match self {
            Self::NewBatches => "new-batches",
            Self::ReplayBatches => "replay-batches",
            Self::Selection => "selection",
        }
    }
}

/// The name of one sequence of words under the run's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrawKey {
    /// The decision.
    pub stream: DrawStream,
    /// The task being learned (batches) or just finished (selection); the first is 1.
    pub task: u32,
    /// The epoch, or what else the stream counts.
    pub index: u64,
}

/// The first `count` items of a uniform random order of `items` (Fisher-Yates, from the front).
///
/// A shorter prefix from the same words is a prefix of a longer one.
pub(crate) fn shuffled_prefix<T: Copy>(items: &[T], count: usize, draws: &mut dyn Draws) -> Vec<T> {
    let mut order = items.to_vec();
    let count = count.min(order.len());
    for i in 0..count {
        let rest = (order.len() - 1 - i) as u64;
        order.swap(i, i + draws.uniform_up_to(rest) as usize);
    }
    order.truncate(count);
    order
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::test_runner::{Config as ProptestConfig, RngSeed};

    use super::*;

    /// SplitMix64 (Steele, Lea, Flood 2014): small, well mixed, for tests only.
    pub(crate) fn split_mix(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    /// A generator per key, as a caller makes one from its seed.
    pub(crate) fn keyed(seed: u64) -> impl Fn(DrawKey) -> Box<dyn FnMut() -> u64> {
        move |key| {
            let mut state = seed;
            for word in [key.stream as u64, u64::from(key.task), key.index] {
                state = split_mix(state ^ word.wrapping_mul(0xd134_2543_de82_ef95))();
            }
            Box::new(split_mix(state))
        }
    }

    /// Property tests repeat themselves: a fixed seed unless `PROPTEST_RNG_SEED` gives another.
    pub(crate) fn repeatable() -> ProptestConfig {
        let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        if config.rng_seed == RngSeed::Random {
            config.rng_seed = RngSeed::Fixed(20_260_527);
        }
        config
    }

    /// Pearson's statistic against equal expected counts.
    pub(crate) fn chi_square(counts: &[u64]) -> f64 {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        counts.iter().map(|&c| (c as f64 - expected).powi(2) / expected).sum()
    }

    #[test]
    fn split_mix_gives_its_published_words() {
        let mut words = split_mix(1_234_567);
        assert_eq!(words(), 6_457_827_717_110_365_317);
        assert_eq!(words(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn words_without_an_equal_share_are_drawn_again() {
        // 2^64 = 1 mod 3: exactly one word, 0, has no partner and must be refused.
        let mut words = [0_u64, u64::MAX].into_iter();
        let mut draws = || words.next().expect("two words are enough");
        assert_eq!(draws.uniform_up_to(2), 2);
        assert_eq!(words.next(), None);
    }

    #[test]
    fn the_ends_of_the_range_are_reached() {
        let mut zero = || 0;
        assert_eq!(zero.uniform_up_to(0), 0);
        let mut top = || u64::MAX;
        assert_eq!(top.uniform_up_to(0), 0);
        assert_eq!(top.uniform_up_to(9), 9);
        assert_eq!(top.uniform_up_to(u64::MAX), u64::MAX);
    }

    #[test]
    fn open_uniforms_stay_inside_and_are_even() {
        let (mut zero, mut top) = (|| 0, || u64::MAX);
        assert_eq!(zero.uniform_open(), 0.5_f64.powi(53));
        assert_eq!(top.uniform_open(), 1.0 - 0.5_f64.powi(53));
        let (mut draws, mut counts) = (split_mix(7), [0; 10]);
        for _ in 0..30_000 {
            counts[(draws.uniform_open() * 10.0) as usize] += 1;
        }
        // 9 degrees of freedom: the 1e-6 quantile is 44.8.
        assert!(chi_square(&counts) <= 44.8, "{counts:?}");
    }

    #[test]
    fn large_ranges_are_unbiased() {
        // Of 3 * 2^62 values, multiply-shift without rejection hits those = 0 mod 3 twice as often.
        let last = 3 * (1_u64 << 62) - 1;
        let mut draws = split_mix(7);
        let mut counts = [0; 3];
        for _ in 0..30_000 {
            counts[(draws.uniform_up_to(last) % 3) as usize] += 1;
        }
        // The 1e-6 quantile of chi-square with 2 degrees of freedom is 27.6; the bias gives 7500.
        assert!(chi_square(&counts) <= 27.6, "{counts:?}");
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::<Vec<u8>, u64>::new();
        for seed in 0..24_000 {
            *counts.entry(shuffled_prefix(b"abcd", 4, &mut split_mix(seed))).or_default() += 1;
        }
        assert_eq!(counts.len(), 24);
        let counts: Vec<u64> = counts.into_values().collect();
        // 23 degrees of freedom: the 1e-6 quantile is 70.6.
        assert!(chi_square(&counts) <= 70.6, "{counts:?}");
    }

    #[test]
    fn a_prefix_is_the_beginning_of_the_whole_order() {
        let items: Vec<u32> = (0..50).collect();
        let whole = shuffled_prefix(&items, 50, &mut split_mix(3));
        for count in 0..=50 {
            assert_eq!(shuffled_prefix(&items, count, &mut split_mix(3)), whole[..count]);
        }
        assert_eq!(shuffled_prefix(&items, 99, &mut split_mix(3)), whole);
    }
}
