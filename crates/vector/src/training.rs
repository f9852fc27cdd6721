//! One task's optimization: denoising score matching by AdamW, with a moving average of the weights.
//!
//! Law: L = mean_b λ(t_b)·‖x̂₀ − x₀‖²/d with λ the perceptron's [`Perceptron::loss_weight`]; Karras et al. 2022, eq. 8.
//! Everything random in step s is a function of (seed, task, s, sample). Levels and places in the source fill the square
//! of their quantiles evenly in every batch, which changes no mean and makes the gradient less noisy.
//!
//! Two fits from one start under one [`Task`] see the same noise, whatever their data: what differs between them is owed
//! to the data, and little of it to chance. So a task's control is the old data under the new task's number.

use crate::{Perceptron, Source, VectorError};
use candle_core::{Device, Tensor};
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_candlex::tape::{Gradients, Tape, Value};
use lethe_diffusion::denoiser::{Condition, Network, Pass};
use lethe_diffusion::objective::denoising_loss;
use lethe_diffusion::parameterization::perturb;
use lethe_diffusion::schedule::{NoiseSchedule, Timestep};
use lethe_kernels::adamw::{AdamW, Moments};
use lethe_kernels::ema::{lerp, norm};
use serde::{Deserialize, Serialize};

/// The share of samples that are spread evenly over all levels, whatever the focus.
const EVEN: f64 = 0.1;

/// 1/φ: multiples of it fill the unit interval most evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// How a task is learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSpec {
    /// Optimizer steps.
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// AdamW's η at its height; it falls along half a cosine to 0 at the last step.
    pub learning_rate: f64,
    /// Steps over which η rises from 0.
    pub warm_up: u64,
    /// AdamW's β₁.
    pub first_decay: f64,
    /// AdamW's β₂.
    pub second_decay: f64,
    /// AdamW's ε.
    pub epsilon: f64,
    /// AdamW's λ.
    pub weight_decay: f64,
    /// Gradients longer than this are scaled back to it.
    pub clip: f64,
    /// Half-life of the moving average, as a share of the steps so far; 0 keeps no average.
    pub average: f64,
    /// The least noisy level that is learned: below where energies are read, none is needed.
    pub first_level: Timestep,
    /// γ: levels are drawn evenly in log v for 0, with density v^−γ in log v else.
    pub focus: f64,
}

impl Default for TrainingSpec {
    fn default() -> Self {
        Self {
            steps: 4000,
            batch: 256,
            learning_rate: 2e-3,
            warm_up: 100,
            first_decay: 0.9,
            second_decay: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.,
            clip: 1.,
            average: 0.05,
            first_level: Timestep(0),
            focus: 0.5,
        }
    }
}

/// Which task, by whose noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The run's seed.
    pub seed: Seed,
    /// Number of the task, from 1.
    pub number: u32,
}

/// What a task leaves.
#[derive(Debug)]
pub struct Fitted {
    /// The moving average of the weights, or the weights where none is kept: measured, and the next task's start.
    pub store: ParamStore,
    /// The loss of every step.
    pub losses: Vec<f64>,
}

/// Learns `source` from `start`, which stays as it is: fresh numbers, or those that an earlier task left.
///
/// # Errors
/// [`VectorError::Spec`] for an impossible field, [`VectorError::Diverged`] when a loss or gradient is not finite.
pub fn fit(
    network: &Perceptron,
    start: &ParamStore,
    source: &dyn Source,
    spec: &TrainingSpec,
    task: Task,
) -> Result<Fitted, VectorError> {
    check(network, source, spec)?;
    let levels = Levels::new(network.schedule(), spec);
    let (weights, average) = (start.duplicate()?, start.duplicate()?);
    let zeros = || weights.flat().zeros_like();
    let moments = Moments { first: zeros()?, second: zeros()? };
    let mut losses = Vec::with_capacity(spec.steps as usize);
    for step in 0..spec.steps {
        let diverged = |what| VectorError::Diverged { task: task.number, step, what };
        let batch = Batch::draw(network, source, spec, &levels, task, step as u32)?;
        let (loss, gradients) = batch.gradients(network, &weights)?;
        let gradients = flatten(&weights, &gradients)?;
        let length = norm(&gradients)?;
        if !(loss.is_finite() && length.is_finite()) {
            return Err(diverged(if loss.is_finite() { "the gradient" } else { "the loss" }));
        }
        let scale = (spec.clip / length.max(f64::MIN_POSITIVE)).min(1.);
        spec.law(step).step(step + 1, weights.flat(), &gradients, &moments, scale)?;
        let kept = if spec.average > 0. {
            libm::exp2(-1. / (spec.average * (step + 1) as f64))
        } else {
            0.
        };
        lerp(average.flat(), weights.flat(), 1. - kept, 1.)?;
        losses.push(loss);
    }
    Ok(Fitted { store: average, losses })
}

