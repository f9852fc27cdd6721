//! Estimators against a density that is known: the exact denoiser's mixture of Gaussians.

use super::*;
use candle_core::{DType, Device, Result};
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::{Condition, Denoiser, DifferentiableDenoiser, ExactDenoiser};
use lethe_diffusion::schedule::{NoiseSchedule, ScheduleSpec};
use lethe_hopfield::{HopfieldEnergy, Representation};

fn normal(name: &str, n: u64, d: usize) -> Tensor {
    let ids: Vec<u64> = (0..n).collect();
    let x = Seed(11).stream(name).normal(0, &ids, &[d], &Device::Cpu).unwrap();
    x.to_dtype(DType::F64).unwrap()
}

/// A mixture about few patterns, and points that it might have made.
struct Mixture {
    patterns: Tensor,
    denoiser: ExactDenoiser,
    start: Timestep,
    points: Tensor,
}

impl Mixture {
    /// Four times as many timesteps as usual, read at β = 4: the patterns' basins touch.
    fn new(n: u64, d: usize) -> Self {
        let patterns = (normal("patterns", n, d) * 0.6).unwrap();
        let schedule = NoiseSchedule::new(&ScheduleSpec::default().refined(4)).unwrap();
        let start = schedule.timestep_at_snr(4.);
        let points = (&patterns + (normal("points", n, d) * 0.5).unwrap()).unwrap();
        let denoiser = ExactDenoiser::new(&patterns, schedule).unwrap();
        Self { patterns, denoiser, start, points }
    }

    fn question(&self) -> Question<'_> {
        Question { points: &self.points, start: self.start, batch: 1000 }
    }

    fn ascent(&self, stages: usize) -> Ascent {
        Ascent { stages, end: FinalDensity::of_data(&self.patterns).unwrap() }
    }

    fn beta(&self) -> f64 {
        self.denoiser.schedule().snr(self.start)
    }

    /// The distance form of the Hopfield energy at `points`.
    fn truth(&self, points: &Tensor) -> Vec<f64> {
        let ids = |rows: &Tensor| (0..rows.dims()[0] as u64).collect::<Vec<_>>();
        let stored =
            HopfieldEnergy::new(Representation::Distance, &self.patterns, &ids(&self.patterns));
        stored.unwrap().full(points, &ids(points), self.beta()).unwrap()
    }

    /// β·(found − true), in nats.
    fn errors(&self, found: &[f64]) -> Vec<f64> {
        let pairs = found.iter().zip(self.truth(&self.points));
        pairs.map(|(found, truth)| self.beta() * (found - truth)).collect()
    }

    /// Errors and standard errors in nats.
    fn judge(&self, found: Energies) -> (Vec<f64>, Vec<f64>) {
        let standard_errors = found.standard_errors.unwrap();
        (self.errors(&found.values), standard_errors.iter().map(|x| self.beta() * x).collect())
    }

    fn ito(&self, stages: usize, paths: usize) -> Energies {
        let ito = ItoEnergy { ascent: self.ascent(stages), paths, seed: Seed(1) };
        ito.measure(&self.denoiser, &self.question()).unwrap()
    }

    fn bound(&self, denoiser: &dyn Denoiser, stages: usize, pairs: usize) -> Energies {
        let bound = BoundEnergy { ascent: self.ascent(stages), pairs, seed: Seed(1) };
        bound.measure(denoiser, &self.question()).unwrap()
    }

    fn hutchinson(&self, stages: usize, probes: usize) -> Energies {
        let divergence = Divergence::Hutchinson { probes, seed: Seed(1) };
        let flow = FlowEnergy { ascent: self.ascent(stages), divergence };
        flow.measure(&self.denoiser, &self.question()).unwrap()
    }

    fn flow(&self, denoiser: &dyn DifferentiableDenoiser, stages: usize) -> Result<Energies> {
        let flow = FlowEnergy { ascent: self.ascent(stages), divergence: Divergence::Exact };
        flow.measure(denoiser, &self.question())
    }
}

fn largest(errors: &[f64]) -> f64 {
    errors
        .iter()
        .fold(0., |largest, error| if error.abs() <= largest { largest } else { error.abs() })
}

/// Mean of the errors, and the standard error of that mean.
fn mean((errors, standard_errors): &(Vec<f64>, Vec<f64>)) -> (f64, f64) {
    let n = errors.len() as f64;
    let squares: f64 = standard_errors.iter().map(|error| error * error).sum();
    (errors.iter().sum::<f64>() / n, squares.sqrt() / n)
}

/// Whether every error is within four standard errors, and `slack`, of 0.
fn is_noise((errors, standard_errors): &(Vec<f64>, Vec<f64>), slack: f64) -> bool {
    errors.iter().zip(standard_errors).all(|(error, limit)| error.abs() <= 4. * limit + slack)
}

/// Another's answers with both factors changed: a denoiser that is wrong in a known way.
struct Distorted<'a> {
    inner: &'a ExactDenoiser,
    noise: f64,
    pullback: f64,
}

