//! Where the theory speaks: the ratio of the outlier's rise to the cluster's, over β and the geometry.
//!
//! Law: with E[ΔE] of [`crate::rise`], the ratio is 1 where all patterns share one fixed point (β small) and tends to 1
//! where each is alone (β(1 − c) large): the outlier rises more in between, as long as patterns are distinct fixed points
//! without being nearly certain of themselves.

use crate::error::{Result, refuse};
use crate::fixed_point::{Arrival, FixedPoint, count_distinct};
use crate::geometry::Equiangular;
use crate::network::Network;
use crate::rise::expected_rise;
use crate::vectors::{Vectors, dot};
use rayon::prelude::*;

/// Long journeys are part of the map: retrieval is slow where fixed points merge.
const ARRIVAL: Arrival = Arrival { residual: 1e-11, updates: 20_000 };

/// Fixed points nearer than this are one.
const APART: f64 = 1e-4;

/// The network of one geometry at one inverse temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regime {
    /// E[ΔE] of the outlier over the cluster's mean, to second order in the angle.
    pub ratio: f64,
    /// Different fixed points reached from the patterns.
    pub fixed_points: usize,
    /// Association of a cluster pattern's fixed point to that pattern.
    pub cluster_self: f64,
    /// Association of the outlier's fixed point to the outlier.
    pub outlier_self: f64,
    /// Whether every journey arrived: beside a merging of fixed points it takes longer than it is given.
    pub has_arrived: bool,
}

impl Regime {
    /// Looks at one place of the map.
    ///
    /// # Errors
    /// When the geometry or β lies outside its domain.
    pub fn of(geometry: &Equiangular, inverse_temperature: f64) -> Result<Self> {
        let network = Network::new(geometry.patterns()?, inverse_temperature)?;
        // The cluster's patterns are alike: two tell whether they merge, the outlier is the third.
        let starts = [0, geometry.cluster.saturating_sub(1), geometry.outlier()];
        let found: Vec<FixedPoint> = starts
            .iter()
            .map(|&start| network.fixed_point(network.patterns().row(start), ARRIVAL))
            .collect::<Result<_>>()?;
        let states = found.iter().flat_map(|point| point.state.iter().copied()).collect();
        let points = Vectors::new(states, geometry.dimension)?;
        let rise = |i: usize| expected_rise(&network, points.row(i), 1.);
        let own = |i: usize| Ok(network.recall(points.row(i))?.association[starts[i]]);
        Ok(Self {
            ratio: rise(2)? / rise(0)?,
            fixed_points: distinct(&points, geometry.cluster)?,
            cluster_self: own(0)?,
            outlier_self: own(2)?,
            has_arrived: found.iter().all(|point| point.residual <= ARRIVAL.residual),
        })
    }
}

/// Association of the median pattern to itself at the ends of the window.
pub const SELF_ASSOCIATION: [f64; 2] = [0.8, 0.99];

/// Share of the patterns that have a fixed point of their own within the window.
pub const OWN_FIXED_POINT: f64 = 0.5;

/// The inverse temperatures at which a set of patterns obeys the rule that chooses β.
///
/// The rule: the median pattern's fixed point is associated to the pattern with .8 to .99, and most patterns have a
/// fixed point of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Below it the median pattern is not sure of itself, or most patterns share fixed points.
    pub lowest: f64,
    /// Above it the median pattern is all but certain of itself, and its energy says little.
    pub highest: f64,
}

/// What the rule looks at, for one set of patterns at one β.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Witness {
    /// Median over patterns of the fixed point's association to its pattern.
    pub median_self: f64,
    /// Different fixed points reached from the patterns.
    pub fixed_points: usize,
}

impl Witness {
    /// Looks at `patterns` at β.
    ///
    /// # Errors
    /// When β lies outside its domain.
    pub fn of(patterns: &Vectors, inverse_temperature: f64) -> Result<Self> {
        let network = Network::new(patterns.clone(), inverse_temperature)?;
        let ends: Vec<Vec<f64>> = patterns
            .rows()
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(|pattern| Ok(network.fixed_point(pattern, ARRIVAL)?.state))
            .collect::<Result<_>>()?;
        let own = |(i, end): (usize, &Vec<f64>)| Ok(network.recall(end)?.association[i]);
        let mut own: Vec<f64> = ends.iter().enumerate().map(own).collect::<Result<_>>()?;
        own.sort_by(f64::total_cmp);
        let n = own.len();
        let ends = Vectors::new(ends.concat(), patterns.d())?;
        Ok(Self {
            median_self: 0.5 * (own[(n - 1) / 2] + own[n / 2]),
            fixed_points: count_distinct(&ends, APART),
        })
    }

    fn is_above(&self, association: f64, patterns: usize) -> bool {
        let own = self.fixed_points as f64 / patterns as f64;
        self.median_self >= association && own > OWN_FIXED_POINT
    }
}