fn check(
    network: &Perceptron,
    source: &dyn Source,
    spec: &TrainingSpec,
) -> Result<(), VectorError> {
    if source.dimensions() != network.spec().dimensions {
        let expected = "as many as the network has";
        return Err(VectorError::spec("dimensions", expected, source.dimensions()));
    }
    if spec.batch == 0 {
        return Err(VectorError::spec("batch", "at least 1", spec.batch));
    }
    if spec.first_level.0 >= network.schedule().timesteps() {
        let expected = "a timestep of the schedule";
        return Err(VectorError::spec("first_level", expected, spec.first_level.0));
    }
    let at_least_zero = [
        ("learning_rate", spec.learning_rate),
        ("clip", spec.clip),
        ("average", spec.average),
        ("focus", spec.focus),
    ];
    match at_least_zero.into_iter().find(|(_, x)| !(*x >= 0. && x.is_finite())) {
        Some((field, x)) => Err(VectorError::spec(field, "a finite number, at least 0", x)),
        None => Ok(()),
    }
}

impl TrainingSpec {
    fn law(&self, step: u64) -> AdamW {
        let rise = ((step + 1) as f64 / (self.warm_up + 1) as f64).min(1.);
        let fall = 0.5 * (1. + libm::cos(std::f64::consts::PI * step as f64 / self.steps as f64));
        AdamW {
            learning_rate: self.learning_rate * rise * fall,
            first_decay: self.first_decay,
            second_decay: self.second_decay,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
        }
    }
}

/// How often each level is learned.
struct Levels {
    first: usize,
    /// Probability of all levels up to each, from the first.
    reached: Vec<f64>,
}

impl Levels {
    fn new(schedule: &NoiseSchedule, spec: &TrainingSpec) -> Self {
        let (first, last) = (spec.first_level.0, schedule.timesteps() - 1);
        let depth = |t: usize| -schedule.snr(Timestep(t)).ln();
        // Each timestep stands for the stretch of log v halfway to its neighbours.
        let stretch = |t: usize| depth((t + 1).min(last)) - depth(t.saturating_sub(1).max(first));
        let pull = |t: usize| stretch(t) * libm::exp(spec.focus * (depth(first) - depth(t)));
        let (stretches, pulls): (f64, f64) =
            (first..=last).fold((0., 0.), |(a, b), t| (a + stretch(t), b + pull(t)));
        let mut sum = 0.;
        let share = |t: usize| match stretches > 0. {
            true => EVEN * stretch(t) / stretches + (1. - EVEN) * pull(t) / pulls,
            false => 1.,
        };
        let reached = (first..=last).map(|t| {
            sum += share(t);
            sum
        });
        Self { first, reached: reached.collect() }
    }

    /// The level below which a share `quantile` of samples lies.
    fn at(&self, quantile: f64) -> Timestep {
        let place = self.reached.partition_point(|&reached| reached <= quantile);
        Timestep(self.first + place.min(self.reached.len() - 1))
    }
}

/// The samples of one step.
struct Batch {
    timesteps: Vec<Timestep>,
    x: Tensor,
    clean: Tensor,
}

