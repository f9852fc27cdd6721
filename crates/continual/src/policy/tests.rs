//! Laws that every policy keeps, and the meaning of each ranking.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::draws::tests::split_mix;

/// Candidates in four uneven classes, with few distinct priorities so that ties are common.
fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::btree_map(any::<u64>(), (0_u32..4, -5_i32..5), 1..60).prop_map(|map| {
        let candidate = |(id, (class, priority))| Candidate {
            id: ExampleId(id),
            class: ClassId(class),
            priority: Some(f64::from(priority) / 2.0),
        };
        map.into_iter().map(candidate).collect()
    })
}

/// Features and affinities made from the id and the priority alone.
struct World(BTreeMap<ExampleId, Vec<f32>>);

impl World {
    fn of(candidates: &[Candidate]) -> Self {
        // The constant keeps features from being zeros, which as gradients have no direction.
        let feature =
            |c: &Candidate| vec![c.priority.unwrap_or(0.0) as f32, (c.id.0 % 97) as f32, 1.0];
        Self(candidates.iter().map(|c| (c.id, feature(c))).collect())
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence { features: Some(&self.0), coverage: Some(self) }
    }
}

impl Coverage for World {
    fn n_targets(&self) -> usize {
        5
    }

    fn log_affinities(&self, candidate: ExampleId, out: &mut [f64]) -> Result<()> {
        let x = f64::from(self.0[&candidate][0]);
        out.iter_mut().enumerate().for_each(|(k, a)| *a = -(x - k as f64 + 2.0).powi(2));
        Ok(())
    }
}

fn select(policy: Policy, balance: Balance, from: &[Candidate], quota: usize) -> Vec<ExampleId> {
    let world = World::of(from);
    let selector = Selector { policy, balance };
    selector.select(from, quota, world.evidence(), &mut split_mix(11)).unwrap()
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop::sample::select(Policy::ALL.to_vec())
}

fn any_balance() -> impl Strategy<Value = Balance> {
    prop::sample::select(vec![Balance::PerClass, Balance::None])
}

