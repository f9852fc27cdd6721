//! The solvable setting: an equiangular cluster and one outlier orthogonal to it.
//!
//! Law: ξ_i = √c e₀ + √(1 − c) e_i for i = 1..n, the outlier e_{n+1}: unit norms, overlaps exactly c within the cluster
//! and 0 with the outlier. The paper, section 4.

use crate::error::{Result, refuse};
use crate::vectors::Vectors;

/// A cluster of `cluster` patterns of pairwise overlap `overlap`, and one outlier, in `dimension` dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Equiangular {
    /// n, patterns in the cluster.
    pub cluster: usize,
    /// c = ξ_i·ξ_j, from 0 to below 1.
    pub overlap: f64,
    /// d ≥ n + 2.
    pub dimension: usize,
}

impl Default for Equiangular {
    /// 12 patterns of overlap .35 and the outlier in 50 dimensions.
    fn default() -> Self {
        Self { cluster: 12, overlap: 0.35, dimension: 50 }
    }
}

impl Equiangular {
    /// The patterns [n + 1, d]: the cluster, then the outlier.
    ///
    /// # Errors
    /// When n is 0, c lies outside [0, 1), or d < n + 2.
    pub fn patterns(&self) -> Result<Vectors> {
        let Self { cluster: n, overlap: c, dimension: d } = *self;
        if n == 0 {
            return refuse("cluster", "at least one pattern", n);
        }
        if !(0. ..1.).contains(&c) {
            return refuse("overlap", "a number from 0 to below 1", c);
        }
        if d < n.saturating_add(2) {
            return refuse(
                "dimension",
                format!("at least the cluster's {n} patterns and two more"),
                d,
            );
        }
        let mut values = vec![0.; (n + 1) * d];
        for (i, row) in values.chunks_exact_mut(d).take(n).enumerate() {
            (row[0], row[i + 1]) = (c.sqrt(), (1. - c).sqrt());
        }
        values[n * d + n + 1] = 1.;
        Vectors::new(values, d)
    }

    /// Where the outlier stands among the patterns.
    pub fn outlier(&self) -> usize {
        self.cluster
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::dot;

    #[test]
    fn angles_are_exact() {
        let geometry = Equiangular::default();
        let patterns = geometry.patterns().unwrap();
        assert_eq!((patterns.len(), patterns.d()), (13, 50));
        for (i, a) in patterns.rows().enumerate() {
            for (j, b) in patterns.rows().enumerate() {
                let outlier = geometry.outlier();
                let expected = if i == j {
                    1.
                } else if i == outlier || j == outlier {
                    0.
                } else {
                    0.35
                };
                assert!((dot(a, b) - expected).abs() <= 1e-15, "{i} {j}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let base = Equiangular::default();
        for (geometry, field) in [
            (Equiangular { cluster: 0, ..base }, "cluster"),
            (Equiangular { overlap: 1., ..base }, "overlap"),
            (Equiangular { overlap: f64::NAN, ..base }, "overlap"),
            (Equiangular { overlap: -0.1, ..base }, "overlap"),
            (Equiangular { dimension: 13, ..base }, "dimension"),
            (Equiangular { cluster: usize::MAX, ..base }, "dimension"),
        ] {
            let error = geometry.patterns().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
