//! A change of task: every pattern turned by the same rotation V = exp(εΩ).
//!
//! Law: Ω = (W − Wᵀ)/2 with W_ij ~ N(0, 1), so that the entries above the diagonal are independent N(0, ½).
//! E(x | VX) = E(Vᵀx | X): a rotated task is met by turning the state back. The paper, section 4.
//!
//! Only V's action is ever needed. V x = Σ_k ε^k (Ω^k x)/k!, cut where nothing is added any more; a large angle is taken
//! in equal parts, which loses nothing as V keeps lengths. All angles of one Ω share the products Ω^k x.
//! Operations: about 14 products 2·n·d² for ε‖Ω‖ ≈ ½, against some ten of 2·d³ for V itself by Padé's approximants.

use crate::error::{Result, refuse};
use crate::normal::fill_normal;
use crate::vectors::{Vectors, add_scaled, dot, product_with_transposed};
use lethe_candlex::rng::Draws;

/// ‖εΩ‖ up to which the series is taken at once: its largest term is then below 2, and nothing cancels.
const AT_ONCE: f64 = 2.;

/// The largest angle: a thousand times that of the paper, and still a matter of milliseconds.
const LARGEST_ANGLE: f64 = 100.;

/// Ω, the direction in which patterns turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Generator {
    d: usize,
    /// [d, d], antisymmetric.
    omega: Vec<f64>,
}

impl Generator {
    /// A random Ω in `d` dimensions.
    pub fn draw(d: usize, draws: &mut Draws) -> Self {
        let mut upper = vec![0.; d * d.saturating_sub(1) / 2];
        fill_normal(draws, std::f64::consts::FRAC_1_SQRT_2, &mut upper);
        let mut omega = vec![0.; d * d];
        let mut rest = upper.as_slice();
        for i in 0..d {
            let (row, others) = rest.split_at(d - i - 1);
            for (j, &entry) in (i + 1..d).zip(row) {
                (omega[i * d + j], omega[j * d + i]) = (entry, -entry);
            }
            rest = others;
        }
        Self { d, omega }
    }

    /// The given Ω, [d, d].
    ///
    /// # Errors
    /// When it is not square, not finite, or not antisymmetric to the last digit.
    pub fn new(omega: Vec<f64>, d: usize) -> Result<Self> {
        if d == 0 || omega.len() != d * d {
            return refuse(
                "omega",
                format!("a square matrix of {d} rows"),
                format!("{} numbers", omega.len()),
            );
        }
        for (i, j) in (0..d).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            let (a, b) = (omega[i * d + j], omega[j * d + i]);
            if !(a == -b && a.is_finite()) {
                return refuse(
                    "omega",
                    "an antisymmetric matrix",
                    format!("{a} at ({i}, {j}) and {b} at ({j}, {i})"),
                );
            }
        }
        Ok(Self { d, omega })
    }

    /// exp(ε Ω) x for every ε of `angles` and every x of `states` [n, d].
    ///
    /// # Errors
    /// When an angle is not a number up to 100 in size, or the dimensions differ.
    pub fn rotate(&self, angles: &[f64], states: &Vectors) -> Result<Vec<Vectors>> {
        if let Some(angle) =
            angles.iter().find(|angle| angle.is_nan() || angle.abs() > LARGEST_ANGLE)
        {
            return refuse(
                "angle",
                format!("a number from -{LARGEST_ANGLE} to {LARGEST_ANGLE}"),
                angle,
            );
        }
        if states.d() != self.d {
            return refuse("rotated states", format!("{} dimensions", self.d), states.d());
        }
        let largest = angles.iter().fold(0f64, |largest, angle| largest.max(angle.abs()));
        let turned = if largest * self.norm_bound() <= AT_ONCE {
            self.series(angles, states.values())
        } else {
            angles.iter().map(|&angle| self.in_parts(angle, states.values())).collect()
        };
        turned.into_iter().map(|values| Vectors::new(values, self.d)).collect()
    }

    /// Above ‖Ω‖₂: singular values of an antisymmetric matrix come in pairs.
    fn norm_bound(&self) -> f64 {
        size(&self.omega) * std::f64::consts::FRAC_1_SQRT_2
    }

    fn in_parts(&self, angle: f64, states: &[f64]) -> Vec<f64> {
        let parts = (angle.abs() * self.norm_bound() / AT_ONCE).ceil().max(1.);
        let mut states = states.to_vec();
        for _ in 0..parts as usize {
            let [turned] = self.series(&[angle / parts], &states).try_into().unwrap_or_default();
            states = turned;
        }
        states
    }

    /// Σ_k ε^k (Ω^k x)/k! for each angle.
    fn series(&self, angles: &[f64], states: &[f64]) -> Vec<Vec<f64>> {
        let largest = angles.iter().fold(0f64, |largest, angle| largest.max(angle.abs()));
        let negligible = 1e-17 * size(states);
        let mut turned = vec![states.to_vec(); angles.len()];
        let mut term = states.to_vec();
        let mut next = vec![0.; states.len()];
        // ε^k / k! of each angle, and of the largest.
        let mut weights = vec![1.; angles.len()];
        let mut weight = 1.;
        for k in 1..100 {
            // Rows x of `term` become Ω x.
            product_with_transposed(&term, &self.omega, self.d, &mut next);
            std::mem::swap(&mut term, &mut next);
            weight *= largest / f64::from(k);
            for ((sum, angle), weight) in turned.iter_mut().zip(angles).zip(&mut weights) {
                *weight *= angle / f64::from(k);
                add_scaled(sum, *weight, &term);
            }
            if weight * size(&term) <= negligible {
                break;
            }
        }
        turned
    }
}

