//! How the Boltzmann machine learns its tasks: teachers, replay, and what its energies are read at.

use super::bounds;
use super::setting::{Setting, Turning};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use lethe_candlex::rng::{Seed, Stream};
use lethe_hopfield::Vectors;
use lethe_hopfield::boltzmann::{
    self, Batch, BoltzmannMachine, Descent, Learner, Portion, Recipe, Sampling, Source, Teacher,
};
use lethe_hopfield::rotation::Generator;

/// How the machine learns.
#[derive(Args, Clone, Debug)]
pub struct Machine {
    /// Angle eps of the rotations
    #[arg(long, value_name = "EPS", default_value_t = 0.05, allow_negative_numbers = true)]
    pub angle: f64,
    /// Random rotations, at least 2, claims being decided from 30 on: each a second task learned anew under every replay arm
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rotations: usize,
    /// Hidden units, at least one for each pattern; a replayed pattern begins with a unit of its own beside them
    #[arg(long, value_name = "K", default_value_t = 13)]
    pub hidden: usize,
    /// Adam on fresh samples of the teacher, or L-BFGS on a fixed set of them
    #[arg(long, value_enum, default_value_t = Optimizer::Adam)]
    pub optimizer: Optimizer,
    /// Adam steps on task 2, and twice as many on task 1 [default: 2000]
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// Adam's learning rate; it falls to 0 over the last fifth [default: 0.002]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// Samples in a batch of Adam; L-BFGS is given sixteen times as many, once
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub batch: usize,
}

/// What lowers the mean of -log p.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Optimizer {
    /// Kingma & Ba 2015, on fresh samples each step.
    Adam,
    /// Limited-memory BFGS, on one fixed set.
    Lbfgs,
}

/// Random starts of the first machine.
const STARTS: u64 = 4;

/// Batches that L-BFGS's fixed set has.
const FIXED_SET: usize = 16;

/// Samples on which likelihoods are compared.
pub const HELD_OUT: usize = 20_000;

/// How energies of two machines are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// E.
    Raw,
    /// E + (1/β) log Z = −(1/β) log p.
    Normalized,
}

impl Scale {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Raw, Self::Normalized];

    /// Its name on pages and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Normalized => "normalized",
        }
    }

    /// The energy of `x` under `machine`.
    ///
    /// # Errors
    /// When it is not finite.
    pub fn of(self, machine: &BoltzmannMachine, x: &[f64]) -> Result<f64> {
        Ok(match self {
            Self::Raw => machine.energy(x)?,
            Self::Normalized => machine.normalized_energy(x)?,
        })
    }
}

/// What is replayed with task 2: nothing, one of the cluster, or the outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Nothing.
    None,
    /// The cluster's first.
    Cluster,
    /// The outlier.
    Outlier,
}

impl Arm {
    /// All.
    pub const ALL: [Self; 3] = [Self::None, Self::Cluster, Self::Outlier];

    /// The replayed pattern, the cluster having `cluster` patterns.
    pub fn source(self, cluster: usize) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Cluster => Some(0),
            Self::Outlier => Some(cluster),
        }
    }
}

/// Energies of the old fixed points under the machines of one second task, by scale, arm, point.
pub type Learned = [Vec<Vec<f64>>; Scale::ALL.len()];

impl Machine {
    /// Refuses what cannot be trained, or not within a machine's memory.
    ///
    /// # Errors
    /// Naming the option.
    pub fn check(&self, setting: &Setting) -> Result<()> {
        bounds::angle("--angle", self.angle)?;
        bounds::within("--rotations", self.rotations, 2, 10_000)?;
        bounds::within("--hidden", self.hidden, 1, 4096)?;
        bounds::within("--batch", self.batch, 1, bounds::NUMBERS / FIXED_SET / setting.dimension)?;
        if self.optimizer == Optimizer::Lbfgs {
            let expected = "expected with --optimizer adam alone, L-BFGS has neither";
            ensure!(self.steps.is_none(), "--steps: {expected}");
            ensure!(self.learning_rate.is_none(), "--learning-rate: {expected}");
        }
        bounds::within("--steps", self.recipe().steps, 1, u32::MAX / 4)?;
        bounds::learning_rate(self.recipe().learning_rate)
    }