proptest! {
    #![proptest_config(crate::draws::tests::repeatable())]

    #[test]
    fn selections_are_full_and_sorted_subsets(
        from in candidates(), quota in 0_usize..70, policy in any_policy(), balance in any_balance(),
    ) {
        let kept = select(policy, balance, &from, quota);
        prop_assert_eq!(kept.len(), quota.min(from.len()));
        prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(kept.iter().all(|id| from.iter().any(|c| c.id == *id)));
    }

    #[test]
    fn the_order_of_candidates_does_not_matter(
        (from, shuffled) in candidates().prop_flat_map(|c| (Just(c.clone()), Just(c).prop_shuffle())),
        quota in 0_usize..70, policy in any_policy(), balance in any_balance(),
    ) {
        let kept = select(policy, balance, &from, quota);
        prop_assert_eq!(kept, select(policy, balance, &shuffled, quota));
    }

    #[test]
    fn balanced_classes_get_fair_shares(
        from in candidates(), quota in 0_usize..70, policy in prop::sample::select(Policy::ALL[1..].to_vec()),
    ) {
        let kept = select(policy, Balance::PerClass, &from, quota);
        let class_of = |id: &ExampleId| from.iter().find(|c| c.id == *id).map(|c| c.class);
        let mut counts = BTreeMap::<ClassId, (usize, usize)>::new();
        from.iter().for_each(|c| counts.entry(c.class).or_default().0 += 1);
        kept.iter().filter_map(class_of).for_each(|c| counts.entry(c).or_default().1 += 1);
        let (sizes, shares): (Vec<usize>, Vec<usize>) = counts.into_values().unzip();
        prop_assert_eq!(shares, group::fair_shares(&sizes, quota));
    }

    #[test]
    fn balanced_classes_do_not_know_of_each_other(
        from in candidates(), quota in 0_usize..70,
        policy in prop::sample::select(vec![
            Policy::TopEnergy, Policy::BottomEnergy, Policy::Herding, Policy::KCenter,
            Policy::GradientDiversity,
        ]),
    ) {
        let mut alone = Vec::new();
        for group in Balance::PerClass.divide(&from, quota)? {
            alone.extend(select(policy, Balance::None, &group.members, group.quota));
        }
        alone.sort_unstable();
        prop_assert_eq!(select(policy, Balance::PerClass, &from, quota), alone);
    }

    #[test]
    fn the_top_is_above_the_rest(from in candidates(), quota in 0_usize..70) {
        let kept = select(Policy::TopEnergy, Balance::None, &from, quota);
        let (inside, outside): (Vec<&Candidate>, Vec<&Candidate>) =
            from.iter().partition(|c| kept.contains(&c.id));
        for (a, b) in inside.iter().flat_map(|a| outside.iter().map(move |b| (a, b))) {
            prop_assert!(a.priority > b.priority || (a.priority == b.priority && a.id < b.id));
        }
        for other in [Policy::TopLoss, Policy::NearestNeighbour, Policy::Interference, Policy::MostForgotten] {
            prop_assert_eq!(&kept, &select(other, Balance::None, &from, quota));
        }
    }

    #[test]
    fn the_bottom_is_the_top_of_the_negated(from in candidates(), quota in 0_usize..70) {
        let negate = |c: &Candidate| Candidate { priority: c.priority.map(|p| -p), ..*c };
        let negated: Vec<Candidate> = from.iter().map(negate).collect();
        let bottom = select(Policy::BottomEnergy, Balance::PerClass, &from, quota);
        prop_assert_eq!(bottom, select(Policy::TopEnergy, Balance::PerClass, &negated, quota));
    }

    #[test]
    fn strata_give_equal_counts(n in 10_usize..80, quota in 0_usize..80, seed in any::<u64>()) {
        // Priorities 0, 1, …: the decile of an example can be read off its number.
        let candidate = |i: usize| Candidate {
            id: ExampleId(i as u64), class: ClassId(0), priority: Some(i as f64),
        };
        let from: Vec<Candidate> = (0..10 * n).map(candidate).collect();
        let selector = Selector { policy: Policy::StratifiedEnergy, balance: Balance::PerClass };
        let kept = selector.select(&from, quota, Evidence::default(), &mut split_mix(seed))?;
        let mut counts = [0; 10];
        kept.iter().for_each(|id| counts[id.0 as usize / n] += 1);
        prop_assert!(counts.iter().all(|&c| c == quota / 10 || c == quota.div_ceil(10)), "{counts:?}");
    }
}

#[test]
fn remainders_of_strata_favour_no_decile() {
    let candidate =
        |i: u64| Candidate { id: ExampleId(i), class: ClassId(0), priority: Some(i as f64) };
    let from: Vec<Candidate> = (0..100).map(candidate).collect();
    let selector = Selector { policy: Policy::StratifiedEnergy, balance: Balance::None };
    let mut counts = [0_u64; 100];
    for seed in 0..4_000 {
        let draws = &mut split_mix(seed);
        let kept = selector.select(&from, 5, Evidence::default(), draws).unwrap();
        kept.iter().for_each(|id| counts[id.0 as usize] += 1);
    }
    // Five of a hundred are kept, at most one per decile: every example 200 times of 4000.
    // 99 degrees of freedom: the 1e-6 quantile is 180.8 (and the counts vary less than that).
    assert!(crate::draws::tests::chi_square(&counts) <= 180.8, "{counts:?}");
}

fn refusal(policy: Policy, candidates: &[Candidate], evidence: Evidence<'_>) -> String {
    let selector = Selector { policy, balance: Balance::PerClass };
    selector.select(candidates, 1, evidence, &mut || 0).unwrap_err().to_string()
}

const fn plain(id: u64, priority: Option<f64>) -> Candidate {
    Candidate { id: ExampleId(id), class: ClassId(0), priority }
}

#[test]
fn a_missing_or_broken_priority_names_the_example() {
    let needs_none = [Needs::Nothing, Needs::Features, Needs::Coverage, Needs::Gradients];
    let ranking: Vec<Policy> =
        Policy::ALL.into_iter().filter(|policy| !needs_none.contains(&policy.needs())).collect();
    assert_eq!(ranking.len(), 8);
    for policy in ranking {
        for bad in [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)] {
            let error = refusal(policy, &[plain(3, Some(1.0)), plain(8, bad)], Evidence::default());
            assert!(error.contains("example 8: expected a finite priority"), "{policy}: {error}");
        }
    }
}

