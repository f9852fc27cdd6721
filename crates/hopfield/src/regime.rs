//! Where the theory speaks: the ratio of the outlier's rise to the cluster's, over β and the geometry.
//!
//! Law: with E[ΔE] of [`crate::rise`], the ratio is 1 where all patterns share one fixed point (β small) and tends to 1
//! where each is alone (β(1 − c) large): the outlier rises more in between, as long as patterns are distinct fixed points
//! without being nearly certain of themselves.

use crate::error::Result;
use crate::fixed_point::{Arrival, FixedPoint, count_distinct};
use crate::geometry::Equiangular;
use crate::network::Network;
use crate::rise::expected_rise;
use crate::vectors::Vectors;

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
    fn two_of_a_cluster_tell_of_all() {
        for (beta, overlap) in [(4., 0.35), (8., 0.35), (8., 0.5), (16., 0.65)] {
            let geometry = Equiangular { overlap, ..Equiangular::default() };
            let network = Network::new(geometry.patterns().unwrap(), beta).unwrap();
            let all = network.fixed_points(ARRIVAL).unwrap();
            assert_eq!(count_distinct(&all, APART), at(beta, overlap, 12).fixed_points);
        }
    }
}
