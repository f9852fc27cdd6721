//! The claims C1 to C6, what was computed for each, and the verdict for this run.
//!
//! The rules are written out on the page. Nothing here knows which verdict anybody hopes for.

use crate::analysis::correlations::{self, Correlation, Target};
use crate::analysis::{Outcome, View, arms};
use crate::gauge::EnergyForm;
use lethe_ledger::Split;
use lethe_ledger::statistics::{Interval, Side};

/// What the numbers say about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Supported,
    NotSupported,
    Undecided,
    NotMeasured,
}

impl Verdict {
    /// The words of the page.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::NotSupported => "not supported",
            Self::Undecided => "undecided",
            Self::NotMeasured => "not measured",
        }
    }

    /// Supported if every interval lies above zero, not supported if any lies wholly below.
    fn of(intervals: &[&Outcome<Interval>]) -> Self {
        let sides: Result<Vec<Side>, &String> =
            intervals.iter().map(|interval| interval.as_ref().map(Interval::side)).collect();
        match sides {
            Err(_) => Self::NotMeasured,
            Ok(sides) if sides.contains(&Side::Below) => Self::NotSupported,
            Ok(sides) if sides.contains(&Side::Straddles) => Self::Undecided,
            Ok(_) => Self::Supported,
        }
    }

    /// One verdict for all runs: theirs if they agree.
    fn overall(verdicts: &[Self]) -> Self {
        match verdicts {
            [] => Self::NotMeasured,
            [first, rest @ ..] if rest.iter().all(|verdict| verdict == first) => *first,
            _ => Self::Undecided,
        }
    }
}

/// A number that a verdict rests on.
pub(crate) type Evidence = (&'static str, Outcome<Interval>);

/// A claim in one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) run: String,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) verdict: Verdict,
}

/// A claim over all runs in view.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    pub(crate) id: &'static str,
    pub(crate) statement: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) findings: Vec<Finding>,
    pub(crate) verdict: Verdict,
}

