//! Every selector at equal budget: what its buffer gives back in the closed form and in a trained machine.

use super::image_tasks::ImageTasks;
use super::images::ImageSetting;
use crate::coverage::KernelCoverage;
use crate::learn::words;
use crate::meter::note;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use lethe_candlex::rng::{Seed, Stream};
use lethe_continual::{
    Balance, Candidate, ClassId, Coverage, DrawKey, DrawStream, Evidence, ExampleId, Features,
    Needs, Policy, Selector,
};
use lethe_hopfield::boltzmann::{self, Batch, BoltzmannMachine, Learner, Portion, Recipe, Source};
use lethe_hopfield::replay_gain::gain;
use lethe_hopfield::{
    Answer, Form, Question, Vectors, Wanted, association, nearest_neighbour_distance,
};
use lethe_hopfield::{HopfieldEnergy, Representation};
use lethe_kernels::hopfield_energy::energy;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Images in a batch.
const BATCH: usize = 256;

/// Steps on task 2 after which interference is looked at.
const VIRTUAL_STEPS: u32 = 20;

/// One selector.
pub struct Arm {
    /// Which.
    pub policy: Policy,
    /// Whether each old image is in the buffer.
    pub is_kept: Vec<bool>,
    /// G_R of each old image, closed form.
    pub gain: Vec<f64>,
    /// −(1/β) log p of each old image without replay less the same with it, machines after task 2.
    pub mitigation: Vec<f64>,
}

/// All selectors, and what they are judged against.
pub struct Arms {
    /// One for each policy.
    pub arms: Vec<Arm>,
    /// Images in each buffer.
    pub budget: usize,
    /// Energy of each old image under the others.
    pub energy: Vec<f64>,
    /// Whether each old image is in the quarter of highest energy.
    pub is_high: Vec<bool>,
    /// Median association of an old image to itself.
    pub median_self: f64,
    /// ΔE, closed form: between full energies, each image's own copy counted before.
    pub rise: Vec<f64>,
    /// E under task 1, own copy counted, and under task 2: closed form.
    pub energy_before: Vec<f64>,
    /// E under task 2, closed form.
    pub energy_after: Vec<f64>,
    /// −(1/β) log p after task 1 and, without replay, after task 2.
    pub machine_before: Vec<f64>,
    /// −(1/β) log p after task 2 without replay.
    pub machine_after: Vec<f64>,
    /// What it rose by.
    pub machine_rise: Vec<f64>,
    /// What the raw energy rose by, log Z left out.
    pub machine_raw_rise: Vec<f64>,
}

impl Arms {
    /// Measures every policy.
    ///
    /// # Errors
    /// When a setting does not fit or training diverges.
    pub fn measure(setting: &ImageSetting, tasks: &ImageTasks) -> Result<Self> {
        let budget = (setting.budget * tasks.old.len() as f64).round() as usize;
        ensure!(budget >= 1, "--budget: {} of {} images is none", setting.budget, tasks.old.len());
        let closed = Closed::measure(tasks)?;
        note("training the Boltzmann machine");
        let trained = Trained::measure(setting, tasks)?;
        note(&format!("measuring {} selectors, each with a machine of its own", Policy::ALL.len()));
        let selecting = Selecting { setting, tasks, closed: &closed, trained: &trained, budget };
        let arms = Policy::ALL.into_par_iter().map(|policy| selecting.arm(policy));
        let arms = arms.collect::<Result<_>>()?;
        let rise = |after: &[f64], before: &[f64]| -> Vec<f64> {
            after.iter().zip(before).map(|(after, before)| after - before).collect()
        };
        Ok(Self {
            arms,
            budget,
            is_high: highest_quarter(&closed.apart),
            median_self: median(closed.own.clone()),
            machine_rise: rise(&trained.after, &trained.before),
            machine_raw_rise: rise(&trained.raw_after, &trained.raw_before),
            machine_before: trained.before,
            machine_after: trained.after,
            energy: closed.apart,
            rise: closed.rise,
            energy_before: closed.before,
            energy_after: closed.after,
        })
    }

