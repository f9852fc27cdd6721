//! Retrieval to the end: fixed points of x ← F(x), and the way there.
//!
//! Law: F is a step of the concave-convex procedure on E, so that E never rises and F^n(x) tends to a stationary point
//! of E (Ramsauer et al. 2020, theorems 1 and 2).

use crate::error::{Result, refuse};
use crate::network::Network;
use crate::vectors::Vectors;
use rayon::prelude::*;

/// When retrieval has arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// ‖x − F(x)‖ at most.
    pub residual: f64,
    /// Retrieval updates at most.
    pub updates: usize,
}

impl Default for Arrival {
    /// 1e-13 within 1000 updates.
    fn default() -> Self {
        Self { residual: 1e-13, updates: 1000 }
    }
}

/// Where retrieval ended.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedPoint {
    /// The last state, [d].
    pub state: Vec<f64>,
    /// ‖x − F(x)‖ there.
    pub residual: f64,
    /// Updates taken.
    pub updates: usize,
}

impl Network {
    /// Follows x ← F(x) from `start` [d] until it arrives or the updates are spent: see [`FixedPoint::residual`].
    ///
    /// # Errors
    /// As [`Network::recall`].
    pub fn fixed_point(&self, start: &[f64], arrival: Arrival) -> Result<FixedPoint> {
        let mut state = start.to_vec();
        let mut updates = 0;
        loop {
            let retrieved = self.recall(&state)?.retrieved;
            let residual = distance(&state, &retrieved);
            if residual <= arrival.residual || updates == arrival.updates {
                return Ok(FixedPoint { state, residual, updates });
            }
            (state, updates) = (retrieved, updates + 1);
        }
    }

    /// The fixed point reached from each stored pattern, [patterns, d].
    ///
    /// # Errors
    /// When one has not arrived when the updates are spent.
    pub fn fixed_points(&self, arrival: Arrival) -> Result<Vectors> {
        let patterns: Vec<&[f64]> = self.patterns().rows().collect();
        let found: Vec<FixedPoint> = patterns
            .into_par_iter()
            .map(|pattern| self.fixed_point(pattern, arrival))
            .collect::<Result<_>>()?;
        let worst = found.iter().map(|point| point.residual).fold(0., f64::max);
        if worst > arrival.residual {
            let expected = format!("to arrive within {} updates", arrival.updates);
            return refuse(
                "retrieval from the stored patterns",
                expected,
                format!("a residual of {worst:e}"),
            );
        }
        Vectors::new(found.into_iter().flat_map(|point| point.state).collect(), self.patterns().d())
    }

    /// The states from `start` on, [updates + 1, d], the start first.
    ///
    /// # Errors
    /// As [`Network::recall`].
    pub fn path(&self, start: &[f64], updates: usize) -> Result<Vectors> {
        let mut states = start.to_vec();
        let mut last = start.to_vec();
        for _ in 0..updates {
            last = self.recall(&last)?.retrieved;
            states.extend_from_slice(&last);
        }
        Vectors::new(states, self.patterns().d())
    }
}

/// How many of `points` lie more than `apart` from all before them.
pub fn count_distinct(points: &Vectors, apart: f64) -> usize {
    let mut found: Vec<&[f64]> = Vec::new();
    for point in points.rows() {
        if found.iter().all(|other| distance(point, other) > apart) {
            found.push(point);
        }
    }
    found.len()
}

/// ‖a − b‖.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Equiangular;

    fn network() -> Network {
        Network::new(Equiangular::default().patterns().unwrap(), 8.).unwrap()
    }

    #[test]
    fn patterns_arrive_at_stable_points_of_their_own() {
        let network = network();
        let points = network.fixed_points(Arrival::default()).unwrap();
        assert_eq!(count_distinct(&points, 1e-6), 13);
        for point in points.rows() {
            let retrieved = network.recall(point).unwrap().retrieved;
            assert!(distance(point, &retrieved) <= 1e-13);
            assert!(network.flatness(point).unwrap() < 1.);
        }
        // The figure of the public replication.
        let flattest = points.rows().map(|point| network.flatness(point).unwrap());
        assert!((flattest.fold(0., f64::max) - 0.484).abs() <= 5e-4);
    }

    #[test]
    fn energy_falls_along_a_path_to_the_fixed_point() {
        let network = network();
        let path = network.path(network.patterns().row(0), 30).unwrap();
        let energies: Vec<f64> = path.rows().map(|x| network.energy(x).unwrap()).collect();
        assert!(energies.windows(2).all(|pair| pair[1] <= pair[0] + 1e-15));
        let end = network.fixed_point(network.patterns().row(0), Arrival::default()).unwrap();
        assert!(distance(path.row(30), &end.state) <= 1e-7);
        assert_eq!(path.len(), 31);
    }

    #[test]
    fn a_journey_that_does_not_end_is_said() {
        let arrival = Arrival { residual: 1e-13, updates: 3 };
        let error = network().fixed_points(arrival).unwrap_err().to_string();
        assert!(error.contains("within 3 updates"), "{error}");
    }
}