impl Window {
    /// Finds the window of `patterns` by bisection: both numbers of the rule grow with β.
    ///
    /// # Errors
    /// When no β obeys the rule, as where most patterns are copies of others, or all are zero.
    pub fn of(patterns: &Vectors) -> Result<Self> {
        let square = patterns.rows().map(|xi| dot(xi, xi)).fold(0., f64::max);
        let [low, high] = SELF_ASSOCIATION;
        let end = |association| first_above(patterns, association, [1e-3 / square, 1e6 / square]);
        match (end(low)?, end(high)?) {
            (Some(lowest), Some(highest)) if square > 0. => Ok(Self { lowest, highest }),
            _ => refuse(
                "patterns",
                "most of them to be fixed points of their own at some β",
                "copies",
            ),
        }
    }
}

/// The smallest β of the range from which on `association` is reached, to a thousandth.
fn first_above(
    patterns: &Vectors,
    association: f64,
    [mut low, mut high]: [f64; 2],
) -> Result<Option<f64>> {
    let reaches = |beta| Ok(Witness::of(patterns, beta)?.is_above(association, patterns.len()));
    if !(low > 0. && high.is_finite() && reaches(high)?) {
        return Ok(None);
    }
    while high / low > 1.001 {
        let middle = (low * high).sqrt();
        if reaches(middle)? { high = middle } else { low = middle }
    }
    Ok(Some(high))
}

/// Fixed points of the whole set, from those of two of the cluster's patterns and of the outlier.
fn distinct(points: &Vectors, cluster: usize) -> Result<usize> {
    let [first, second, outlier] = [0, 1, 2].map(|i| points.row(i).to_vec());
    let d = points.d();
    let of_cluster = count_distinct(&Vectors::new([first.clone(), second].concat(), d)?, APART);
    let with_outlier = count_distinct(&Vectors::new([first, outlier].concat(), d)?, APART);
    Ok(if of_cluster == 2 { cluster } else { 1 } + with_outlier - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(beta: f64, overlap: f64, cluster: usize) -> Regime {
        Regime::of(&Equiangular { cluster, overlap, dimension: 50 }, beta).unwrap()
    }

    /// The figures of the pilot, to the digits given there.
    #[test]
    fn the_map_shows_what_the_pilot_saw() {
        for (beta, overlap, cluster, expected, within) in [
            (4., 0.35, 12, 1., 5e-4),
            (8., 0.05, 12, 1.004, 5e-4),
            (8., 0.2, 12, 1.029, 5e-4),
            (8., 0.35, 12, 1.137, 5e-4),
            (8., 0.5, 12, 1.98, 5e-3),
            (16., 0.65, 12, 1.048, 5e-4),
            (32., 0.5, 12, 1., 5e-4),
            (8., 0.35, 2, 1.008, 5e-4),
            (8., 0.35, 6, 1.045, 5e-4),
            (8., 0.35, 24, 2.91, 5e-3),
        ] {
            let found = at(beta, overlap, cluster);
            assert!(
                (found.ratio - expected).abs() <= within,
                "{beta} {overlap} {cluster}: {found:?}"
            );
        }
        assert_eq!(at(8., 0.35, 12).fixed_points, 13);
        assert_eq!(at(4., 0.35, 12).fixed_points, 1);
        assert_eq!(at(8., 0.5, 12).fixed_points, 2);
        assert_eq!(at(8., 0.35, 1).fixed_points, 2);
    }

    #[test]
    fn the_window_holds_what_the_rule_says() {
        let patterns = Equiangular::default().patterns().unwrap();
        let window = Window::of(&patterns).unwrap();
        let median = |beta| Witness::of(&patterns, beta).unwrap().median_self;
        assert!(median(window.lowest) >= 0.8 && median(window.lowest / 1.002) < 0.8);
        assert!(median(window.highest) >= 0.99 && median(window.highest / 1.002) < 0.99);
        // The paper's 8 lies within.
        assert!(window.lowest < 8. && window.highest > 8., "{window:?}");
        let copies = Vectors::new([1., 0.].repeat(4), 2).unwrap();
        assert!(Window::of(&copies).is_err());
        assert!(Window::of(&Vectors::new(vec![0.; 4], 2).unwrap()).is_err());
    }

    #[test]
    fn two_of_a_cluster_tell_of_all() {
        for (beta, overlap) in [(4., 0.35), (8., 0.35), (8., 0.5), (16., 0.65)] {
            let geometry = Equiangular { overlap, ..Equiangular::default() };
            let network = Network::new(geometry.patterns().unwrap(), beta).unwrap();
            let all = network.fixed_points(ARRIVAL).unwrap();
            assert_eq!(count_distinct(&all, APART), at(beta, overlap, 12).fixed_points);
        }
    }
}