impl Denoiser for Distorted<'_> {
    fn schedule(&self) -> &NoiseSchedule {
        self.inner.schedule()
    }

    fn noise(&self, x: &Tensor, timesteps: &[Timestep], condition: Condition) -> Result<Tensor> {
        self.inner.noise(x, timesteps, condition)? * self.noise
    }
}

impl DifferentiableDenoiser for Distorted<'_> {
    fn noise_and_pullback(
        &self,
        x: &Tensor,
        timesteps: &[Timestep],
        condition: Condition,
        cotangent: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let found = self.inner.noise_and_pullback(x, timesteps, condition, cotangent)?;
        Ok(((found.0 * self.noise)?, (found.1 * self.pullback)?))
    }
}

#[test]
fn of_a_point_mass_every_draw_tells_the_energy() {
    let mixture = Mixture::new(1, 8);
    let found =
        [mixture.ito(3, 2), mixture.bound(&mixture.denoiser, 3, 2), mixture.hutchinson(3, 2)];
    for found in found {
        let (errors, standard_errors) = mixture.judge(found);
        assert!(largest(&errors) <= 1e-4 && largest(&standard_errors) <= 1e-4, "{errors:?}");
    }
}

#[test]
fn the_flow_finds_the_hopfield_energy_in_second_order() {
    for d in [2, 8] {
        let mixture = Mixture::new(5, d);
        let error = |stages| {
            let found = mixture.flow(&mixture.denoiser, stages).unwrap();
            assert_eq!(found.standard_errors, None);
            largest(&mixture.errors(&found.values))
        };
        let (coarse, fine) = (error(100), error(400));
        assert!(fine <= 3e-4 && coarse >= 6. * fine, "{d}: {coarse} {fine}");
    }
}

#[test]
fn a_divergence_dropped_or_turned_is_caught() {
    let mixture = Mixture::new(5, 8);
    for pullback in [0., -1., 0.99] {
        let wrong = Distorted { inner: &mixture.denoiser, noise: 1., pullback };
        let errors = mixture.errors(&mixture.flow(&wrong, 50).unwrap().values);
        assert!(errors.iter().all(|error| error.abs() >= 0.1), "{pullback}: {errors:?}");
    }
}

#[test]
fn hutchinsons_probes_are_right_in_the_mean() {
    let mixture = Mixture::new(5, 8);
    let exact = mixture.flow(&mixture.denoiser, 40).unwrap();
    let mut found = mixture.hutchinson(40, 200);
    // Against the exact trace on the same ladder nothing but the probes is left.
    for (value, exact) in found.values.iter_mut().zip(&exact.values) {
        *value -= exact;
    }
    let found = (found.values, found.standard_errors.unwrap());
    assert!(is_noise(&found, 0.) && largest(&found.0) > 0., "{found:?}");
    assert!(found.1.iter().all(|error| (1e-3..0.1).contains(error)), "{found:?}");
}

#[test]
fn noising_paths_bound_the_energy_from_above() {
    let mixture = Mixture::new(5, 8);
    let coarse = mean(&mixture.judge(mixture.ito(20, 200)));
    assert!(coarse.0 >= 4. * coarse.1 && coarse.0 <= 1., "{coarse:?}");
    let fine = mixture.judge(mixture.ito(300, 60));
    assert!(is_noise(&fine, 0.03), "{fine:?}");
    let (bias, error) = mean(&fine);
    assert!(bias >= -4. * error && bias <= 0.25 * coarse.0 + 4. * error, "{bias} {error}");
}

#[test]
fn denoising_errors_bound_the_energy_from_above() {
    let mixture = Mixture::new(5, 8);
    let exact = mixture.judge(mixture.bound(&mixture.denoiser, 100, 100));
    assert!(is_noise(&exact, 0.01), "{exact:?}");
    // The points are samples of the density, so that a wrong score must cost in the mean.
    let wrong = Distorted { inner: &mixture.denoiser, noise: 0.8, pullback: 0.8 };
    let (cost, error) = mean(&mixture.judge(mixture.bound(&wrong, 100, 100)));
    assert!(cost >= 0.1 + 4. * error, "{cost} {error}");
}

#[test]
fn lines_find_differences_on_either_path() {
    let mixture = Mixture::new(5, 8);
    let origin = Tensor::zeros(8, DType::F64, &Device::Cpu).unwrap();
    let at_origin = mixture.truth(&origin.unsqueeze(0).unwrap())[0];
    let line = LineEnergy { nodes: 40, bow: 0.5, seed: Seed(1) };
    let found = line.measure(&mixture.denoiser, &mixture.question(), &origin).unwrap();
    for path in [&found.straight, &found.bowed] {
        let above: Vec<f64> = path.iter().map(|energy| energy + at_origin).collect();
        assert!(largest(&mixture.errors(&above)) <= 1e-7, "{:?}", mixture.errors(&above));
    }
    assert!(largest(&found.discrepancies()) > 0.);
    let few = LineEnergy { nodes: 3, ..line };
    let few = few.measure(&mixture.denoiser, &mixture.question(), &origin).unwrap();
    assert!(largest(&few.discrepancies()) >= 1e-4);
}