    /// Adam's.
    fn recipe(&self) -> Recipe {
        Recipe {
            steps: self.steps.unwrap_or(2000),
            learning_rate: self.learning_rate.unwrap_or(2e-3),
        }
    }

    /// The recipe in words.
    pub fn in_words(&self) -> String {
        match self.optimizer {
            Optimizer::Adam => {
                let Recipe { steps, learning_rate } = self.recipe();
                format!("{steps} Adam steps of {} samples a task, rate {learning_rate}", self.batch)
            }
            Optimizer::Lbfgs => format!("L-BFGS on {} samples a task", FIXED_SET * self.batch),
        }
    }
}

/// Teachers of both tasks and of what is replayed.
pub struct School<'a> {
    machine: &'a Machine,
    turning: &'a Turning,
    teacher: BoltzmannMachine,
    seed: Seed,
}

impl<'a> School<'a> {
    /// The teachers of `turning`'s task 1 and of its rotations.
    ///
    /// # Errors
    /// When the patterns make no machine.
    pub fn new(setting: &Setting, machine: &'a Machine, turning: &'a Turning) -> Result<Self> {
        let patterns = turning.network.patterns();
        let weights = patterns.values().to_vec();
        let teacher = BoltzmannMachine::new(weights, patterns.d(), setting.inverse_temperature)?;
        Ok(Self { machine, turning, teacher, seed: Seed(setting.seed) })
    }

    /// Samples of `machine`, from draws that are the same whatever it is rotated by.
    fn samples(&self, machine: BoltzmannMachine, stream: Stream) -> Result<Teacher> {
        Ok(Teacher::new(machine, stream, self.machine.batch)?.sampling(Sampling::Balanced))
    }

    /// The machine of task 1: the likeliest of a few from random weights, as one in some dozens is caught halfway.
    ///
    /// # Errors
    /// When training diverges.
    pub fn first(&self) -> Result<BoltzmannMachine> {
        let (d, beta) = (self.teacher.d(), self.teacher.inverse_temperature());
        let random = |start: u64| {
            let mut draws = self.seed.stream("hidden units").at(0, start);
            Ok(Learner::new(BoltzmannMachine::random(self.machine.hidden, d, beta, &mut draws)?))
        };
        let starts: Vec<Learner> = (0..STARTS).map(random).collect::<Result<_>>()?;
        let source = self.samples(self.teacher.clone(), self.seed.stream("teacher"))?;
        let halfway = self.learn(&[&source], &starts)?.into_iter().map(Learner::new);
        let learned = self.learn(&[&source], &halfway.collect::<Vec<_>>())?;
        let mut best: Option<(f64, BoltzmannMachine)> = None;
        for machine in learned {
            let [_, nll] = self.likelihoods(&machine)?;
            if best.as_ref().is_none_or(|(least, _)| nll < *least) {
                best = Some((nll, machine));
            }
        }
        best.map(|(_, machine)| machine).context("some machine was trained")
    }