impl Batch {
    fn draw(
        network: &Perceptron,
        source: &dyn Source,
        spec: &TrainingSpec,
        levels: &Levels,
        task: Task,
        step: u32,
    ) -> Result<Self, VectorError> {
        let stream = |name| task.seed.task_stream(name, task.number);
        let (n, d) = (spec.batch, source.dimensions());
        let turn = stream("vector place").at(step, 0).uniform();
        let mut clean = vec![0f32; n * d];
        for (k, row) in clean.chunks_mut(d).enumerate() {
            source.draw((turn + k as f64 * GOLDEN).fract(), row);
        }
        let level = |k: usize| {
            let within = stream("vector level").at(step, k as u64).uniform();
            levels.at((k as f64 + within) / n as f64)
        };
        let timesteps: Vec<Timestep> = (0..n).map(level).collect();
        let clean = Tensor::from_vec(clean, (n, d), &Device::Cpu)?;
        let samples: Vec<u64> = (0..n as u64).collect();
        let noise = stream("vector noise").normal(step, &samples, &[d], &Device::Cpu)?;
        let x = perturb(network.schedule(), &clean, &noise, &timesteps)?;
        Ok(Self { timesteps, x, clean })
    }

    fn gradients(
        &self,
        network: &Perceptron,
        weights: &ParamStore,
    ) -> Result<(f64, Gradients), VectorError> {
        let tape = Tape::recording(weights);
        let heights: Vec<f64> = self.timesteps.iter().map(|t| t.0 as f64).collect();
        let pass = Pass::plain(Condition::Unconditional);
        let output = network.forward(&tape, &Value::constant(self.x.clone()), &heights, &pass)?;
        let worth: Vec<f64> = self.timesteps.iter().map(|&t| network.loss_weight(t)).collect();
        let loss = denoising_loss(output.tensor(), &self.clean, &worth)?;
        Ok((loss.mean, tape.backward(&output, loss.gradient)?))
    }
}

