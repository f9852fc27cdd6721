//! The lazy greedy choice against the plain one, and its guarantee.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::{
    Balance, ClassId,
    policy::{Candidate, Policy, Selector},
};

/// A matrix of a_kr: one row of targets per candidate; candidate r has id r.
#[derive(Debug, Clone)]
struct Affinities(Vec<Vec<f64>>);

impl Coverage for Affinities {
    fn n_targets(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }

    fn log_affinities(&self, candidate: ExampleId, out: &mut [f64]) -> Result<()> {
        out.copy_from_slice(&self.0[candidate.0 as usize]);
        Ok(())
    }
}

fn ids(indices: &[usize]) -> Vec<ExampleId> {
    indices.iter().map(|&i| ExampleId(i as u64)).collect()
}

/// Candidates 0, 1, … in `n_classes` classes by turns.
fn candidates(n: usize, n_classes: usize) -> Vec<Candidate> {
    let candidate = |i: usize| Candidate {
        id: ExampleId(i as u64),
        class: ClassId((i % n_classes) as u32),
        priority: None,
    };
    (0..n).map(candidate).collect()
}

fn select(affinities: &dyn Coverage, candidates: &[Candidate], quota: usize) -> Vec<ExampleId> {
    let selector = Selector { policy: Policy::Greedy, balance: Balance::PerClass };
    let evidence = Evidence { coverage: Some(affinities), ..Evidence::default() };
    selector.select(candidates, quota, evidence, &mut || 0).unwrap()
}

/// The law as it is written, from the quantities of which a_kr is made.
fn gain_by_the_law(rises: &[f64], weights: &[Vec<f64>], kept: &[usize]) -> f64 {
    let kept_weight = |k: usize| kept.iter().map(|&r| weights[r][k]).sum::<f64>();
    rises.iter().enumerate().map(|(k, rise)| (1.0 + rise.exp() * kept_weight(k)).ln()).sum()
}

/// Greedy without laziness: every remaining candidate is measured at every choice.
fn plain_greedy(affinities: &Affinities, n_classes: usize, quota: usize) -> Vec<ExampleId> {
    let n = affinities.0.len();
    let mut left: Vec<usize> =
        (0..n_classes).map(|c| quota / n_classes + usize::from(c < quota % n_classes)).collect();
    let mut kept: Vec<usize> = Vec::new();
    while kept.len() < quota {
        let free = (0..n).filter(|i| !kept.contains(i) && left[i % n_classes] > 0);
        let with = |i: usize| kept.iter().copied().chain([i]).collect::<Vec<_>>();
        let gain = |i: usize| replay_gain(affinities, &ids(&with(i))).unwrap();
        let best = free.map(|i| (gain(i), i)).reduce(|a, b| if b.0 > a.0 { b } else { a });
        let (_, best) = best.unwrap();
        left[best % n_classes] -= 1;
        kept.push(best);
    }
    let mut kept = ids(&kept);
    kept.sort_unstable();
    kept
}

/// The best gain among all sets of `quota` that keep at most `per_class` of each class.
fn best_gain(affinities: &Affinities, n_classes: usize, quota: usize, per_class: usize) -> f64 {
    let n = affinities.0.len();
    let mut best = 0.0_f64;
    for set in 0_u32..1 << n {
        let members: Vec<usize> = (0..n).filter(|i| set >> i & 1 == 1).collect();
        let in_class = |c: usize| members.iter().filter(|&&i| i % n_classes == c).count();
        if members.len() == quota && (0..n_classes).all(|c| in_class(c) <= per_class) {
            best = best.max(replay_gain(affinities, &ids(&members)).unwrap());
        }
    }
    best
}

fn matrix(candidates: std::ops::Range<usize>) -> impl Strategy<Value = Affinities> {
    (1_usize..6).prop_flat_map(move |targets| {
        let row = prop::collection::vec(-8.0_f64..4.0, targets);
        prop::collection::vec(row, candidates.clone()).prop_map(Affinities)
    })
}

