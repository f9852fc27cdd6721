//! The statistics against scipy and numpy; `tests/golden/make_statistics.py` made the numbers.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    x: Vec<f64>,
    y: Vec<f64>,
    controls: Vec<Vec<f64>>,
    ranks_of_y: Vec<f64>,
    pearson: f64,
    spearman: f64,
    partial_spearman: f64,
    items: Vec<usize>,
    resampled_spearman: f64,
    resampled_partial_spearman: f64,
    group_sizes: Vec<usize>,
    trend_p: f64,
}

impl Case {
    fn controls(&self) -> Vec<&[f64]> {
        self.controls.iter().map(Vec::as_slice).collect()
    }

    fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.x.len()];
        self.items.iter().for_each(|&item| counts[item] += 1);
        counts
    }
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../../tests/golden/statistics.json");
    let golden: Golden = serde_json::from_str(text).unwrap();
    assert_eq!(golden.cases.len(), 4);
    golden.cases
}

fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} instead of {expected}");
}

#[test]
fn ranks_and_correlations_agree_with_scipy() {
    for case in cases() {
        assert_eq!(ranks(&case.y).unwrap(), case.ranks_of_y);
        assert_close(pearson(&case.x, &case.y).unwrap(), case.pearson, 1e-13);
        assert_close(spearman(&case.x, &case.y).unwrap(), case.spearman, 1e-13);
    }
}

#[test]
fn the_partial_correlation_agrees_with_least_squares_also_for_collinear_controls() {
    for case in cases() {
        let found = partial_spearman(&case.x, &case.y, &case.controls()).unwrap();
        assert_close(found, case.partial_spearman, 1e-11);
    }
}

#[test]
fn a_resample_by_counts_agrees_with_the_resample_written_out() {
    for case in cases() {
        let counts = case.counts();
        let plain = RankCorrelation::new(&case.x, &case.y, &[]).unwrap();
        assert_close(plain.resampled(&counts).unwrap(), case.resampled_spearman, 1e-13);
        let partial = RankCorrelation::new(&case.x, &case.y, &case.controls()).unwrap();
        let found = partial.resampled(&counts).unwrap();
        assert_close(found, case.resampled_partial_spearman, 1e-11);
    }
}

#[test]
fn the_trend_test_agrees_with_kendalls_test_of_group_and_value() {
    for case in cases() {
        let mut rest = case.y.as_slice();
        let groups: Vec<Vec<f64>> = case
            .group_sizes
            .iter()
            .map(|&size| {
                let (group, tail) = rest.split_at(size);
                rest = tail;
                group.to_vec()
            })
            .collect();
        assert_close(jonckheere(&groups).unwrap().p, case.trend_p, 1e-12);
    }
}