/// ε̂ + a turn in the plane of the first two coordinates: no gradient of anything.
struct Curling<'a>(&'a ExactDenoiser);

impl Denoiser for Curling<'_> {
    fn schedule(&self) -> &NoiseSchedule {
        self.0.schedule()
    }

    fn noise(&self, x: &Tensor, timesteps: &[Timestep], condition: Condition) -> Result<Tensor> {
        let turn = Tensor::new(&[[0., 0.3], [-0.3, 0.]], &Device::Cpu)?;
        self.0.noise(x, timesteps, condition)? + x.matmul(&turn)?
    }
}

#[test]
fn lines_show_what_is_not_conservative() {
    let mixture = Mixture::new(5, 2);
    let origin = Tensor::zeros(2, DType::F64, &Device::Cpu).unwrap();
    let line = LineEnergy { nodes: 40, bow: 0.5, seed: Seed(1) };
    let found = line.measure(&Curling(&mixture.denoiser), &mixture.question(), &origin).unwrap();
    assert!(found.discrepancies().iter().all(|gap| *gap >= 1e-3), "{found:?}");
}

/// Even a wrong field of velocities carries all probability, if its divergence is its own.
#[test]
fn the_flows_density_sums_to_one_whatever_the_denoiser() {
    let mut mixture = Mixture::new(5, 2);
    let (side, width) = (49, 0.25);
    let place = |i: usize| width * (i as f64 - (side / 2) as f64);
    let plane = (0..side * side).flat_map(|k| [place(k / side), place(k % side)]);
    let plane = plane.collect::<Vec<f64>>();
    mixture.points = Tensor::from_vec(plane, (side * side, 2), &Device::Cpu).unwrap();
    let (variance, beta) = (1. / mixture.beta(), mixture.beta());
    let mass = |found: Energies| {
        let log = |energy: f64| -beta * energy - (std::f64::consts::TAU * variance).ln();
        found.values.iter().map(|&energy| log(energy).exp()).sum::<f64>() * width * width
    };
    let distorted = |noise, pullback| Distorted { inner: &mixture.denoiser, noise, pullback };
    let flow = |noise, pullback| mass(mixture.flow(&distorted(noise, pullback), 60).unwrap());
    assert!((flow(1., 1.) - 1.).abs() <= 5e-3, "{}", flow(1., 1.));
    assert!((flow(0.9, 0.9) - 1.).abs() <= 5e-3, "{}", flow(0.9, 0.9));
    assert!((flow(0.9, 1.) - 1.).abs() >= 0.1, "{}", flow(0.9, 1.));
    let bound = mass(mixture.bound(&distorted(0.9, 0.9), 60, 2));
    assert!((0.5..=1.).contains(&bound), "{bound}");
}

#[test]
fn neither_batch_nor_precision_changes_the_energy() {
    let mixture = Mixture::new(5, 8);
    let flow = FlowEnergy { ascent: mixture.ascent(30), divergence: Divergence::Exact };
    let values = |question: &Question| flow.measure(&mixture.denoiser, question).unwrap().values;
    let whole = values(&mixture.question());
    let parts = values(&Question { batch: 3, ..mixture.question() });
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() <= 1e-12));
    let points = mixture.points.to_dtype(DType::F32).unwrap();
    let single = values(&Question { points: &points, ..mixture.question() });
    assert!(whole.iter().zip(&single).all(|(a, b)| (a - b).abs() <= 1e-5), "{whole:?} {single:?}");
}

#[test]
fn doubts_are_refused_in_words() {
    let mixture = Mixture::new(5, 2);
    let message = |result: Result<Energies>| result.unwrap_err().to_string();
    let broken = Distorted { inner: &mixture.denoiser, noise: f64::NAN, pullback: 1. };
    assert!(message(mixture.flow(&broken, 3)).contains("the predicted noise: not finite"));
    let points = (&mixture.points * f64::INFINITY).unwrap();
    let question = Question { points: &points, ..mixture.question() };
    let ito = ItoEnergy { ascent: mixture.ascent(3), paths: 1, seed: Seed(1) };
    assert!(message(ito.measure(&mixture.denoiser, &question)).contains("the points: not finite"));
    let none = ItoEnergy { paths: 0, ..ito };
    assert!(message(none.measure(&mixture.denoiser, &mixture.question())).contains("a path"));
    let end = FinalDensity { mean: Some(vec![0.; 3]), variance: 1. };
    let bound = BoundEnergy { ascent: Ascent { stages: 3, end }, pairs: 1, seed: Seed(1) };
    let error = message(bound.measure(&mixture.denoiser, &mixture.question()));
    assert!(error.contains("the mean has 3 dimensions, the points 2"), "{error}");
}