#[test]
fn missing_evidence_names_the_policy_or_the_example() {
    let two = [plain(3, None), plain(8, None)];
    assert!(refusal(Policy::Greedy, &two, Evidence::default()).contains("greedy"));
    for policy in [Policy::Herding, Policy::KCenter, Policy::GradientDiversity] {
        let error = refusal(policy, &two, Evidence::default());
        assert!(error.contains(&format!("policy {policy}: expected")), "{error}");
        for bad in [vec![], vec![1.0], vec![1.0, f32::NAN]] {
            let features =
                BTreeMap::from([(ExampleId(3), vec![1.0_f32, 2.0]), (ExampleId(8), bad)]);
            let evidence = Evidence { features: Some(&features), coverage: None };
            assert!(refusal(policy, &two, evidence).contains("example 8"), "{policy}");
        }
        let features = BTreeMap::from([(ExampleId(8), vec![1.0_f32])]);
        let evidence = Evidence { features: Some(&features), coverage: None };
        let error = refusal(policy, &two, evidence);
        assert!(error.contains("example 3: expected features"), "{policy}: {error}");
    }
}

#[test]
fn a_sample_by_energy_repeats_itself_and_leans_upwards() {
    let from: Vec<Candidate> = (0..200).map(|i| plain(i, Some(i as f64 / 2.0))).collect();
    let selector = Selector { policy: Policy::EnergyWeighted, balance: Balance::PerClass };
    let kept =
        |seed| selector.select(&from, 20, Evidence::default(), &mut split_mix(seed)).unwrap();
    assert_eq!(kept(3), kept(3));
    assert_ne!(kept(3), kept(4));
    let upper = (0..100).flat_map(kept).filter(|id| id.0 >= 100).count();
    // Half of 2000 without weights; over 3.46 standard deviations of range e^{E/tau} gives
    // 1/(1 + e^{-1.73}) = 85% for the first draw, a little less for the later ones.
    assert!((1_550..=1_750).contains(&upper), "{upper}");
}

#[test]
fn a_candidate_is_listed_once() {
    for policy in Policy::ALL {
        let twice = [plain(3, Some(1.0)), plain(3, Some(2.0))];
        assert!(refusal(policy, &twice, Evidence::default()).contains("example 3 is listed twice"));
    }
}

#[test]
fn minus_zero_ties_with_zero() {
    let from = [plain(1, Some(-0.0)), plain(2, Some(0.0))];
    assert_eq!(select(Policy::TopEnergy, Balance::None, &from, 1), [ExampleId(1)]);
}

#[test]
fn random_is_blind_to_classes_and_class_balanced_is_not() {
    // One example of class 1 among 99 of class 0.
    let candidate = |i| Candidate { class: ClassId(u32::from(i == 50)), ..plain(i, None) };
    let from: Vec<Candidate> = (0..100).map(candidate).collect();
    let keeps_the_rare = |policy, seed| {
        let selector = Selector { policy, balance: Balance::PerClass };
        let kept = selector.select(&from, 10, Evidence::default(), &mut split_mix(seed)).unwrap();
        kept.contains(&ExampleId(50))
    };
    assert!((0..200).all(|seed| keeps_the_rare(Policy::ClassBalanced, seed)));
    // Expected 20 of 200 with a standard deviation of 4.2.
    let rare = (0..200).filter(|&seed| keeps_the_rare(Policy::Random, seed)).count();
    assert!((1..=45).contains(&rare), "{rare}");
}

#[test]
fn names_round_trip() {
    for policy in Policy::ALL {
        assert_eq!(policy.name().parse::<Policy>().unwrap(), policy);
    }
    let error = "topenergy".parse::<Policy>().unwrap_err().to_string();
    assert!(
        error.contains("unknown policy `topenergy`") && error.contains("top-energy"),
        "{error}"
    );
}
