//! The network's laws: gradients, Hessians, masses, identities, and what is refused.

use super::*;
use crate::fixed_point::{Arrival, distance};
use crate::geometry::Equiangular;
use candle_core::{Device, Tensor};
use lethe_candlex::rng::Seed;
use lethe_kernels::hopfield_energy::{Form, Question, Wanted, energy};

fn random(n: usize, d: usize, example: u64) -> Vectors {
    let mut draws = Seed(7).stream("patterns").at(0, example);
    let values = (0..n * d).map(|_| draws.normal_pair()[0]).collect();
    Vectors::new(values, d).unwrap()
}

#[test]
fn the_gradient_is_the_slope_and_the_hessian_the_gradients_slope() {
    let masses = [1., 0.3, 2e3, 1e-6, 1., 4.];
    for beta in [0.1, 2., 30.] {
        let network = Network::new(random(6, 5, 0), beta).unwrap().with_masses(&masses).unwrap();
        let x = random(1, 5, 1).row(0).iter().map(|x| 0.5 * x).collect::<Vec<f64>>();
        let gradient = |x: &[f64]| -> Vec<f64> {
            let retrieved = network.recall(x).unwrap().retrieved;
            x.iter().zip(retrieved).map(|(x, f)| x - f).collect()
        };
        let hessian = network.hessian(&x).unwrap();
        for i in 0..5 {
            let moved = |step: f64| {
                let mut x = x.clone();
                x[i] += step;
                x
            };
            let (up, down) = (moved(1e-5), moved(-1e-5));
            let slope = (network.energy(&up).unwrap() - network.energy(&down).unwrap()) / 2e-5;
            assert!((slope - gradient(&x)[i]).abs() <= 1e-8, "{beta} {i}");
            for (j, (up, down)) in gradient(&up).iter().zip(gradient(&down)).enumerate() {
                let slope = (up - down) / 2e-5;
                assert!((slope - hessian[i * 5 + j]).abs() <= 1e-6 * (1. + beta), "{beta} {i} {j}");
            }
        }
    }
}

#[test]
fn flatness_is_the_largest_eigenvalue_of_the_covariance() {
    for (n, d) in [(3, 7), (9, 4), (1, 3)] {
        let network = Network::new(random(n, d, 2), 1.3).unwrap();
        let x = random(1, d, 3);
        let covariance = network.covariance(x.row(0)).unwrap();
        let largest = *spectrum::eigenvalues(covariance, d).last().unwrap();
        let found = network.flatness(x.row(0)).unwrap();
        assert!((found - 1.3 * largest).abs() <= 1e-12, "{found} {largest}");
    }
}

#[test]
fn a_mass_is_a_number_of_copies() {
    let patterns = random(3, 4, 4);
    let rows: Vec<&[f64]> = patterns.rows().collect();
    let copies = Vectors::new([rows[0], rows[1], rows[1], rows[1], rows[2]].concat(), 4).unwrap();
    let heavy = Network::new(patterns.clone(), 2.).unwrap().with_masses(&[1., 3., 1.]).unwrap();
    let many = Network::new(copies, 2.).unwrap();
    let x = random(1, 4, 5);
    let (heavy, many) = (heavy.recall(x.row(0)).unwrap(), many.recall(x.row(0)).unwrap());
    assert!((heavy.energy - many.energy).abs() <= 1e-14);
    assert!(distance(&heavy.retrieved, &many.retrieved) <= 1e-14);
    assert!((heavy.association[1] - 3. * many.association[1]).abs() <= 1e-14);
    let grown = Network::new(patterns.clone(), 2.).unwrap().with_pattern(patterns.row(1)).unwrap();
    let twice = Network::new(patterns, 2.).unwrap().with_masses(&[1., 2., 1.]).unwrap();
    let difference = grown.energy(x.row(0)).unwrap() - twice.energy(x.row(0)).unwrap();
    assert!(difference.abs() <= 1e-14);
}

