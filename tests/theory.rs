//! The theory against values in 50 digits, the public replication's figures, and the laws of the claim ledger.

use crate::golden::{Tensors, largest};
use lethe::candlex::rng::Seed;
use lethe::hopfield::geometry::Equiangular;
use lethe::hopfield::replay_gain::{gain, gain_by_adding, net_gain, susceptibility};
use lethe::hopfield::rise::{Rises, energy_rises, expected_rise};
use lethe::hopfield::rotation::Generator;
use lethe::hopfield::{Arrival, Form, Network, Recall, Vectors, association, eigenvalues};
use lethe::ledger::statistics::{Bootstrap, Interval, Side};

const CASES: [&str; 7] = ["small", "geometry", "heavy", "steep", "doubled", "merged", "line"];

fn golden() -> Tensors {
    Tensors::open("theory.safetensors")
}

fn vectors(golden: &mut Tensors, name: &str) -> Vectors {
    let tensor = golden.get(name);
    Vectors::new(golden.numbers(name), tensor.dim(1).unwrap()).unwrap()
}

fn network(golden: &mut Tensors, case: &str) -> Network {
    let patterns = vectors(golden, &format!("{case}.patterns"));
    let beta = golden.number(&format!("{case}.inverse_temperature"));
    let masses = golden.numbers(&format!("{case}.masses"));
    Network::new(patterns, beta).unwrap().with_masses(&masses).unwrap()
}

/// max |a − b| / (1 + max |b|); a NaN makes it infinite.
fn off(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = 1. + largest(expected.iter().map(|x| x.abs()));
    let worst = |worst: f64, (a, b): (&f64, &f64)| {
        if (a - b).is_nan() { f64::INFINITY } else { worst.max((a - b).abs()) }
    };
    found.iter().zip(expected).fold(0., worst) / scale
}

fn assert_near(found: &[f64], expected: &[f64], bound: f64, what: &str) {
    let off = off(found, expected);
    assert!(off <= bound, "{what} is off by {off:e}, {bound:e} are allowed");
}

#[test]
fn a_state_is_recalled_to_twelve_digits() {
    let mut golden = golden();
    for case in CASES {
        let network = network(&mut golden, case);
        let queries = vectors(&mut golden, &format!("{case}.queries"));
        let recalls: Vec<Recall> = queries.rows().map(|x| network.recall(x).unwrap()).collect();
        let all =
            |of: &dyn Fn(&Recall) -> Vec<f64>| recalls.iter().flat_map(of).collect::<Vec<_>>();
        let gradients: Vec<f64> = queries
            .values()
            .iter()
            .zip(all(&|recall| recall.retrieved.clone()))
            .map(|(x, f)| x - f)
            .collect();
        // Probabilities carry the rounding of their logits.
        let logits = if case == "steep" { 1e4 } else { 1e2 };
        let soft = 1e-16 * logits + 1e-14;
        for (name, found, bound) in [
            ("energy", all(&|recall| vec![recall.energy]), 1e-13),
            ("softmax", all(&|recall| recall.association.clone()), soft),
            ("retrieved", all(&|recall| recall.retrieved.clone()), soft),
            ("gradient", gradients, soft),
            ("entropy", all(&|recall| vec![recall.entropy]), 10. * soft),
        ] {
            let name = format!("{case}.{name}");
            assert_near(&found, &golden.numbers(&name), bound, &name);
        }
        let beta = network.inverse_temperature();
        let masses = golden.numbers(&format!("{case}.masses"));
        let logs: Vec<f64> = masses.iter().map(|mass| mass.ln()).collect();
        for (form, name) in [(Form::Dot, "softmax"), (Form::Distance, "distance_softmax")] {
            let found =
                association(form, beta, &queries, network.patterns(), Some(&logs), None).unwrap();
            let name = format!("{case}.{name}");
            assert_near(&found, &golden.numbers(&name), soft, &name);
        }
    }
}

