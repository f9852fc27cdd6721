//! Training by Adam on streams of batches, several machines on the same draws.
//!
//! Law: Kingma & Ba 2015, algorithm 1, with the rate lr · min(1, 5(1 − t/steps)): falling to 0 over the last fifth.

use super::batch::{Batch, Source};
use super::loss::Workspace;
use super::machine::BoltzmannMachine;
use crate::error::{HopfieldError, Result, refuse};
use crate::vectorized::vectorized;

/// Decay of the running means of the gradient and of its square.
const DECAY: [f64; 2] = [0.9, 0.999];

/// Keeps a rate finite where the gradient was always 0.
const TINY: f64 = 1e-8;

/// Nats by which the loss of the first batch may have risen: by more, training left the data.
const WORSE: f64 = 1.;

/// How long and how fast to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Steps.
    pub steps: u32,
    /// Rate of the first four fifths of the steps.
    pub learning_rate: f64,
}

impl Default for Recipe {
    /// 4000 steps of 2e-3.
    fn default() -> Self {
        Self { steps: 4000, learning_rate: 2e-3 }
    }
}

impl Recipe {
    /// lr · min(1, 5(1 − t/steps)).
    fn rate(&self, step: u32) -> f64 {
        let left = 1. - f64::from(step) / f64::from(self.steps);
        self.learning_rate * (5. * left).min(1.)
    }
}

/// A share of what a machine learns from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Portion {
    /// Which of the sources, from 0.
    pub source: usize,
    /// Its mass among the machine's portions, of any sum.
    pub mass: f64,
}

/// A machine to be trained, and on what.
#[derive(Clone, Debug, PartialEq)]
pub struct Learner {
    /// Where it begins.
    pub start: BoltzmannMachine,
    /// What it learns from: the loss is the mean over the portions' mean losses, by mass.
    pub portions: Vec<Portion>,
}

impl Learner {
    /// A machine that learns from the first source alone.
    pub fn new(start: BoltzmannMachine) -> Self {
        Self { start, portions: vec![Portion { source: 0, mass: 1. }] }
    }
}

/// Trains `learners` in lockstep: each source draws one batch a step, and all learners see it.
///
/// So arms of one experiment (with replay, without) learn from the same numbers, drawn once.
/// Runs on one thread: experiments go side by side in a parallel loop outside.
///
/// # Errors
/// When a portion names no source or has no positive mass, a rate is no positive number, a source fails, or a
/// machine's loss or weights cease to be numbers, or its loss ends above the one it began with.
pub fn train(
    sources: &[&dyn Source],
    learners: &[Learner],
    recipe: &Recipe,
) -> Result<Vec<BoltzmannMachine>> {
    if !(recipe.learning_rate > 0. && recipe.learning_rate.is_finite()) {
        return refuse("learning rate", "a positive, finite number", recipe.learning_rate);
    }
    let mut batches = sources.iter().map(|source| source.batch(0)).collect::<Result<Vec<_>>>()?;
    let mut students = learners
        .iter()
        .map(|learner| Student::new(learner, sources.len()))
        .collect::<Result<Vec<_>>>()?;
    let diverged = |learner, step, found| HopfieldError::Diverged { learner, step, found };
    let losses = |students: &mut [Student], batches: &[Batch], step| {
        let loss = |(learner, student): (usize, &mut Student)| {
            student.loss(batches).map_err(|error| diverged(learner, step, error.to_string()))
        };
        students.iter_mut().enumerate().map(loss).collect::<Result<Vec<f64>>>()
    };
    let begun = losses(&mut students, &batches, 0)?;
    for step in 0..recipe.steps {
        for (source, batch) in sources.iter().zip(&mut batches) {
            source.rewrite(step, batch)?;
        }
        for (learner, student) in students.iter_mut().enumerate() {
            student
                .step(step, &batches, recipe.rate(step))
                .map_err(|error| diverged(learner, step, error.to_string()))?;
        }
    }
    let last = recipe.steps.saturating_sub(1);
    for (source, batch) in sources.iter().zip(&mut batches) {
        source.rewrite(0, batch)?;
    }
    let ended = losses(&mut students, &batches, last)?;
    for (learner, (begun, ended)) in begun.into_iter().zip(ended).enumerate() {
        if ended.is_nan() || ended > begun + WORSE {
            let found =
                format!("−log p {ended:.3e} of the first batch, {begun:.3e} before training");
            return Err(diverged(learner, last, found));
        }
    }
    Ok(students.into_iter().map(|student| student.machine).collect())
}