/// tr C = 1 − m₂ and E = −m₂/2 − H/β at a fixed point of unit-norm patterns.
#[test]
fn fixed_points_obey_their_identities() {
    for beta in [8., 12., 40.] {
        let network = Network::new(Equiangular::default().patterns().unwrap(), beta).unwrap();
        for x in network.fixed_points(Arrival::default()).unwrap().rows() {
            let recall = network.recall(x).unwrap();
            let m2 = dot(x, x);
            let trace: f64 = network.covariance(x).unwrap().iter().step_by(51).sum();
            assert!((trace - (1. - m2)).abs() <= 1e-12);
            assert!((recall.energy + 0.5 * m2 + recall.entropy / beta).abs() <= 1e-12);
        }
    }
}

#[test]
fn the_streamed_kernel_says_the_same() {
    let (patterns, states) = (random(40, 6, 8), random(9, 6, 9));
    let masses: Vec<f64> = (0..40).map(|i| 10f64.powf(f64::from(i) * 0.3 - 6.)).collect();
    let network = Network::new(patterns.clone(), 3.).unwrap().with_masses(&masses).unwrap();
    let tensor =
        |x: &Vectors| Tensor::from_slice(x.values(), (x.len(), x.d()), &Device::Cpu).unwrap();
    let question = Question {
        form: Form::Dot,
        inverse_temperature: 3.,
        masses: Some(&masses),
        left_out: None,
        wanted: Wanted::Retrieved,
    };
    let answer = energy(&tensor(&states), &tensor(&patterns), &question).unwrap();
    let retrieved = answer.retrieved.unwrap().to_vec2::<f64>().unwrap();
    for (i, x) in states.rows().enumerate() {
        let recall = network.recall(x).unwrap();
        assert!((recall.energy - answer.energy[i]).abs() <= 1e-12);
        assert!((recall.entropy - answer.entropy[i]).abs() <= 1e-12);
        assert!(distance(&recall.retrieved, &retrieved[i]) <= 1e-12);
    }
}

#[test]
fn hostile_input_is_answered_or_refused_and_never_a_nan() {
    let patterns = || random(3, 2, 6);
    for beta in [0., -1., f64::INFINITY, f64::NAN, 1e308, 1e-308] {
        let error = Network::new(patterns(), beta).unwrap_err().to_string();
        assert!(error.starts_with("inverse temperature: expected"), "{error}");
    }
    for masses in [&[1., 1.][..], &[1., 0., 1.], &[1., f64::NAN, 1.], &[1., f64::INFINITY, 1.]] {
        assert!(Network::new(patterns(), 1.).unwrap().with_masses(masses).is_err());
    }
    let network = Network::new(patterns(), 1.).unwrap();
    for state in [&[1.][..], &[1., f64::NAN], &[1e200, 0.]] {
        assert!(network.recall(state).is_err() && network.energy(state).is_err());
    }
    // One pattern in one dimension: E = ½x² − ξx.
    let single = Network::new(Vectors::new(vec![3.], 1).unwrap(), 2.).unwrap();
    let recall = single.recall(&[1.]).unwrap();
    assert_eq!((recall.energy, recall.entropy, recall.retrieved), (0.5 - 3., 0., vec![3.]));
    assert_eq!(single.flatness(&[1.]).unwrap(), 0.);
    // Logits near 1e4, zero vectors, duplicates.
    let far = Vectors::new(vec![100., 0., 100., 0., 0., 0.], 2).unwrap();
    let network = Network::new(far, 1.).unwrap();
    let recall = network.recall(&[100., 0.]).unwrap();
    assert!((recall.energy - (5e3 - 1e4 - 2f64.ln())).abs() <= 1e-11, "{}", recall.energy);
    assert_eq!(recall.association, [0.5, 0.5, 0.]);
    let zero = network.recall(&[0., 0.]).unwrap();
    assert!((zero.energy + 3f64.ln()).abs() <= 1e-15);
}
