//! Intrinsic forgetting: how far the energy of an old state rises when the task turns.
//!
//! Law: ΔE(x) = E(x | VX) − E(x | X) = E(Vᵀx | X) − E(x | X), V = exp(εΩ). At a fixed point the gradient vanishes, hence
//! ΔE = (ε²/2) xᵀΩᵀHΩx + O(ε³) with H = ∇²E(x), and over random Ω, as E[Ωu uᵀΩᵀ] = ½(‖u‖² I − uuᵀ),
//! E[ΔE] = (ε²/4) [‖x‖² tr H − xᵀHx].
//! For unit-norm patterns this is (ε²/4) [(d − 1) m₂ − β m₂(1 − m₂) + β Var_p(ξ·x)], m₂ = ‖x‖²: it grows with m₂, so
//! that the isolated basin, whose fixed point is longest, rises most. The paper, section 4.

use crate::error::Result;
use crate::network::{Network, Recall};
use crate::rotation::Generator;
use crate::vectors::{Vectors, dot};
use lethe_candlex::rng::Stream;
use rayon::prelude::*;

/// Energy rises of some states over random rotations by one angle.
#[derive(Clone, Debug, PartialEq)]
pub struct Rises {
    /// ε.
    pub angle: f64,
    n_states: usize,
    /// [rotations, states].
    values: Vec<f64>,
}

impl Rises {
    /// ΔE of every state, one rotation after another.
    pub fn rotations(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.n_states)
    }

    /// ΔE of state `k` in every rotation.
    pub fn of_state(&self, k: usize) -> Vec<f64> {
        self.rotations().map(|rises| rises[k]).collect()
    }
}

/// ΔE of `states` [n, d] under the first `rotations` random rotations of `stream`, at each of `angles`.
///
/// Rotation r is a function of (stream, r) alone and the same at every angle.
///
/// # Errors
/// When a state or an angle does not fit.
pub fn energy_rises(
    network: &Network,
    states: &Vectors,
    angles: &[f64],
    rotations: usize,
    stream: Stream,
) -> Result<Vec<Rises>> {
    let before: Vec<f64> = states.rows().map(|x| network.energy(x)).collect::<Result<_>>()?;
    let back: Vec<f64> = angles.iter().map(|angle| -angle).collect();
    let of_rotation = |rotation: u64| -> Result<Vec<Vec<f64>>> {
        let generator = Generator::draw(states.d(), &mut stream.at(0, rotation));
        let turned = generator.rotate(&back, states)?;
        let mut logits = Vec::with_capacity(network.patterns().len());
        let mut rises = |turned: &Vectors| -> Vec<f64> {
            let after = turned.rows().map(|x| network.energy_unchecked(x, &mut logits));
            after.zip(&before).map(|(after, before)| after - before).collect()
        };
        Ok(turned.iter().map(&mut rises).collect())
    };
    let found: Vec<Vec<Vec<f64>>> =
        (0..rotations as u64).into_par_iter().map(of_rotation).collect::<Result<_>>()?;
    let of_angle = |(i, &angle): (usize, &f64)| Rises {
        angle,
        n_states: states.len(),
        values: found.iter().flat_map(|rises| rises[i].iter().copied()).collect(),
    };
    Ok(angles.iter().enumerate().map(of_angle).collect())
}

/// E[ΔE] to second order in the angle ε, at a fixed point `x` [d].
///
/// # Errors
/// When `x` does not fit.
pub fn expected_rise(network: &Network, x: &[f64], angle: f64) -> Result<f64> {
    let Recall { association, retrieved, .. } = network.recall(x)?;
    let beta = network.inverse_temperature();
    let mean = |f: &dyn Fn(&[f64]) -> f64| -> f64 {
        association.iter().zip(network.patterns().rows()).map(|(p, xi)| p * f(xi)).sum()
    };
    let along = dot(&retrieved, x);
    // tr C and xᵀCx, as sums of squares: differences of nearly equal numbers would cancel.
    let trace = mean(&|xi| xi.iter().zip(&retrieved).map(|(xi, m)| (xi - m).powi(2)).sum());
    let variance = mean(&|xi| (dot(xi, x) - along).powi(2));
    let square = dot(x, x);
    let trace_of_hessian = x.len() as f64 - beta * trace;
    Ok(0.25 * angle * angle * (square * trace_of_hessian - (square - beta * variance)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed_point::Arrival;
    use crate::geometry::Equiangular;
    use lethe_candlex::rng::Seed;

    fn network() -> (Network, Vectors) {
        let network = Network::new(Equiangular::default().patterns().unwrap(), 8.).unwrap();
        let points = network.fixed_points(Arrival::default()).unwrap();
        (network, points)
    }

    #[test]
    fn turning_the_state_back_is_turning_the_patterns() {
        let (network, points) = network();
        let stream = Seed(4).stream("rotations");
        let rises = energy_rises(&network, &points, &[0.3], 2, stream).unwrap().remove(0);
        for (rotation, rises) in rises.rotations().enumerate() {
            let generator = Generator::draw(50, &mut stream.at(0, rotation as u64));
            let turned = generator.rotate(&[0.3], network.patterns()).unwrap().remove(0);
            let new = Network::new(turned, 8.).unwrap();
            for (x, rise) in points.rows().zip(rises) {
                let expected = new.energy(x).unwrap() - network.energy(x).unwrap();
                assert!((rise - expected).abs() <= 1e-13, "{rise} {expected}");
            }
        }
    }

    /// Against the quadratic form itself, ½ε² tr(H E[Ωxxᵀ Ωᵀ]), entry by entry.
    #[test]
    fn the_expected_rise_is_its_quadratic_form() {
        let (network, points) = network();
        for x in [points.row(0), points.row(12)] {
            let hessian = network.hessian(x).unwrap();
            let square = dot(x, x);
            let mut trace = 0.;
            for i in 0..50 {
                for j in 0..50 {
                    let identity = f64::from(u8::from(i == j));
                    trace += hessian[i * 50 + j] * 0.5 * (square * identity - x[i] * x[j]);
                }
            }
            let expected = 0.5 * 0.02 * 0.02 * trace;
            let found = expected_rise(&network, x, 0.02).unwrap();
            assert!((found / expected - 1.).abs() <= 1e-12, "{found} {expected}");
        }
    }
}