    /// The arm of a policy.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(&self, policy: Policy) -> Result<&Arm> {
        self.arms
            .iter()
            .find(|arm| arm.policy == policy)
            .with_context(|| format!("no arm {policy}"))
    }
}

fn highest_quarter(energies: &[f64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..energies.len()).collect();
    order.sort_by(|&a, &b| energies[b].total_cmp(&energies[a]));
    let mut is_high = vec![false; energies.len()];
    order.iter().take(energies.len() / 4).for_each(|&i| is_high[i] = true);
    is_high
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    0.5 * (values[(n - 1) / 2] + values[n / 2])
}

fn tensor(x: &Vectors) -> Result<Tensor> {
    Ok(Tensor::from_slice(x.values(), (x.len(), x.d()), &Device::Cpu)?)
}

/// What the closed form says of the old images.
struct Closed {
    /// E under the other old images.
    apart: Vec<f64>,
    /// E under all old images, under all new ones, and the difference.
    before: Vec<f64>,
    after: Vec<f64>,
    rise: Vec<f64>,
    /// p of each old image (row) for each old image (column).
    association: Vec<f64>,
    own: Vec<f64>,
}

impl Closed {
    fn measure(tasks: &ImageTasks) -> Result<Self> {
        let beta = tasks.inverse_temperature;
        let n = tasks.old.len();
        let (old, new) = (tensor(&tasks.old)?, tensor(&tasks.new)?);
        let own: Vec<Option<usize>> = (0..n).map(Some).collect();
        let ask = |patterns: &Tensor, left_out: Option<&[Option<usize>]>| -> Result<Answer> {
            let question = Question {
                form: Form::Dot,
                inverse_temperature: beta,
                masses: None,
                left_out,
                wanted: Wanted::Energy,
            };
            Ok(energy(&old, patterns, &question)?)
        };
        let (before, after) = (ask(&old, None)?.energy, ask(&new, None)?.energy);
        let association = association(Form::Dot, beta, &tasks.old, &tasks.old, None, None)?;
        Ok(Self {
            apart: ask(&old, Some(&own))?.energy,
            rise: after.iter().zip(&before).map(|(after, before)| after - before).collect(),
            before,
            own: association.iter().step_by(n + 1).copied().collect(),
            after,
            association,
        })
    }

    /// G_R of every old image.
    fn gains(&self, is_kept: &[bool], beta: f64) -> Vec<f64> {
        let rows = self.association.chunks_exact(is_kept.len()).zip(&self.rise);
        let kept =
            |row: &[f64]| row.iter().zip(is_kept).filter(|(_, kept)| **kept).map(|(p, _)| p).sum();
        rows.map(|(row, &rise)| gain(kept(row), rise, beta)).collect()
    }
}

/// The machine after task 1 and, without replay, after task 2.
struct Trained {
    machine: BoltzmannMachine,
    before: Vec<f64>,
    after: Vec<f64>,
    raw_before: Vec<f64>,
    raw_after: Vec<f64>,
}

/// Batches of some of `images`, drawn with replacement.
fn batches(images: &Vectors, members: Vec<usize>, stream: Stream) -> impl Source {
    let size = BATCH.min(images.len());
    move |step: u32| -> lethe_hopfield::Result<Batch> {
        let mut draws = stream.at(step, 0);
        let mut rows = Vec::with_capacity(size * images.d());
        for _ in 0..size {
            let member = members[draws.below(members.len() as u32) as usize];
            rows.extend_from_slice(images.row(member));
        }
        Batch::new(rows, images.d())
    }
}

fn all(images: &Vectors) -> Vec<usize> {
    (0..images.len()).collect()
}