#[test]
fn curvature_paths_and_fixed_points_are_those_in_fifty_digits() {
    let mut golden = golden();
    for case in CASES {
        let network = network(&mut golden, case);
        let (beta, d) = (network.inverse_temperature(), network.patterns().d());
        let queries = vectors(&mut golden, &format!("{case}.queries"));
        let hessians: Vec<f64> = queries.rows().flat_map(|x| network.hessian(x).unwrap()).collect();
        let bound = 1e-12 * if case == "steep" { 10. } else { 1. };
        assert_near(&hessians, &golden.numbers(&format!("{case}.hessian")), bound, case);
        let spectra: Vec<f64> =
            hessians.chunks(d * d).flat_map(|hessian| eigenvalues(hessian.to_vec(), d)).collect();
        assert_near(&spectra, &golden.numbers(&format!("{case}.eigenvalues")), bound, case);

        let path = network.path(queries.row(0), 20).unwrap();
        let (states, energies) = (format!("{case}.path"), format!("{case}.path_energy"));
        let found: Vec<f64> = path.rows().map(|x| network.energy(x).unwrap()).collect();
        assert_near(&found, &golden.numbers(&energies), 1e-13, &energies);
        // Where the path leaves an unstable point each update multiplies what was rounded.
        assert_near(path.values(), &golden.numbers(&states), 1e-12, &states);

        let expected = vectors(&mut golden, &format!("{case}.fixed_points"));
        let arrival = Arrival { residual: 1e-15, updates: 3000 };
        let mut rises = Vec::new();
        let energies = golden.numbers(&format!("{case}.fixed_point_energy"));
        for (k, (pattern, expected)) in network.patterns().rows().zip(expected.rows()).enumerate() {
            let found = network.fixed_point(pattern, arrival).unwrap().state;
            // What is left of the way is the residual over 1 − βλ.
            let slack = 4e-15 / (1. - network.flatness(expected).unwrap()).max(1e-3);
            assert_near(&found, expected, slack.max(1e-14), &format!("{case}: fixed point {k}"));
            let recall = network.recall(&found).unwrap();
            assert_near(&[recall.energy], &[energies[k]], 1e-13, case);
            rises.push(expected_rise(&network, expected, 2.).unwrap() / 4.);
            let trace: f64 = network.covariance(&found).unwrap().iter().step_by(d + 1).sum();
            let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
            let mean_square: f64 = recall
                .association
                .iter()
                .zip(network.patterns().rows())
                .map(|(p, xi)| p * square(xi))
                .sum();
            assert_near(&[trace], &[mean_square - square(&found)], 1e-12, "tr C = <‖ξ‖²> − m₂");
            assert!(beta > 0.);
        }
        // x′Hx of a nearly isolated pattern of norm 3 at β 1000 is a difference: hence the scale.
        let name = format!("{case}.expected_rise");
        assert_near(&rises, &golden.numbers(&name), 1e-11, &name);
    }
}

#[test]
fn a_rotated_task_and_its_gains_are_those_in_fifty_digits() {
    let mut golden = golden();
    let beta = golden.number("rotation.inverse_temperature");
    let patterns = vectors(&mut golden, "rotation.patterns");
    let points = vectors(&mut golden, "rotation.fixed_points");
    let d = patterns.d();
    let angles = golden.numbers("rotation.epsilons");
    let generator = Generator::new(golden.numbers("rotation.omega"), d).unwrap();
    let mut identity = vec![0.; d * d];
    identity.iter_mut().step_by(d + 1).for_each(|x| *x = 1.);
    let identity = Vectors::new(identity, d).unwrap();
    let network = Network::new(patterns.clone(), beta).unwrap();
    let (mut rises, mut gains, mut nets, mut added) = (vec![], vec![], vec![], vec![]);
    for (i, &angle) in angles.iter().enumerate() {
        // Row j is V e_j: the transpose of V.
        let columns = generator.rotate(&[angle], &identity).unwrap().remove(0);
        let expected = golden.numbers("rotation.exponential");
        for (j, column) in columns.rows().enumerate() {
            let expected: Vec<f64> = (0..d).map(|k| expected[i * d * d + k * d + j]).collect();
            assert_near(column, &expected, 2e-14, &format!("exp({angle} Ω)"));
        }
        let turned = generator.rotate(&[angle], &patterns).unwrap().remove(0);
        let new = Network::new(turned, beta).unwrap();
        for x in points.rows() {
            let recall = network.recall(x).unwrap();
            let rise = new.energy(x).unwrap() - recall.energy;
            rises.push(rise);
            for (&p, source) in recall.association.iter().zip(patterns.rows()) {
                gains.push(gain(p, rise, beta));
                nets.push(net_gain(rise, beta)(susceptibility(p)));
                added.push(gain_by_adding(&new, source, x).unwrap());
            }
        }
    }
    assert_near(&rises, &golden.numbers("rotation.energy_rises"), 2e-14, "energy rise");
    assert_near(&gains, &golden.numbers("rotation.gains"), 2e-14, "gain, eq. 14");
    assert_near(&added, &golden.numbers("rotation.gains"), 2e-14, "gain, eq. 13");
    // Net gains are small: to their own digits, as far as the rise has them.
    let expected = golden.numbers("rotation.net_gains");
    for (found, expected) in nets.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs() + 1e-17, "{found} {expected}");
    }
    let p: Vec<f64> = points.rows().flat_map(|x| network.recall(x).unwrap().association).collect();
    assert_near(&p, &golden.numbers("rotation.softmax"), 1e-14, "association");
    let rho: Vec<f64> = p.iter().map(|&p| susceptibility(p)).collect();
    assert_near(&rho, &golden.numbers("rotation.susceptibility"), 1e-14, "susceptibility");
    // Several at once: their masses times their associations add up.
    let masses = golden.numbers("rotation.replay_masses");
    let joint: Vec<f64> = rises
        .iter()
        .enumerate()
        .map(|(at, &rise)| {
            let k = at % points.len();
            let row = &p[k * masses.len()..(k + 1) * masses.len()];
            gain(row.iter().zip(&masses).map(|(p, a)| p * a).sum(), rise, beta)
        })
        .collect();
    assert_near(&joint, &golden.numbers("rotation.joint_gains"), 2e-14, "joint gain");
}

