//! Laws of the machine: density by quadrature, samples by their moments, conditionals, refusals.

use super::*;
use lethe_candlex::rng::Seed;

/// Three units of different norms in the plane.
fn plane() -> BoltzmannMachine {
    BoltzmannMachine::new(vec![1., 0.2, -0.4, 0.9, 0.1, -0.3], 2, 4.).unwrap()
}

fn biased() -> BoltzmannMachine {
    plane().with_biases(&[0.5, -1., 2.]).unwrap()
}

/// ∫ f over [−7, 7]ᵈ, d = 1 or 2, by the trapezoid rule: exact to rounding for smooth functions that vanish at the ends.
fn integral(d: usize, f: impl Fn(&[f64]) -> f64) -> f64 {
    let steps = 280;
    let h = 14. / f64::from(steps);
    let at = |i: i32| -7. + h * f64::from(i);
    match d {
        1 => (0..=steps).map(|i| f(&[at(i)])).sum::<f64>() * h,
        _ => {
            (0..=steps)
                .flat_map(|i| (0..=steps).map(move |j| [at(i), at(j)]))
                .map(|x| f(&x))
                .sum::<f64>()
                * h
                * h
        }
    }
}

#[test]
fn the_partition_function_is_the_integral() {
    for machine in [plane(), biased()] {
        let beta = machine.inverse_temperature();
        let z = integral(2, |x| (-beta * machine.energy(x).unwrap()).exp());
        assert!((z.ln() - machine.log_partition()).abs() <= 1e-10, "{}", z.ln());
        // The control: without the units' norms the value is another.
        let wrong = machine.log_volume() + (machine.units() as f64).ln();
        assert!((z.ln() - wrong).abs() > 0.1);
    }
}

#[test]
fn the_partition_function_agrees_with_monte_carlo() {
    let mut draws = Seed(1).stream("machine").at(0, 0);
    let machine =
        BoltzmannMachine::random(7, 6, 3., &mut draws).unwrap().with_biases(&[0.3; 7]).unwrap();
    // Z / volume = ⟨Σ_μ e^{β w_μ·x + c_μ}⟩ under N(0, I/β).
    let n = 200_000;
    let ratio = |draws: &mut Draws| {
        let mut x = vec![0.; 6];
        fill_normal(draws, 1. / 3f64.sqrt(), &mut x);
        log_sum_exp(&machine.logits(&x).unwrap()).exp()
    };
    let ratios: Vec<f64> = (0..n).map(|_| ratio(&mut draws)).collect();
    let mean = ratios.iter().sum::<f64>() / f64::from(n);
    let variance = ratios.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
    let error = 4. * (variance / f64::from(n)).sqrt() / mean;
    assert!(error < 0.05);
    assert!((mean.ln() + machine.log_volume() - machine.log_partition()).abs() <= error);
}

#[test]
fn densities_integrate_to_one() {
    let line = BoltzmannMachine::new(vec![0.7, -1.1, 0.], 1, 5.).unwrap();
    for machine in [plane(), biased(), line.clone(), line.with_biases(&[3., 0., -1.]).unwrap()] {
        let beta = machine.inverse_temperature();
        for density in [
            |machine: &BoltzmannMachine, x: &[f64], _| {
                (-machine.negative_log_likelihood(x).unwrap()).exp()
            },
            |machine: &BoltzmannMachine, x: &[f64], beta: f64| {
                (-beta * machine.normalized_energy(x).unwrap()).exp()
            },
        ] {
            let total = integral(machine.d(), |x| density(&machine, x, beta));
            assert!((total - 1.).abs() <= 1e-10, "{total}");
        }
    }
}

#[test]
fn the_density_is_the_mixture() {
    let machine = biased();
    let beta = machine.inverse_temperature();
    let pi = machine.mixture_weights();
    assert!((pi.iter().sum::<f64>() - 1.).abs() <= 1e-14);
    let x = [0.3, 0.4];
    let terms: Vec<f64> = machine
        .rows()
        .zip(&pi)
        .map(|(w, pi)| {
            let square = (x[0] - w[0]).powi(2) + (x[1] - w[1]).powi(2);
            pi * beta / TAU * (-0.5 * beta * square).exp()
        })
        .collect();
    let density: f64 = terms.iter().sum();
    assert!((density.ln() + machine.negative_log_likelihood(&x).unwrap()).abs() <= 1e-13);
    for (r, term) in machine.responsibilities(&x).unwrap().iter().zip(&terms) {
        assert!((r - term / density).abs() <= 1e-14);
    }
}

#[test]
fn a_copy_is_a_bias_of_log_two() {
    let machine = plane();
    let copy = machine
        .joined(&BoltzmannMachine::new(machine.weights()[..2].to_vec(), 2, 4.).unwrap())
        .unwrap();
    let massive = plane().with_biases(&[2f64.ln(), 0., 0.]).unwrap();
    for x in [[0., 0.], [1., -2.], [0.4, 0.9]] {
        let difference = copy.energy(&x).unwrap() - massive.energy(&x).unwrap();
        assert!(difference.abs() <= 1e-14);
        assert!(copy.energy(&x).unwrap() < machine.energy(&x).unwrap());
    }
    assert!((copy.log_partition() - massive.log_partition()).abs() <= 1e-14);
    // The same bias for all moves the energy, not the density.
    let shifted = plane().with_biases(&[1.5; 3]).unwrap();
    let x = [0.2, -0.7];
    assert!((shifted.energy(&x).unwrap() - machine.energy(&x).unwrap() + 1.5 / 4.).abs() <= 1e-14);
    let [a, b] = [&shifted, &machine].map(|machine| machine.negative_log_likelihood(&x).unwrap());
    assert!((a - b).abs() <= 1e-13);
}

