//! Eigenvalues of a small symmetric matrix, by Jacobi's rotations.
//!
//! Law: each plane rotation annihilates one pair a_pq = a_qp; sweeps over all pairs converge quadratically.
//! Source: Golub & Van Loan, Matrix Computations, section 8.5 (cyclic-by-row). For some hundreds of rows at most.

/// Sweeps after which rounding alone is left, far more than convergence takes.
const SWEEPS: usize = 60;

/// Eigenvalues of the symmetric `a` [n, n], ascending.
pub fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    let scale = a.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    for _ in 0..SWEEPS {
        let mut is_diagonal = true;
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q].abs() > f64::EPSILON * 1e-2 * scale {
                    is_diagonal = false;
                    annihilate(&mut a, n, p, q);
                }
            }
        }
        if is_diagonal {
            break;
        }
    }
    let mut values: Vec<f64> = a.iter().step_by(n + 1).copied().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// A ← JᵀAJ with the rotation J of the plane (p, q) that makes a_pq zero.
fn annihilate(a: &mut [f64], n: usize, p: usize, q: usize) {
    let tau = (a[q * n + q] - a[p * n + p]) / (2. * a[p * n + q]);
    let tangent = tau.signum() / (tau.abs() + tau.hypot(1.));
    let cosine = 1. / tangent.hypot(1.);
    let sine = tangent * cosine;
    let turn = |x: f64, y: f64| (cosine * x - sine * y, sine * x + cosine * y);
    for k in 0..n {
        (a[k * n + p], a[k * n + q]) = turn(a[k * n + p], a[k * n + q]);
    }
    for k in 0..n {
        (a[p * n + k], a[q * n + k]) = turn(a[p * n + k], a[q * n + k]);
    }
    // Exactly what the rotation is for.
    (a[p * n + q], a[q * n + p]) = (0., 0.);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_spectra_are_found() {
        let close = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-14 * 4., "{found} {expected}");
            }
        };
        close(eigenvalues(vec![2., 1., 1., 2.], 2), &[1., 3.]);
        close(eigenvalues(vec![5.], 1), &[5.]);
        close(eigenvalues(vec![0.; 9], 3), &[0.; 3]);
        // The second difference on n points: 2 − 2 cos(kπ/(n + 1)).
        let n = 6;
        let entry = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 2.,
            1 => -1.,
            _ => 0.,
        };
        let matrix = (0..n * n).map(|at| entry(at / n, at % n)).collect();
        let expected: Vec<f64> = (1..=n)
            .map(|k| 2. - 2. * (k as f64 * std::f64::consts::PI / (n + 1) as f64).cos())
            .collect();
        close(eigenvalues(matrix, n), &expected);
    }
}