proptest! {
    #![proptest_config(crate::draws::tests::repeatable())]

    #[test]
    fn the_gain_is_the_law(
        parts in (1_usize..6, 1_usize..9).prop_flat_map(|(targets, candidates)| (
            prop::collection::vec(-3.0_f64..9.0, targets),
            prop::collection::vec(prop::collection::vec(1e-6_f64..1.0, targets), candidates),
        )),
    ) {
        let (rises, weights) = parts;
        let log = |row: &Vec<f64>| rises.iter().zip(row).map(|(rise, p)| rise + p.ln()).collect();
        let affinities = Affinities(weights.iter().map(log).collect());
        let kept: Vec<usize> = (0..weights.len()).collect();
        let gain = replay_gain(&affinities, &ids(&kept)).unwrap();
        prop_assert!((gain - gain_by_the_law(&rises, &weights, &kept)).abs() <= 1e-12 * (1.0 + gain));
    }

    #[test]
    fn the_gain_is_monotone_and_submodular(
        affinities in matrix(3..10),
        choice in any::<(u32, u32)>(),
    ) {
        // A is inside B, and r is in neither.
        let n = affinities.0.len() - 1;
        let members = |bits: u32| (0..n).filter(|i| bits >> i & 1 == 1).collect::<Vec<_>>();
        let (small, large) = (members(choice.0 & choice.1), members(choice.0));
        let gain = |set: &[usize]| replay_gain(&affinities, &ids(set)).unwrap();
        let added = |set: &[usize]| gain(&[set, &[n]].concat()) - gain(set);
        prop_assert!(added(&large) >= 0.0);
        prop_assert!(added(&small) >= added(&large) - 1e-12);
        prop_assert!(gain(&large) >= gain(&small) - 1e-12);
    }

    #[test]
    fn lazy_greedy_is_plain_greedy(
        affinities in matrix(4..16),
        n_classes in 1_usize..4,
        quota in 1_usize..5,
    ) {
        let candidates = candidates(affinities.0.len(), n_classes);
        // Quotas never exceed a class: 4 candidates or more in at most 3 classes.
        let quota = quota.min(affinities.0.len() / n_classes * n_classes);
        let lazy = select(&affinities, &candidates, quota);
        prop_assert_eq!(lazy, plain_greedy(&affinities, n_classes, quota));
    }

    #[test]
    fn greedy_reaches_its_guarantees(affinities in matrix(4..10), quota in 2_usize..5) {
        let n = affinities.0.len();
        let free = replay_gain(&affinities, &select(&affinities, &candidates(n, 1), quota)).unwrap();
        let best = best_gain(&affinities, 1, quota, quota);
        prop_assert!(free >= (1.0 - (-1.0_f64).exp()) * best, "{free} of {best}");
        prop_assert!(free <= best * (1.0 + 1e-12));
        let quota = quota / 2 * 2;
        let even = replay_gain(&affinities, &select(&affinities, &candidates(n, 2), quota)).unwrap();
        let best = best_gain(&affinities, 2, quota, quota / 2);
        prop_assert!(even >= 0.5 * best && even <= best * (1.0 + 1e-12), "{even} of {best}");
    }
}

#[test]
fn a_neighbour_of_the_chosen_adds_little() {
    // 0 and 1 cover the first target, 2 the second a little less: one of each is best.
    let affinities = Affinities(vec![vec![2.0, -9.0], vec![1.9, -9.0], vec![-9.0, 1.0]]);
    assert_eq!(select(&affinities, &candidates(3, 1), 2), ids(&[0, 2]));
}

#[test]
fn equal_gains_go_to_the_lower_id() {
    let affinities = Affinities(vec![vec![0.5]; 6]);
    assert_eq!(select(&affinities, &candidates(6, 1), 3), ids(&[0, 1, 2]));
    assert_eq!(select(&affinities, &candidates(6, 2), 4), ids(&[0, 1, 2, 3]));
}

#[test]
fn far_and_overwhelming_affinities_stay_finite() {
    let affinities = Affinities(vec![vec![f64::NEG_INFINITY], vec![5_000.0], vec![-5_000.0]]);
    assert_eq!(replay_gain(&affinities, &ids(&[0])).unwrap(), 0.0);
    assert_eq!(replay_gain(&affinities, &ids(&[0, 1, 2])).unwrap(), 5_000.0);
    assert_eq!(select(&affinities, &candidates(3, 1), 1), ids(&[1]));
}

#[test]
fn bad_affinities_name_the_candidate_and_the_target() {
    for bad in [f64::NAN, f64::INFINITY] {
        let affinities = Affinities(vec![vec![0.0, 0.0], vec![0.0, bad]]);
        let error = replay_gain(&affinities, &ids(&[0, 1])).unwrap_err().to_string();
        assert!(error.contains("example 1") && error.contains("target 1"), "{error}");
    }
    assert!(replay_gain(&Affinities(vec![]), &[]).is_err());
}

#[test]
fn laziness_saves_most_of_the_work() {
    struct Counted(Affinities, Cell<usize>);
    impl Coverage for Counted {
        fn n_targets(&self) -> usize {
            self.0.n_targets()
        }
        fn log_affinities(&self, candidate: ExampleId, out: &mut [f64]) -> Result<()> {
            self.1.set(self.1.get() + 1);
            self.0.log_affinities(candidate, out)
        }
    }
    // Points on a line, each covering its neighbourhood.
    let row = |i: i32| (0..200).map(|k| 3.0 - f64::from((i - k).pow(2)) / 8.0).collect();
    let counted = Counted(Affinities((0..200).map(row).collect()), Cell::new(0));
    assert_eq!(select(&counted, &candidates(200, 1), 20).len(), 20);
    // Plain greedy would measure about 200 * 20 = 4000 gains.
    assert!(counted.1.get() <= 1_200, "{}", counted.1.get());
}