    /// Energies of the old fixed points once task 2 was learned, under every arm; `None` rotates nothing.
    ///
    /// # Errors
    /// When training diverges.
    pub fn second(&self, first: &BoltzmannMachine, rotation: Option<u64>) -> Result<Learned> {
        // The draws of task 1 again: a rotated task is the same samples, rotated, and what they miss is missed twice.
        let mut new = self.samples(self.teacher.clone(), self.seed.stream("teacher"))?;
        if let Some(rotation) = rotation {
            new = new.rotated(self.rotation(rotation)?)?;
        }
        let cluster = self.turning.setting.cluster;
        let single = |arm: Arm| -> Result<BoltzmannMachine> {
            let source = arm.source(cluster).context("an arm that replays")?;
            let pattern = self.turning.network.patterns().row(source).to_vec();
            let (d, beta) = (self.teacher.d(), self.teacher.inverse_temperature());
            Ok(BoltzmannMachine::new(pattern, d, beta)?)
        };
        let replayed = |arm| self.samples(single(arm)?, self.seed.stream("replayed"));
        let (one, other) = (replayed(Arm::Cluster)?, replayed(Arm::Outlier)?);
        let sources: [&dyn Source; 3] = [&new, &one, &other];
        // One pattern more beside those of task 2: each has an equal share.
        let masses = [(cluster + 1) as f64, 1.];
        let learner = |arm: Arm| -> Result<Learner> {
            if arm == Arm::None {
                return Ok(Learner::new(first.clone()));
            }
            let new = Portion { source: 0, mass: masses[0] };
            let old = Portion { source: arm as usize, mass: masses[1] };
            Ok(Learner { start: first.joined(&single(arm)?)?, portions: vec![new, old] })
        };
        let learners: Vec<Learner> = Arm::ALL.into_iter().map(learner).collect::<Result<_>>()?;
        let learned = self.learn(&sources, &learners)?;
        let all = |scale| {
            learned
                .iter()
                .map(|machine| energies(machine, &self.turning.points, scale))
                .collect::<Result<_>>()
        };
        Ok([all(Scale::Raw)?, all(Scale::Normalized)?])
    }

    /// V of one rotation, [d, d], row after row.
    fn rotation(&self, rotation: u64) -> Result<Vec<f64>> {
        let d = self.teacher.d();
        let generator = Generator::draw(d, &mut self.turning.setting.rotations().at(0, rotation));
        let mut identity = vec![0.; d * d];
        identity.iter_mut().step_by(d + 1).for_each(|x| *x = 1.);
        // Rows of what comes back are V e_j, the columns of V; V of −Ω is Vᵀ.
        let rows = generator.rotate(&[-self.machine.angle], &Vectors::new(identity, d)?)?;
        Ok(rows.into_iter().next().context("one angle was asked for")?.values().to_vec())
    }

    fn learn(
        &self,
        sources: &[&dyn Source],
        learners: &[Learner],
    ) -> Result<Vec<BoltzmannMachine>> {
        match self.machine.optimizer {
            Optimizer::Adam => Ok(boltzmann::train(sources, learners, &self.machine.recipe())?),
            Optimizer::Lbfgs => learners.iter().map(|learner| descend(sources, learner)).collect(),
        }
    }

    /// Mean −log p of teacher and machine over the same held-out samples.
    ///
    /// # Errors
    /// When one is not finite.
    pub fn likelihoods(&self, first: &BoltzmannMachine) -> Result<[f64; 2]> {
        let stream = self.seed.stream("held out");
        let batch = Teacher::new(self.teacher.clone(), stream, HELD_OUT)?.batch(0)?;
        Ok([self.teacher.gradient(&batch)?.mean_nll, first.gradient(&batch)?.mean_nll])
    }
}

/// L-BFGS on the first batches of the learner's sources, by its portions' masses.
fn descend(sources: &[&dyn Source], learner: &Learner) -> Result<BoltzmannMachine> {
    let (mut samples, mut masses) = (Vec::new(), Vec::new());
    for portion in &learner.portions {
        for step in 0..FIXED_SET as u32 {
            let batch = sources[portion.source].batch(step)?;
            samples.extend_from_slice(batch.samples());
            masses.extend(batch.shares().iter().map(|share| share * portion.mass));
        }
    }
    let batch = Batch::with_masses(samples, learner.start.d(), &masses)?;
    Ok(boltzmann::descend(&learner.start, &batch, &Descent::default())?.machine)
}

/// Energies of `points` under `machine`.
///
/// # Errors
/// When one is not finite.
pub fn energies(machine: &BoltzmannMachine, points: &Vectors, scale: Scale) -> Result<Vec<f64>> {
    points.rows().map(|x| scale.of(machine, x)).collect()
}