#[test]
fn expected_rises_are_those_in_fifty_digits() {
    let mut golden = golden();
    let [n, c, d, beta] = ["n", "overlap", "dimension", "inverse_temperature"]
        .map(|name| golden.numbers(&format!("expected.{name}")));
    let (rises, own) = (golden.numbers("expected.rise"), golden.numbers("expected.p_self"));
    for i in 0..n.len() {
        let (cluster, dimension) = (n[i] as usize, d[i] as usize);
        let geometry = Equiangular { cluster, overlap: c[i], dimension };
        let network = Network::new(geometry.patterns().unwrap(), beta[i]).unwrap();
        for (at, k) in [(2 * i, 0), (2 * i + 1, cluster)] {
            let arrival = Arrival { residual: 1e-15, updates: 100_000 };
            let x = network.fixed_point(network.patterns().row(k), arrival).unwrap().state;
            let slack = 1e-14 / (1. - network.flatness(&x).unwrap()).max(1e-4);
            let found = [expected_rise(&network, &x, 1.).unwrap()];
            assert_near(&found, &rises[at..=at], slack, &format!("expected rise {i}"));
            let p = network.recall(&x).unwrap().association[k];
            assert_near(&[p], &own[at..=at], slack, &format!("association {i}"));
        }
    }
}

/// The paper's setting, measured anew with `seed`.
struct Measured {
    network: Network,
    recalls: Vec<Recall>,
    rises: Vec<Rises>,
}

const ANGLES: [f64; 2] = [0.05, 0.02];
const OUTLIER: usize = 12;

fn measure(seed: u64) -> Measured {
    let network = Network::new(Equiangular::default().patterns().unwrap(), 8.).unwrap();
    let points = network.fixed_points(Arrival::default()).unwrap();
    let stream = Seed(seed).stream("rotations");
    let rises = energy_rises(&network, &points, &ANGLES, 2000, stream).unwrap();
    let recalls = points.rows().map(|x| network.recall(x).unwrap()).collect();
    Measured { network, recalls, rises }
}

fn cluster(rises: &Rises) -> Vec<f64> {
    rises.rotations().map(|rises| rises[..OUTLIER].iter().sum::<f64>() / OUTLIER as f64).collect()
}