/// A machine in training and its buffers.
struct Student {
    machine: BoltzmannMachine,
    portions: Vec<Portion>,
    workspace: Workspace,
    gradient: Vec<f64>,
    /// Running means of the gradient and of its square.
    moments: [Vec<f64>; 2],
}

impl Student {
    fn new(learner: &Learner, sources: usize) -> Result<Self> {
        let total: f64 = learner.portions.iter().map(|portion| portion.mass).sum();
        let is_fit = |portion: &Portion| portion.source < sources && portion.mass >= 0.;
        if !(learner.portions.iter().all(is_fit) && total > 0. && total.is_finite()) {
            let expected = format!("masses of positive sum, each of one of {sources} sources");
            return refuse("portions", expected, format!("{:?}", learner.portions));
        }
        let share = |portion: &Portion| Portion { mass: portion.mass / total, ..*portion };
        let parameters = learner.start.parameters().len();
        Ok(Self {
            machine: learner.start.clone(),
            portions: learner.portions.iter().map(share).collect(),
            workspace: Workspace::default(),
            gradient: vec![0.; parameters],
            moments: [vec![0.; parameters], vec![0.; parameters]],
        })
    }

    /// Mean of −log p over the portions.
    fn loss(&mut self, batches: &[Batch]) -> Result<f64> {
        let portions = self.portions.iter().map(|portion| (&batches[portion.source], portion.mass));
        self.workspace.evaluate(&self.machine, portions, &mut self.gradient)
    }

    fn step(&mut self, step: u32, batches: &[Batch], rate: f64) -> Result<()> {
        self.loss(batches)?;
        let [first, second] = &mut self.moments;
        let correction = DECAY.map(|decay| 1. / (1. - decay.powf(f64::from(step) + 1.)));
        let parameters = self.machine.parameters_mut();
        update(parameters, &self.gradient, first, second, correction, rate);
        self.machine.check()
    }
}

vectorized! {
    /// One step of all parameters; `correction`: what undoes the running means' start at 0.
    fn update(
        parameters: &mut [f64],
        gradient: &[f64],
        first: &mut [f64],
        second: &mut [f64],
        correction: [f64; 2],
        rate: f64,
    ) -> () = update_lanes;
}

