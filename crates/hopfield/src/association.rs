//! How much each query is associated with each pattern: the whole matrix, 64-bit.
//!
//! Law: p_μ(x) = softmax_μ(β s(x, ξ_μ) + log a_μ), s as in [`lethe_kernels::hopfield_energy`].
//! Similarities are taken from coordinate to coordinate, so that near pairs of long vectors lose no digits.

use crate::Form;
use crate::error::{Result, refuse};
use crate::network::softmax;
use crate::vectors::{Vectors, dot};
use rayon::prelude::*;

/// p of every query [n, d] under `patterns` [m, d], [n, m]; a pattern that a query leaves out gets 0.
///
/// `log_masses`: log a_μ, one for each pattern, all 0 by default.
///
/// # Errors
/// When dimensions or counts differ, β is not a positive number, or a query leaves out the only pattern.
pub fn association(
    form: Form,
    inverse_temperature: f64,
    queries: &Vectors,
    patterns: &Vectors,
    log_masses: Option<&[f64]>,
    left_out: Option<&[Option<usize>]>,
) -> Result<Vec<f64>> {
    if queries.d() != patterns.d() {
        return refuse(
            "queries",
            format!("{} dimensions, as the patterns", patterns.d()),
            queries.d(),
        );
    }
    if !(inverse_temperature > 0. && inverse_temperature.is_finite()) {
        return refuse("inverse temperature", "a positive, finite number", inverse_temperature);
    }
    if let Some(masses) = log_masses.filter(|masses| masses.len() != patterns.len()) {
        return refuse(
            "masses",
            format!("one for each of {} patterns", patterns.len()),
            masses.len(),
        );
    }
    let is_lonely =
        patterns.len() == 1 && left_out.is_some_and(|out| out.iter().any(Option::is_some));
    if is_lonely {
        return refuse("left out", "at least two patterns", 1);
    }
    let row = |(i, x): (usize, &[f64])| {
        let mut logits: Vec<f64> =
            patterns.rows().map(|xi| inverse_temperature * similarity(form, x, xi)).collect();
        if let Some(masses) = log_masses {
            logits.iter_mut().zip(masses).for_each(|(logit, mass)| *logit += mass);
        }
        if let Some(out) = left_out.and_then(|out| out.get(i).copied().flatten()) {
            logits[out] = f64::NEG_INFINITY;
        }
        softmax(&mut logits);
        logits
    };
    let rows: Vec<(usize, &[f64])> = queries.rows().enumerate().collect();
    Ok(rows.into_par_iter().flat_map_iter(row).collect())
}

fn similarity(form: Form, x: &[f64], xi: &[f64]) -> f64 {
    match form {
        Form::Dot => dot(x, xi),
        Form::Distance => -0.5 * x.iter().zip(xi).map(|(x, xi)| (x - xi).powi(2)).sum::<f64>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Network;

    fn vectors(values: &[f64]) -> Vectors {
        Vectors::new(values.to_vec(), 2).unwrap()
    }

    #[test]
    fn rows_are_those_of_the_network_and_sum_to_one() {
        let (x, xi) = (vectors(&[0.3, -1., 2., 2.]), vectors(&[1., 0., -1., 0.5, 2., 2.]));
        let masses = [1f64, 4., 0.5];
        let logs: Vec<f64> = masses.iter().map(|mass| mass.ln()).collect();
        let found = association(Form::Dot, 1.5, &x, &xi, Some(&logs), None).unwrap();
        let network = Network::new(xi.clone(), 1.5).unwrap().with_masses(&masses).unwrap();
        for (row, x) in found.chunks(3).zip(x.rows()) {
            let expected = network.recall(x).unwrap().association;
            assert!(row.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-15));
        }
        // Far from the origin, a shift changes nothing in the distance form.
        let near = association(Form::Distance, 2., &x, &xi, None, None).unwrap();
        let shifted =
            |v: &Vectors| vectors(&v.values().iter().map(|v| v + 1024.).collect::<Vec<_>>());
        let far = association(Form::Distance, 2., &shifted(&x), &shifted(&xi), None, None).unwrap();
        assert!(near.iter().zip(&far).all(|(a, b)| (a - b).abs() <= 1e-12));
        assert!(near.chunks(3).all(|row| (row.iter().sum::<f64>() - 1.).abs() <= 1e-15));
    }

    #[test]
    fn a_pattern_left_out_has_no_part() {
        let xi = vectors(&[1., 0., -1., 0.5]);
        let out = [Some(0), None];
        let found = association(Form::Dot, 1., &xi, &xi, None, Some(&out)).unwrap();
        assert_eq!(found[..2], [0., 1.]);
        assert!(found[2] > 0.);
        let one = vectors(&[1., 0.]);
        assert!(association(Form::Dot, 1., &one, &one, None, Some(&[Some(0)])).is_err());
        assert!(association(Form::Dot, 0., &one, &one, None, None).is_err());
    }
}