/// −(1/β) log p of every image.
fn normalized(machine: &BoltzmannMachine, images: &Vectors) -> Result<Vec<f64>> {
    Ok(images.rows().map(|x| machine.normalized_energy(x)).collect::<Result<_, _>>()?)
}

fn raw(machine: &BoltzmannMachine, images: &Vectors) -> Result<Vec<f64>> {
    Ok(images.rows().map(|x| machine.energy(x)).collect::<Result<_, _>>()?)
}

impl Trained {
    fn measure(setting: &ImageSetting, tasks: &ImageTasks) -> Result<Self> {
        let seed = Seed(setting.seed);
        let mut draws = seed.stream("hidden units").at(0, 0);
        let start = BoltzmannMachine::random(
            setting.hidden,
            tasks.old.d(),
            tasks.inverse_temperature,
            &mut draws,
        )?;
        let source = batches(&tasks.old, all(&tasks.old), seed.task_stream("batches", 1));
        let machine = learn(&[&source], start, &[1.], &recipe(setting))?;
        let after = second_task(setting, tasks, &machine, &[], &recipe(setting))?;
        Ok(Self {
            before: normalized(&machine, &tasks.old)?,
            raw_before: raw(&machine, &tasks.old)?,
            after: normalized(&after, &tasks.old)?,
            raw_after: raw(&after, &tasks.old)?,
            machine,
        })
    }
}

fn recipe(setting: &ImageSetting) -> Recipe {
    Recipe { steps: setting.steps, learning_rate: setting.learning_rate }
}

fn learn(
    sources: &[&dyn Source],
    start: BoltzmannMachine,
    masses: &[f64],
    recipe: &Recipe,
) -> Result<BoltzmannMachine> {
    let portions =
        masses.iter().enumerate().map(|(source, &mass)| Portion { source, mass }).collect();
    let learned = boltzmann::train(sources, &[Learner { start, portions }], recipe)?;
    learned.into_iter().next().context("one machine was trained")
}

/// Task 2 from `start`, with the images `kept` of task 1 as so many more examples.
fn second_task(
    setting: &ImageSetting,
    tasks: &ImageTasks,
    start: &BoltzmannMachine,
    kept: &[usize],
    recipe: &Recipe,
) -> Result<BoltzmannMachine> {
    let seed = Seed(setting.seed);
    let new = batches(&tasks.new, all(&tasks.new), seed.task_stream("batches", 2));
    if kept.is_empty() {
        return learn(&[&new], start.clone(), &[1.], recipe);
    }
    let old = batches(&tasks.old, kept.to_vec(), seed.task_stream("replayed", 2));
    let masses = [tasks.new.len() as f64, kept.len() as f64];
    learn(&[&new, &old], start.clone(), &masses, recipe)
}

/// Everything that a policy may ask for.
struct Selecting<'a> {
    setting: &'a ImageSetting,
    tasks: &'a ImageTasks,
    closed: &'a Closed,
    trained: &'a Trained,
    budget: usize,
}