/// All gradients one after another, [n_elements]; zeros where the loss does not reach.
fn flatten(store: &ParamStore, gradients: &Gradients) -> Result<Tensor, VectorError> {
    let part = |index: usize| match gradients.parameter(index) {
        Some(gradient) => gradient.flatten_all(),
        None => store.tensor(index).zeros_like()?.flatten_all(),
    };
    let parts = (0..store.len()).map(part).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Patterns, PerceptronSpec};
    use lethe_diffusion::denoiser::{Denoiser, ExactDenoiser};
    use lethe_diffusion::schedule::ScheduleSpec;

    fn schedule() -> NoiseSchedule {
        NoiseSchedule::new(&ScheduleSpec::default()).unwrap()
    }

    fn network() -> Perceptron {
        let spec = PerceptronSpec {
            dimensions: 2,
            width: 16,
            blocks: 1,
            level_channels: 8,
            data_deviation: 0.7,
        };
        Perceptron::new(&spec, &schedule()).unwrap()
    }

    fn triangle() -> Tensor {
        Tensor::new(&[[1f32, 0.], [-0.5, 0.8], [-0.5, -0.8]], &Device::Cpu).unwrap()
    }

    const TASK: Task = Task { seed: Seed(5), number: 1 };

    fn spec(steps: u64) -> TrainingSpec {
        TrainingSpec {
            steps,
            batch: 32,
            learning_rate: 1e-2,
            warm_up: 10,
            first_level: Timestep(100),
            ..Default::default()
        }
    }

    fn numbers(store: &ParamStore) -> Vec<f32> {
        store.flat().to_vec1().unwrap()
    }

    /// Mean square of α/σ·(x̂₀ − E[x₀ | x]) over noised patterns and levels.
    fn error(network: &Perceptron, store: &ParamStore) -> f64 {
        let exact = ExactDenoiser::new(&triangle(), schedule()).unwrap();
        let learned = network.denoiser(store);
        let errors = [100, 200, 300, 500].map(|t| {
            let times = [Timestep(t); 3];
            let noise = Seed(9).stream("error").normal(t as u32, &[0, 1, 2], &[2], &Device::Cpu);
            let x = perturb(&schedule(), &triangle(), &noise.unwrap(), &times).unwrap();
            let noise = |denoiser: &dyn Denoiser| {
                denoiser.noise(&x, &times, Condition::Unconditional).unwrap()
            };
            let missed = (noise(&exact) - noise(&learned)).unwrap().sqr().unwrap();
            f64::from(missed.mean_all().unwrap().to_scalar::<f32>().unwrap())
        });
        errors.iter().sum::<f64>() / 4.
    }

    #[test]
    fn a_fit_approaches_the_exact_denoiser() {
        let network = network();
        let start = network.initialised(Seed(1)).unwrap();
        let source = Patterns::new(&triangle()).unwrap();
        let fitted = fit(&network, &start, &source, &spec(600), TASK).unwrap();
        let (before, after) = (error(&network, &start), error(&network, &fitted.store));
        assert!(after <= 0.02 && before >= 8. * after, "{before} {after}");
        assert_eq!(fitted.losses.len(), 600);
    }

    #[test]
    fn a_fit_is_a_function_of_its_arguments() {
        let network = network();
        let start = network.initialised(Seed(1)).unwrap();
        let given = numbers(&start);
        let source = Patterns::new(&triangle()).unwrap();
        let fitted = |task| fit(&network, &start, &source, &spec(5), task).unwrap();
        let (one, again) = (fitted(TASK), fitted(TASK));
        assert_eq!(numbers(&one.store), numbers(&again.store));
        assert_eq!(one.losses, again.losses);
        assert_ne!(one.losses, fitted(Task { number: 2, ..TASK }).losses);
        assert_ne!(one.losses, fitted(Task { seed: Seed(6), ..TASK }).losses);
        assert_eq!(numbers(&start), given);
        assert_ne!(numbers(&one.store), given);
        let none = fit(&network, &start, &source, &spec(0), TASK).unwrap();
        assert_eq!(numbers(&none.store), given);
    }

    #[test]
    fn levels_are_drawn_as_the_focus_says() {
        let schedule = schedule();
        let depth = |t: Timestep| -schedule.snr(t).ln();
        for (focus, middle) in [(0., 0.5), (1., 0.1)] {
            let levels = Levels::new(&schedule, &TrainingSpec { focus, ..spec(1) });
            let drawn: Vec<Timestep> =
                (0..10_000).map(|k| levels.at((f64::from(k) + 0.5) / 10_000.)).collect();
            assert!(drawn.windows(2).all(|pair| pair[0] <= pair[1]));
            assert_eq!((drawn[0], drawn[9999]), (Timestep(100), Timestep(999)));
            let (low, high) = (depth(drawn[0]), depth(drawn[9999]));
            let found = (depth(drawn[5000]) - low) / (high - low);
            // With the focus 1 half of the samples are within log 2 and a bit of the start.
            assert!((found - middle).abs() <= 0.05, "{focus}: {found}");
        }
        let last = TrainingSpec { first_level: Timestep(999), ..spec(1) };
        assert_eq!(Levels::new(&schedule, &last).at(0.7), Timestep(999));
    }

    #[test]
    fn doubts_are_refused_in_words() {
        let network = network();
        let start = network.initialised(Seed(1)).unwrap();
        let source = Patterns::new(&triangle()).unwrap();
        let message = |spec: TrainingSpec| {
            fit(&network, &start, &source, &spec, TASK).unwrap_err().to_string()
        };
        let wild = message(TrainingSpec { learning_rate: 1e30, ..spec(20) });
        assert!(wild.contains("training diverged in task 1 at step"), "{wild}");
        assert!(
            message(TrainingSpec { batch: 0, ..spec(1) }).contains("batch: expected at least 1")
        );
        assert!(message(TrainingSpec { focus: f64::NAN, ..spec(1) }).contains("focus"));
        let beyond = TrainingSpec { first_level: Timestep(1000), ..spec(1) };
        assert!(message(beyond).contains("first_level: expected a timestep"));
        let line = Patterns::new(&triangle().narrow(1, 0, 1).unwrap()).unwrap();
        let error = fit(&network, &start, &line, &spec(1), TASK).unwrap_err().to_string();
        assert!(
            error.contains("dimensions: expected as many as the network has, got 1"),
            "{error}"
        );
    }
}