/// Judges one run.
type Judge = fn(&View<'_>) -> (Vec<Evidence>, Verdict);

struct Law {
    id: &'static str,
    statement: &'static str,
    rule: &'static str,
    judge: Judge,
}

const LAWS: [Law; 6] = [
    Law {
        id: "C1",
        statement: "Examples of higher energy are reconstructed worse after the new task.",
        rule: "Arm none, training examples of task 1, energy in distance form against R after the last task. Supported: the interval of the Spearman correlation over examples lies above 0 and the correlation over energy deciles is at least 0.9. Not supported: the interval lies below 0.",
        judge: judge_level,
    },
    Law {
        id: "C2",
        statement: "Examples of higher energy are forgotten more: the error rises more, also at equal error before, total variation, contrast and norm.",
        rule: "As C1 with the increment ΔR = R after − R before, and the interval of the partial Spearman correlation (R before, total variation, contrast and norm taken out) must lie above 0 too. Not supported: either interval lies below 0.",
        judge: judge_increment,
    },
    Law {
        id: "C3",
        statement: "The likelihood bound rises more for examples of higher energy.",
        rule: "As C1 with the increment of the variational bound.",
        judge: judge_bound,
    },
    Law {
        id: "C4",
        statement: "Replay saves a buffered example more the higher its energy: top-energy > random > bottom-energy over each arm's own buffer.",
        rule: "Mean mitigation over the buffered old examples of each arm. Supported: the intervals of both gaps (top − random, random − bottom; each buffer resampled by itself) lie above 0. Not supported: one lies below 0. Undecided, whatever the intervals: fewer than 40 examples in two buffers together.",
        judge: judge_buffered,
    },
    Law {
        id: "C5",
        statement: "In the top energy decile, replaying examples of high energy saves most: top-energy > random > bottom-energy.",
        rule: "Mean mitigation over the old training examples in the top energy decile, the same examples in every arm. Supported: the intervals of both paired gaps lie above 0. Not supported: one lies below 0. Undecided, whatever the intervals: fewer than 20 examples in the top decile.",
        judge: judge_top_decile,
    },
    Law {
        id: "C6",
        statement: "Averaged over all old examples, random replay saves more than top-energy replay (an open question).",
        rule: "Mean over all old training examples of M(random) − M(top-energy), paired. Supported: the interval lies above 0. Not supported, that is, top-energy saves more: it lies below 0.",
        judge: judge_mean,
    },
];

/// Judges every claim in every run in view.
pub(crate) fn judge(all: &View<'_>) -> Vec<Claim> {
    LAWS.iter().map(|law| judge_law(all, law)).collect()
}

fn judge_law(all: &View<'_>, law: &Law) -> Claim {
    let findings: Vec<Finding> = all
        .one_by_one()
        .map(|(repetition, view)| {
            let (evidence, verdict) = (law.judge)(&view);
            Finding { run: repetition.run.clone(), evidence, verdict }
        })
        .collect();
    let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
    let verdict = Verdict::overall(&verdicts);
    Claim { id: law.id, statement: law.statement, rule: law.rule, findings, verdict }
}

/// What the correlation over deciles must reach.
const MONOTONE: f64 = 0.9;

fn judge_level(view: &View<'_>) -> (Vec<Evidence>, Verdict) {
    judge_correlation(view, Target::After)
}

fn judge_bound(view: &View<'_>) -> (Vec<Evidence>, Verdict) {
    judge_correlation(view, Target::BoundIncrement)
}

fn judge_correlation(view: &View<'_>, target: Target) -> (Vec<Evidence>, Verdict) {
    let correlation = correlations::measure(view, EnergyForm::Distance, Split::Train, target);
    let [over_examples, over_deciles, _] = numbers(correlation);
    let verdict = monotone(Verdict::of(&[&over_examples]), &over_deciles);
    let evidence =
        vec![("Spearman over examples", over_examples), ("Spearman over deciles", over_deciles)];
    (evidence, verdict)
}

fn judge_increment(view: &View<'_>) -> (Vec<Evidence>, Verdict) {
    let correlation =
        correlations::measure(view, EnergyForm::Distance, Split::Train, Target::Increment);
    let [over_examples, over_deciles, partial] = numbers(correlation);
    let verdict = monotone(Verdict::of(&[&over_examples, &partial]), &over_deciles);
    let evidence = vec![
        ("Spearman over examples", over_examples),
        ("Spearman over deciles", over_deciles),
        ("partial Spearman", partial),
    ];
    (evidence, verdict)
}

/// The three intervals of a correlation, or three times why there is none.
fn numbers(correlation: Outcome<Correlation>) -> [Outcome<Interval>; 3] {
    match correlation {
        Ok(found) => [found.spearman, found.deciles, found.partial],
        Err(why) => [Err(why.clone()), Err(why.clone()), Err(why)],
    }
}

/// A supported correlation stays supported only if the decile means are monotone too.
fn monotone(verdict: Verdict, over_deciles: &Outcome<Interval>) -> Verdict {
    match (verdict, over_deciles) {
        (Verdict::Supported, Err(_)) => Verdict::NotMeasured,
        (Verdict::Supported, Ok(deciles)) if deciles.estimate < MONOTONE => Verdict::Undecided,
        _ => verdict,
    }
}

/// Examples of two buffers together below which a bootstrap interval is no ground for a verdict.
const FEWEST_BUFFERED: usize = 40;
/// The same for the examples of the top decile, which are paired.
const FEWEST_IN_DECILE: usize = 20;

const TOP: &str = "top-energy";
const RANDOM: &str = "random";
const BOTTOM: &str = "bottom-energy";

fn judge_buffered(view: &View<'_>) -> (Vec<Evidence>, Verdict) {
    let gap = |a, b| arms::buffered_gap(view, a, b);
    judge_gaps(gap(TOP, RANDOM), gap(RANDOM, BOTTOM), FEWEST_BUFFERED)
}

fn judge_top_decile(view: &View<'_>) -> (Vec<Evidence>, Verdict) {
    let gap = |a, b| {
        let top = view.top_decile(&view.old(Split::Train))?;
        arms::paired_gap(view, a, b, &top)
    };
    judge_gaps(gap(TOP, RANDOM), gap(RANDOM, BOTTOM), FEWEST_IN_DECILE)
}

/// Gaps over fewer than `fewest` examples are measured, but decide nothing.
fn judge_gaps(
    first: Outcome<Interval>,
    second: Outcome<Interval>,
    fewest: usize,
) -> (Vec<Evidence>, Verdict) {
    let is_thin = |gap: &Outcome<Interval>| gap.as_ref().is_ok_and(|gap| gap.n < fewest);
    let verdict = match Verdict::of(&[&first, &second]) {
        Verdict::NotMeasured => Verdict::NotMeasured,
        _ if is_thin(&first) || is_thin(&second) => Verdict::Undecided,
        verdict => verdict,
    };
    (vec![("top − random", first), ("random − bottom", second)], verdict)
}

fn judge_mean(view: &View<'_>) -> (Vec<Evidence>, Verdict) {
    let gap = arms::paired_gap(view, RANDOM, TOP, &view.old(Split::Train));
    let verdict = Verdict::of(&[&gap]);
    (vec![("random − top", gap)], verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, high: f64) -> Outcome<Interval> {
        Ok(Interval { estimate: (low + high) / 2.0, low, high, n: 9 })
    }

    #[test]
    fn a_verdict_follows_the_intervals() {
        let (above, below, across) =
            (interval(0.1, 0.2), interval(-0.2, -0.1), interval(-0.1, 0.1));
        let missing = Err("not measured".to_owned());
        let cases = [
            (vec![&above, &above], Verdict::Supported),
            (vec![&above, &across], Verdict::Undecided),
            (vec![&across, &below], Verdict::NotSupported),
            (vec![&above, &below], Verdict::NotSupported),
            (vec![&below, &missing], Verdict::NotMeasured),
        ];
        for (intervals, verdict) in cases {
            assert_eq!(Verdict::of(&intervals), verdict);
        }
        assert_eq!(Verdict::of(&[&interval(0.0, 0.1)]), Verdict::Undecided, "zero is inside");
    }

    #[test]
    fn a_correlation_must_be_monotone_over_deciles() {
        assert_eq!(monotone(Verdict::Supported, &interval(0.9, 1.0)), Verdict::Supported);
        assert_eq!(monotone(Verdict::Supported, &interval(0.7, 0.9)), Verdict::Undecided);
        assert_eq!(monotone(Verdict::Supported, &Err(String::new())), Verdict::NotMeasured);
        assert_eq!(monotone(Verdict::NotSupported, &interval(0.9, 1.0)), Verdict::NotSupported);
    }

    #[test]
    fn few_examples_decide_nothing() {
        let gap = |n| interval(0.1, 0.2).map(|gap| Interval { n, ..gap });
        let verdict = |first, second| judge_gaps(first, second, FEWEST_IN_DECILE).1;
        assert_eq!(verdict(gap(20), gap(20)), Verdict::Supported);
        assert_eq!(verdict(gap(20), gap(19)), Verdict::Undecided);
        assert_eq!(verdict(gap(19), Err(String::new())), Verdict::NotMeasured);
        for (law, fewest) in [(&LAWS[3], FEWEST_BUFFERED), (&LAWS[4], FEWEST_IN_DECILE)] {
            assert!(law.rule.contains(&format!("fewer than {fewest} examples")), "{}", law.id);
        }
    }

    #[test]
    fn runs_must_agree() {
        use Verdict::{NotMeasured, NotSupported, Supported, Undecided};
        assert_eq!(Verdict::overall(&[Supported, Supported]), Supported);
        assert_eq!(Verdict::overall(&[Supported, NotSupported]), Undecided);
        assert_eq!(Verdict::overall(&[Supported, NotMeasured]), Undecided);
        assert_eq!(Verdict::overall(&[]), NotMeasured);
    }
}