impl Selecting<'_> {
    fn arm(&self, policy: Policy) -> Result<Arm> {
        let kept = self.choose(policy)?;
        let mut is_kept = vec![false; self.tasks.old.len()];
        kept.iter().for_each(|&i| is_kept[i] = true);
        let recipe = recipe(self.setting);
        let machine = second_task(self.setting, self.tasks, &self.trained.machine, &kept, &recipe)?;
        let with = normalized(&machine, &self.tasks.old)?;
        let mitigation = self.trained.after.iter().zip(with).map(|(without, with)| without - with);
        Ok(Arm {
            policy,
            gain: self.closed.gains(&is_kept, self.tasks.inverse_temperature),
            mitigation: mitigation.collect(),
            is_kept,
        })
    }

    /// Places among the old images that the policy keeps, ascending.
    fn choose(&self, policy: Policy) -> Result<Vec<usize>> {
        let needs = policy.needs();
        let priorities = self.priorities(needs)?;
        let candidates: Vec<Candidate> = (0..self.tasks.old.len())
            .map(|i| Candidate {
                id: ExampleId(i as u64),
                class: ClassId(self.tasks.labels[i]),
                priority: priorities.as_ref().map(|priorities| priorities[i]),
            })
            .collect();
        let features = self.features(needs)?;
        let coverage = (needs == Needs::Coverage).then(|| self.coverage());
        let evidence = Evidence {
            features: features.as_ref().map(|features| features as &dyn Features),
            coverage: coverage.as_ref().map(|coverage| coverage as &dyn Coverage),
        };
        let key = DrawKey { stream: DrawStream::Selection, task: 1, index: 0 };
        let mut draws = words(Seed(self.setting.seed))(key);
        let selector = Selector { policy, balance: Balance::PerClass };
        let kept = selector.select(&candidates, self.budget, evidence, &mut draws)?;
        let unique: BTreeSet<usize> = kept.into_iter().map(|id| id.0 as usize).collect();
        Ok(unique.into_iter().collect())
    }

    fn priorities(&self, needs: Needs) -> Result<Option<Vec<f64>>> {
        let Self { tasks, trained, .. } = self;
        Ok(match needs {
            Needs::Energy => Some(self.closed.apart.clone()),
            Needs::Loss => Some(trained.before.clone()),
            Needs::NeighbourDistance => {
                let ids: Vec<u64> = (0..tasks.old.len() as u64).collect();
                let old = tensor(&tasks.old)?;
                let stored = HopfieldEnergy::new(Representation::Distance, &old, &ids)?;
                Some(nearest_neighbour_distance(&stored, &old, &ids)?)
            }
            Needs::Interference => {
                let few = Recipe { steps: VIRTUAL_STEPS, ..recipe(self.setting) };
                let moved = second_task(self.setting, tasks, &trained.machine, &[], &few)?;
                let after = normalized(&moved, &tasks.old)?;
                Some(
                    after
                        .iter()
                        .zip(&trained.before)
                        .map(|(after, before)| after - before)
                        .collect(),
                )
            }
            Needs::Forgetting => {
                let rise = trained.after.iter().zip(&trained.before);
                Some(rise.map(|(after, before)| after - before).collect())
            }
            Needs::Nothing | Needs::Features | Needs::Coverage | Needs::Gradients => None,
        })
    }

    /// Unit vectors, or the gradient of each image's −log p with regard to the machine's biases, r(x) − π.
    fn features(&self, needs: Needs) -> Result<Option<BTreeMap<ExampleId, Vec<f32>>>> {
        let rows: Vec<Vec<f32>> = match needs {
            Needs::Features => {
                self.tasks.old.rows().map(|x| x.iter().map(|&x| x as f32).collect()).collect()
            }
            Needs::Gradients => {
                let machine = &self.trained.machine;
                let shares = machine.mixture_weights();
                let row = |x: &[f64]| -> Result<Vec<f32>> {
                    let r = machine.responsibilities(x)?;
                    Ok(shares.iter().zip(r).map(|(share, r)| (share - r) as f32).collect())
                };
                self.tasks.old.rows().map(row).collect::<Result<_>>()?
            }
            _ => return Ok(None),
        };
        Ok(Some((0..).map(ExampleId).zip(rows).collect()))
    }

    /// a_kr = β ΔE_k + log p_r(x_k) = β x_k·ξ_r − log Z_new(x_k), [candidates][targets].
    fn coverage(&self) -> KernelCoverage {
        let n = self.tasks.old.len();
        let beta = self.tasks.inverse_temperature;
        let affinity = |candidate: usize, target: usize| {
            self.closed.association[target * n + candidate].ln() + beta * self.closed.rise[target]
        };
        let rows = (0..n).map(|r| (0..n).map(|k| affinity(r, k) as f32).collect()).collect();
        KernelCoverage::new(rows, vec![0.; n], &(0..n as u64).collect::<Vec<_>>())
    }
}
