//! The Boltzmann machine against values in 50 digits, and claim B1: its trained energies order as the closed form's.

use crate::golden::{Tensors, largest};
use lethe::candlex::rng::Seed;
use lethe::hopfield::boltzmann::{
    Batch, BoltzmannMachine, Learner, Recipe, Sampling, Source, Teacher, train,
};
use lethe::hopfield::geometry::Equiangular;
use lethe::hopfield::rotation::Generator;
use lethe::hopfield::{Arrival, Network, Vectors};
use lethe::ledger::statistics::{Bootstrap, Side};
use rayon::prelude::*;

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let off = largest(found.iter().zip(expected).map(|(a, b)| (a - b).abs() / (1. + b.abs())));
    assert!(off <= 1e-14 * 4., "{what} is off by {off:e}");
}

#[test]
fn densities_and_gradients_are_those_in_fifty_digits() {
    let mut golden = Tensors::open("theory.safetensors");
    let points = golden.numbers("boltzmann.points");
    let weights = golden.numbers("boltzmann.weights");
    let biases = golden.numbers("boltzmann.biases");
    let beta = golden.number("boltzmann.inverse_temperature");
    let plain = BoltzmannMachine::new(weights, 2, beta).unwrap();
    // Biases of 0 change nothing but that they have a gradient.
    let unbiased = plain.clone().with_biases(&[0.; 3]).unwrap();
    let biased = plain.clone().with_biases(&biases).unwrap();
    for (case, machine) in [("plain", &plain), ("plain", &unbiased), ("biased", &biased)] {
        let mut expected = |name: &str| golden.numbers(&format!("boltzmann.{case}.{name}"));
        let all =
            |of: &dyn Fn(&[f64]) -> Vec<f64>| points.chunks(2).flat_map(of).collect::<Vec<f64>>();
        assert_near(&all(&|x| vec![machine.energy(x).unwrap()]), &expected("energy"), "energy");
        let nll = all(&|x| vec![machine.negative_log_likelihood(x).unwrap()]);
        assert_near(&nll, &expected("nll"), "−log p");
        let normalized = all(&|x| vec![beta * machine.normalized_energy(x).unwrap()]);
        assert_near(&normalized, &expected("nll"), "normalized energy");
        let r = all(&|x| machine.responsibilities(x).unwrap());
        assert_near(&r, &expected("responsibilities"), "responsibilities");
        assert_near(&[machine.log_partition()], &expected("log_partition"), "log Z");
        assert_near(&machine.mixture_weights(), &expected("shares"), "mixture weights");
        let gradient = machine.gradient(&Batch::new(points.clone(), 2).unwrap()).unwrap();
        assert_near(&[gradient.mean_nll], &expected("mean_nll"), "mean of −log p");
        assert_near(&gradient.weights, &expected("weights_gradient"), "gradient of the weights");
        if let Some(biases) = gradient.biases {
            assert_near(&biases, &expected("biases_gradient"), "gradient of the biases");
        }
    }
}

const D: usize = 50;
const ANGLE: f64 = 0.05;
const ROTATIONS: u64 = 50;

/// The same draws for every task: a rotated task's samples are those of task 1, rotated.
fn teacher(machine: &BoltzmannMachine) -> Teacher {
    let stream = Seed(1).stream("teacher");
    Teacher::new(machine.clone(), stream, 256).unwrap().sampling(Sampling::Balanced)
}

fn learn(start: &BoltzmannMachine, source: &dyn Source) -> BoltzmannMachine {
    let recipe = Recipe { steps: 1200, learning_rate: 5e-3 };
    train(&[source], &[Learner::new(start.clone())], &recipe).unwrap().remove(0)
}

/// B1: 50 second tasks, each learned from samples of the rotated patterns, from the machine of task 1.
#[test]
fn trained_machines_order_as_the_closed_form() {
    let patterns = Equiangular::default().patterns().unwrap();
    let network = Network::new(patterns.clone(), 8.).unwrap();
    let points = network.fixed_points(Arrival::default()).unwrap();
    let exact = BoltzmannMachine::new(patterns.values().to_vec(), D, 8.).unwrap();
    let random =
        BoltzmannMachine::random(13, D, 8., &mut Seed(1).stream("units").at(0, 0)).unwrap();
    let first = learn(&learn(&random, &teacher(&exact)), &teacher(&exact));
    let held_out = Teacher::new(exact.clone(), Seed(1).stream("held out"), 20_000).unwrap();
    let held_out = held_out.batch(0).unwrap();
    let nll = |machine: &BoltzmannMachine| machine.gradient(&held_out).unwrap().mean_nll;
    assert!(nll(&first) - nll(&exact) <= 0.01, "{} against {}", nll(&first), nll(&exact));
    let energies = |machine: &BoltzmannMachine| -> Vec<f64> {
        points.rows().map(|x| machine.energy(x).unwrap()).collect()
    };
    let before = energies(&first);
    assert!(before[..12].iter().all(|cluster| before[12] > *cluster), "A1: {before:?}");
    let mut identity = vec![0.; D * D];
    identity.iter_mut().step_by(D + 1).for_each(|x| *x = 1.);
    let identity = Vectors::new(identity, D).unwrap();
    let rises = |rotation: u64| -> (f64, f64, f64) {
        let generator = Generator::draw(D, &mut Seed(1).stream("rotations").at(0, rotation));
        // Rows V(−ε) e_j are the columns of Vᵀ: V row after row.
        let v = generator.rotate(&[-ANGLE], &identity).unwrap().remove(0).values().to_vec();
        let second = learn(&first, &teacher(&exact).rotated(v).unwrap());
        let rise: Vec<f64> = energies(&second).iter().zip(&before).map(|(a, b)| a - b).collect();
        let back = generator.rotate(&[-ANGLE], &points).unwrap().remove(0);
        let closed =
            network.energy(back.row(12)).unwrap() - network.energy(points.row(12)).unwrap();
        (rise[12], rise[..12].iter().sum::<f64>() / 12., closed)
    };
    let found: Vec<(f64, f64, f64)> = (0..ROTATIONS).into_par_iter().map(rises).collect();
    let column = |of: fn(&(f64, f64, f64)) -> f64| found.iter().map(of).collect::<Vec<f64>>();
    let (outlier, cluster, closed) = (column(|f| f.0), column(|f| f.1), column(|f| f.2));
    let bootstrap = Bootstrap::default();
    let gap = bootstrap.mean_difference(&outlier, &cluster).unwrap();
    assert_eq!(gap.side(), Side::Above, "A2: {gap:?}");
    // And the learned rise is the closed form's, rotation by rotation.
    let off = bootstrap.mean_difference(&outlier, &closed).unwrap();
    assert!(off.estimate.abs() <= 0.1 * bootstrap.mean(&closed).unwrap().estimate, "{off:?}");
}