/// Norm of all entries.
fn size(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::dot;
    use lethe_candlex::rng::Seed;

    fn generator(d: usize, example: u64) -> Generator {
        Generator::draw(d, &mut Seed(1).stream("rotations").at(0, example))
    }

    fn identity(d: usize) -> Vectors {
        Vectors::new((0..d * d).map(|at| f64::from(u8::from(at % (d + 1) == 0))).collect(), d)
            .unwrap()
    }

    #[test]
    fn angles_and_lengths_stay() {
        for (d, angle) in [(1, 0.5), (2, 3.), (50, 0.05), (50, 7.), (7, 100.)] {
            let turned = generator(d, 3).rotate(&[angle], &identity(d)).unwrap().remove(0);
            for (i, a) in turned.rows().enumerate() {
                for (j, b) in turned.rows().enumerate() {
                    let expected = f64::from(u8::from(i == j));
                    assert!((dot(a, b) - expected).abs() <= 1e-13 * (1. + angle), "{d} {angle}");
                }
            }
        }
    }

    #[test]
    fn the_plane_turns_by_its_angle() {
        let omega = vec![0., -1., 1., 0.];
        let generator = Generator::new(omega, 2).unwrap();
        let x = Vectors::new(vec![1., 0.], 2).unwrap();
        for angle in [0., 1e-3, 1., 50.] {
            let turned = generator.rotate(&[angle, -angle], &x).unwrap();
            for (turned, angle) in turned.iter().zip([angle, -angle]) {
                assert!((turned.row(0)[0] - f64::cos(angle)).abs() <= 1e-14 * 50.);
                assert!((turned.row(0)[1] - f64::sin(angle)).abs() <= 1e-14 * 50.);
            }
        }
    }

    #[test]
    fn turning_back_is_turning_by_the_opposite_angle() {
        let generator = generator(20, 5);
        let states = identity(20);
        let there = generator.rotate(&[0.05, 0.3], &states).unwrap();
        let back = generator.rotate(&[-0.3], &there[1]).unwrap().remove(0);
        let off = back.values().iter().zip(states.values()).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0., f64::max) <= 1e-14);
        // Angles that share their products turn as each alone.
        assert_eq!(there[0], generator.rotate(&[0.05, 0.3], &states).unwrap()[0]);
        let alone = generator.rotate(&[0.05], &states).unwrap().remove(0);
        let off = there[0].values().iter().zip(alone.values()).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0., f64::max) <= 1e-16);
    }

    #[test]
    fn entries_have_half_the_variance_of_a_normal_matrix() {
        let n = 400;
        let entries: Vec<f64> = (0..n).map(|example| generator(6, example).omega[1]).collect();
        let variance = entries.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!((variance - 0.5).abs() <= 4. * 0.5 * (2. / n as f64).sqrt(), "{variance}");
    }

    #[test]
    fn what_is_no_rotation_is_refused() {
        assert!(Generator::new(vec![0., 1., 1., 0.], 2).is_err());
        assert!(Generator::new(vec![f64::NAN], 1).is_err());
        let generator = generator(3, 0);
        for angle in [f64::NAN, f64::INFINITY, 1e4] {
            assert!(generator.rotate(&[angle], &identity(3)).is_err());
        }
        assert!(generator.rotate(&[0.1], &identity(2)).is_err());
    }
}