#[inline(always)]
fn update_lanes(
    parameters: &mut [f64],
    gradient: &[f64],
    first: &mut [f64],
    second: &mut [f64],
    correction: [f64; 2],
    rate: f64,
) {
    for (((w, g), m), v) in parameters.iter_mut().zip(gradient).zip(first).zip(second) {
        *m += (1. - DECAY[0]) * (g - *m);
        *v += (1. - DECAY[1]) * (g * g - *v);
        *w -= rate * (*m * correction[0]) / ((*v * correction[1]).sqrt() + TINY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boltzmann::Teacher;
    use lethe_candlex::rng::Seed;
    use rayon::prelude::*;

    const D: usize = 6;

    /// Four unit vectors, three of them at overlap .3.
    fn machine() -> BoltzmannMachine {
        let mut weights = vec![0.; 4 * D];
        for unit in 0..3 {
            (weights[unit * D], weights[unit * D + unit + 1]) = (0.3f64.sqrt(), 0.7f64.sqrt());
        }
        weights[3 * D + 4] = 1.;
        BoltzmannMachine::new(weights, D, 12.).unwrap()
    }

    fn teacher(samples: usize) -> Teacher {
        Teacher::new(machine(), Seed(1).stream("teacher"), samples).unwrap()
    }

    fn start(seed: u64) -> BoltzmannMachine {
        BoltzmannMachine::random(4, D, 12., &mut Seed(seed).stream("start").at(0, 0)).unwrap()
    }

    const QUICK: Recipe = Recipe { steps: 1000, learning_rate: 1e-2 };

    #[test]
    fn a_machine_finds_its_teacher_from_a_random_start() {
        let test =
            Teacher::new(machine(), Seed(2).stream("test"), 50_000).unwrap().batch(0).unwrap();
        let nll = |machine: &BoltzmannMachine| machine.gradient(&test).unwrap().mean_nll;
        let begun = start(3);
        let biased = begun.clone().with_biases(&[0.; 4]).unwrap();
        let learners = [Learner::new(begun.clone()), Learner::new(biased)];
        for found in train(&[&teacher(256)], &learners, &QUICK).unwrap() {
            assert!(nll(&found) - nll(&machine()) <= 0.01, "{}", nll(&found) - nll(&machine()));
        }
        assert!(nll(&begun) - nll(&machine()) > 0.5);
    }

    #[test]
    fn a_portion_counts_by_its_mass() {
        let teacher = teacher(64);
        let replay = |step: u32| Batch::new(vec![0.1 + f64::from(step); 2 * D], D);
        // The same as one batch with masses.
        let joined = |step: u32| {
            let (new, old) = (teacher.batch(step)?, replay(step)?);
            let masses = [vec![0.75 / 64.; 64], vec![0.25 / 2.; 2]].concat();
            Batch::with_masses([new.samples(), old.samples()].concat(), D, &masses)
        };
        let recipe = Recipe { steps: 20, ..QUICK };
        let portions = vec![Portion { source: 0, mass: 3. }, Portion { source: 1, mass: 1. }];
        let learner = Learner { start: start(4), portions };
        let apart = train(&[&teacher, &replay], &[learner], &recipe).unwrap();
        let together = train(&[&joined], &[Learner::new(start(4))], &recipe).unwrap();
        for (a, b) in apart[0].weights().iter().zip(together[0].weights()) {
            assert!((a - b).abs() <= 1e-10);
        }
    }

    #[test]
    fn the_first_step_is_the_rate_and_the_last_fifth_slows() {
        let recipe = Recipe { steps: 1, learning_rate: 1e-3 };
        let begun = start(5);
        let found = train(&[&teacher(32)], &[Learner::new(begun.clone())], &recipe).unwrap();
        for (a, b) in found[0].weights().iter().zip(begun.weights()) {
            assert!(((a - b).abs() - 1e-3).abs() <= 1e-6);
        }
        let recipe = Recipe { steps: 100, learning_rate: 1. };
        assert_eq!([0, 40, 79].map(|step| recipe.rate(step)), [1.; 3]);
        assert!((recipe.rate(90) - 0.5).abs() <= 1e-12 && (recipe.rate(99) - 0.05).abs() <= 1e-12);
    }

    #[test]
    fn threads_and_company_change_no_number() {
        let recipe = Recipe { steps: 30, ..QUICK };
        let many = |threads: usize| -> Vec<BoltzmannMachine> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let one = |seed| {
                train(&[&teacher(64)], &[Learner::new(start(seed))], &recipe).unwrap().remove(0)
            };
            pool.install(|| (0..6u64).into_par_iter().map(one).collect())
        };
        let alone = many(1);
        assert_eq!(alone, many(3));
        let learners: Vec<Learner> = (0..6).map(|seed| Learner::new(start(seed))).collect();
        assert_eq!(alone, train(&[&teacher(64)], &learners, &recipe).unwrap());
    }

    #[test]
    fn divergence_is_an_error_that_names_the_step() {
        let learners = [Learner::new(start(1)), Learner::new(start(2))];
        let recipe = Recipe { steps: 50, learning_rate: 1e160 };
        let error = train(&[&teacher(16)], &learners, &recipe).unwrap_err();
        assert!(matches!(error, HopfieldError::Diverged { learner: 0, step: 0, .. }), "{error}");
        assert!(error.to_string().contains("step 0"), "{error}");
        // Numbers all the way, but far from the data.
        let recipe = Recipe { steps: 200, learning_rate: 1e10 };
        let error = train(&[&teacher(16)], &learners, &recipe).unwrap_err();
        assert!(matches!(error, HopfieldError::Diverged { learner: 0, step: 199, .. }), "{error}");
    }

    #[test]
    fn what_cannot_be_learned_is_refused() {
        let learner =
            |source, mass| Learner { start: start(1), portions: vec![Portion { source, mass }] };
        for learner in [learner(1, 1.), learner(0, 0.), learner(0, f64::NAN), learner(0, -1.)] {
            let error = train(&[&teacher(4)], &[learner], &QUICK).unwrap_err().to_string();
            assert!(error.starts_with("portions"), "{error}");
        }
        for learning_rate in [0., f64::NAN, f64::INFINITY] {
            let recipe = Recipe { learning_rate, steps: 1 };
            assert!(train(&[&teacher(4)], &[], &recipe).is_err());
        }
        let failing = |step: u32| Batch::new(vec![if step == 2 { f64::NAN } else { 0. }; D], D);
        let error = train(&[&failing], &[Learner::new(start(1))], &QUICK).unwrap_err().to_string();
        assert!(error.starts_with("samples"), "{error}");
    }
}