#[test]
fn samples_have_the_moments_of_the_density() {
    for machine in [plane(), biased()] {
        let n = 100_000;
        let samples: Vec<Vec<f64>> =
            (0..n).map(|i| machine.sample(&mut Seed(2).stream("samples").at(0, i))).collect();
        let density = |x: &[f64]| (-machine.negative_log_likelihood(x).unwrap()).exp();
        let moments: [fn(&[f64]) -> f64; 5] =
            [|x| x[0], |x| x[1], |x| x[0] * x[0], |x| x[0] * x[1], |x| x[1].powi(3)];
        for moment in moments {
            let mean = samples.iter().map(|x| moment(x)).sum::<f64>() / n as f64;
            let exact = integral(2, |x| density(x) * moment(x));
            let variance = integral(2, |x| density(x) * (moment(x) - exact).powi(2));
            assert!((mean - exact).abs() <= 4. * (variance / n as f64).sqrt(), "{mean} {exact}");
        }
    }
    assert_eq!(
        plane().sample(&mut Seed(3).stream("s").at(4, 5)),
        plane().sample(&mut Seed(3).stream("s").at(4, 5))
    );
}

#[test]
fn missing_numbers_become_their_conditional_mean() {
    for machine in [plane(), biased()] {
        let density = |y: f64| (-machine.negative_log_likelihood(&[0.3, y]).unwrap()).exp();
        let mean = integral(1, |y| y[0] * density(y[0])) / integral(1, |y| density(y[0]));
        let found = machine.reconstruct(&[0.3, f64::NAN], &[true, false]).unwrap();
        assert!(found[0] == 0.3 && (found[1] - mean).abs() <= 1e-10, "{found:?} {mean}");
    }
    // Nothing observed: the mean of the density. All observed: the sample itself.
    let machine = plane();
    let mean = integral(2, |x| x[0] * (-machine.negative_log_likelihood(x).unwrap()).exp());
    assert!((machine.reconstruct(&[9., 9.], &[false; 2]).unwrap()[0] - mean).abs() <= 1e-10);
    assert_eq!(machine.reconstruct(&[7., 8.], &[true; 2]).unwrap(), [7., 8.]);
    assert!(machine.reconstruct(&[f64::NAN, 8.], &[true; 2]).is_err());
    assert!(machine.reconstruct(&[0.], &[true; 2]).is_err());
}

#[test]
fn large_logits_and_zero_vectors_stay_numbers() {
    let machine = BoltzmannMachine::new(vec![100., 0., 0., -100., 0., 0.], 2, 1.).unwrap();
    for x in [[100., 0.], [0., 0.], [-100., 100.], [1e4, 1e4]] {
        let nll = machine.negative_log_likelihood(&x).unwrap();
        assert!(nll.is_finite() && machine.energy(&x).unwrap().is_finite());
        let total: f64 = machine.responsibilities(&x).unwrap().iter().sum();
        assert!((total - 1.).abs() <= 1e-12);
    }
    // At a unit all others are out of sight: E = −½‖w‖².
    assert!((machine.energy(&[100., 0.]).unwrap() + 5000.).abs() <= 1e-9);
    let zero = BoltzmannMachine::new(vec![0.], 1, 2.).unwrap();
    assert!((zero.negative_log_likelihood(&[0.]).unwrap() - 0.5 * (TAU / 2.).ln()).abs() <= 1e-15);
    assert!(machine.energy(&[1e200, 0.]).is_err());
    assert!(machine.energy(&[f64::NAN, 0.]).is_err());
    assert!(machine.energy(&[0.; 3]).is_err());
}

#[test]
fn what_is_no_machine_is_refused() {
    for (weights, d, beta, field) in [
        (vec![], 2, 1., "weights"),
        (vec![1.], 0, 1., "weights"),
        (vec![1.; 3], 2, 1., "weights"),
        (vec![f64::NAN], 1, 1., "weights"),
        (vec![f64::NEG_INFINITY], 1, 1., "weights"),
        (vec![1e200], 1, 1., "weights"),
        (vec![1.; 2], 1, 1e-305, "weights"),
        (vec![1.], 1, 0., "inverse temperature"),
        (vec![1.], 1, -1., "inverse temperature"),
        (vec![1.], 1, f64::INFINITY, "inverse temperature"),
        (vec![1.], 1, f64::NAN, "inverse temperature"),
    ] {
        let error = BoltzmannMachine::new(weights, d, beta).unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    }
    for biases in [vec![0.; 2], vec![f64::NAN; 3], vec![1e305; 3]] {
        assert!(plane().with_biases(&biases).is_err());
    }
    assert!(BoltzmannMachine::random(0, 2, 1., &mut Seed(1).stream("r").at(0, 0)).is_err());
    assert!(BoltzmannMachine::random(2, 0, 1., &mut Seed(1).stream("r").at(0, 0)).is_err());
    assert!(plane().joined(&biased()).is_err());
    assert!(plane().joined(&BoltzmannMachine::new(vec![0.; 2], 2, 5.).unwrap()).is_err());
}