/// Net gain of the five families in each rotation: self of outlier and cluster, within, to cluster, to outlier.
fn families(measured: &Measured, rises: &Rises, of: impl Fn(f64, f64) -> f64) -> [Vec<f64>; 5] {
    let mean = |rises: &[f64],
                targets: std::ops::Range<usize>,
                is_source: &dyn Fn(usize, usize) -> bool| {
        let pairs = targets.flat_map(|target| (0..=OUTLIER).map(move |source| (target, source)));
        let gains: Vec<f64> = pairs
            .filter(|&(target, source)| is_source(target, source))
            .map(|(target, source)| of(measured.recalls[target].association[source], rises[target]))
            .collect();
        gains.iter().sum::<f64>() / gains.len() as f64
    };
    let column = |targets: std::ops::Range<usize>, is_source: &dyn Fn(usize, usize) -> bool| {
        rises.rotations().map(|rises| mean(rises, targets.clone(), is_source)).collect::<Vec<f64>>()
    };
    [
        column(OUTLIER..OUTLIER + 1, &|_, source| source == OUTLIER),
        column(0..OUTLIER, &|target, source| source == target),
        column(0..OUTLIER, &|target, source| source != target && source != OUTLIER),
        column(0..OUTLIER, &|_, source| source == OUTLIER),
        column(OUTLIER..OUTLIER + 1, &|_, source| source != OUTLIER),
    ]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard error of the mean of `values`.
fn standard_error(values: &[f64]) -> f64 {
    let centre = mean(values);
    let n = values.len() as f64;
    (values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (n - 1.) / n).sqrt()
}

fn difference(a: &[f64], b: &[f64]) -> Interval {
    Bootstrap::default().mean_difference(a, b).unwrap()
}

/// Outlier and cluster rise, then the five net gains: the public replication's means over 2000 rotations.
const PUBLISHED: [[f64; 7]; 2] = [
    [0.030_051_2, 0.026_227_3, 0.015_931_78, 0.013_179_55, 2.477_0e-4, 1.461_8e-5, 1.195_9e-5],
    [0.004_853_28, 0.004_255_33, 0.002_446_07, 0.002_041_17, 3.662_8e-5, 2.159_7e-6, 1.733_9e-6],
];

/// A1 to A6 of the claim ledger, and the published means, with the tolerances given there.
#[test]
fn the_claims_hold_and_the_published_means_are_met() {
    let measured = measure(1);
    let Measured { network, recalls, rises } = &measured;
    let energy = |k: usize| recalls[k].energy;
    assert!((0..OUTLIER).all(|k| energy(OUTLIER) > energy(k)), "A1");
    let pattern = |k: usize| network.energy(network.patterns().row(k)).unwrap();
    for (found, published) in [
        (pattern(0), -0.507_404),
        (pattern(OUTLIER), -0.500_502),
        (energy(0), -0.509_232),
        (energy(OUTLIER), -0.500_514),
    ] {
        assert!((found - published).abs() <= 5.1e-7, "{found} {published}");
    }
    for (rises, published) in rises.iter().zip(PUBLISHED) {
        let angle = rises.angle;
        let (outlier, cluster) = (rises.of_state(OUTLIER), cluster(rises));
        assert_eq!(difference(&outlier, &cluster).side(), Side::Above, "A2 at {angle}");
        let points = network.fixed_points(Arrival::default()).unwrap();
        for (values, k) in [(&outlier, OUTLIER), (&cluster, 0)] {
            let law = expected_rise(network, points.row(k), angle).unwrap();
            let bound = if angle <= 0.02 { 0.03 } else { 0.05 };
            assert!((mean(values) / law - 1.).abs() <= bound, "A3 at {angle}");
        }
        let nets = families(&measured, rises, |p, rise| net_gain(rise, 8.)(susceptibility(p)));
        let firsts = families(&measured, rises, |p, rise| susceptibility(p) * rise);
        for pair in [[0, 1], [1, 2], [2, 3], [2, 4]] {
            let gap = difference(&nets[pair[0]], &nets[pair[1]]);
            assert_eq!(gap.side(), Side::Above, "A5 at {angle}: {pair:?}");
        }
        for (net, first) in nets.iter().zip(&firsts) {
            let excess = mean(net) / mean(first) - 1.;
            // Convex in the rise: the first order is never above.
            let bound = if angle <= 0.02 { 0.03 } else { 0.17 };
            assert!((0. ..=bound).contains(&excess), "A6 at {angle}: {excess}");
        }
        let columns = [&[outlier, cluster][..], &nets].concat();
        for (column, published) in columns.iter().zip(published) {
            // Both means have the error of 2000 rotations.
            let distance = (mean(column) - published) / (2f64.sqrt() * standard_error(column));
            assert!(distance.abs() <= 3., "{published} at {angle}: {distance} standard errors");
        }
    }
}

/// The control: two seeds agree within their errors, and their errors are of the size that they claim.
#[test]
fn another_seed_changes_means_by_their_standard_errors() {
    let seeds: Vec<Measured> = (2..8).map(measure).collect();
    for angle in 0..ANGLES.len() {
        let columns: Vec<Vec<f64>> =
            seeds.iter().map(|measured| measured.rises[angle].of_state(OUTLIER)).collect();
        let means: Vec<f64> = columns.iter().map(|column| mean(column)).collect();
        let claimed =
            mean(&columns.iter().map(|column| standard_error(column)).collect::<Vec<_>>());
        let centre = mean(&means);
        let found = means.iter().map(|mean| (mean - centre).powi(2)).sum::<f64>() / 5.;
        // χ² with 5 degrees of freedom, from its .0005 to its .9995 quantile.
        let chi = 5. * found / (claimed * claimed);
        assert!((0.158..=22.1).contains(&chi), "{chi}");
        assert_ne!(means[0], means[1]);
    }
}

/// A rotation that moves nothing gains nothing and raises nothing: the claims can fail.
#[test]
fn without_a_rotation_the_claims_do_not_hold() {
    let Measured { network, .. } = measure(1);
    let points = network.fixed_points(Arrival::default()).unwrap();
    let still = energy_rises(&network, &points, &[0.], 20, Seed(1).stream("rotations")).unwrap();
    let rises = still[0].of_state(OUTLIER);
    assert!(rises.iter().all(|&rise| rise == 0.));
    assert_eq!(difference(&rises, &cluster(&still[0])).side(), Side::Straddles);
    assert_eq!(net_gain(0., 8.)(0.475), 0.);
}
