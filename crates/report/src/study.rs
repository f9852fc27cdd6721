//! The measurements of a run as columns over its examples, found by what was measured when.
//!
//! A *column* has one number for each row of the table of examples, NaN where nothing was
//! measured (the ledger holds no NaN, so that the mark is free).
//!
//! The *boundary* of task k is the last step at which any arm that is through with it was measured while learning it.
//! All arms take equally many steps: an arm that was not measured at the boundary is unfinished.
//! A stage in progress has points on curves, but none that passes for its boundary.
//! Task 1 belongs to the arm `task-1`; every other arm, the control too, counts from task 2.

use crate::error::{Error, Result};
use crate::gauge::{DATA, EnergyForm, FIRST, Gauge, Scope};
use crate::stages::Stages;
use lethe_ledger::{
    ExampleRow, ExampleTable, Measurement, Quantity, Repetition, RunManifest, Split,
};
use std::collections::BTreeMap;
use std::path::Path;

/// What a column is of. Levels are compared by their bits: the ledger keeps them exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    run: usize,
    arm: String,
    learned_through: u32,
    quantity: Quantity,
    level: Option<u64>,
    step: u64,
}

/// A run's manifest, examples and columns.
#[derive(Debug)]
pub(crate) struct Study {
    manifest: RunManifest,
    examples: ExampleTable,
    /// None where all are measured.
    stages: Option<Stages>,
    /// The repetitions that means are over.
    furthest: Vec<usize>,
    columns: BTreeMap<Key, Vec<f64>>,
    /// Last step of (run, task).
    boundaries: BTreeMap<(usize, u32), u64>,
}

impl Study {
    /// Joins measurements with the examples; `stages` are those of an unfinished run, `path` is the ledger's, for errors.
    pub(crate) fn new(
        manifest: RunManifest,
        examples: ExampleTable,
        stages: Option<&Stages>,
        measurements: &[Measurement],
        path: &Path,
    ) -> Result<Self> {
        let (columns, boundaries) = (BTreeMap::new(), BTreeMap::new());
        let furthest = match stages {
            Some(stages) => stages.furthest(&manifest),
            None => (0..manifest.runs.len()).collect(),
        };
        let stages = stages.cloned();
        let mut study = Self { manifest, examples, stages, furthest, columns, boundaries };
        for measurement in measurements {
            study.insert(measurement, path)?;
        }
        Ok(study)
    }

    fn insert(&mut self, measurement: &Measurement, path: &Path) -> Result<()> {
        let inconsistent = |field, expected: String, got: String| {
            Err(Error::Inconsistent { path: path.to_owned(), field, expected, got })
        };
        let Some(run) = self.manifest.runs.iter().position(|known| known.run == measurement.run)
        else {
            return inconsistent("run", "a run of run.json".into(), measurement.run.clone());
        };
        let arm = &measurement.arm;
        if arm != DATA && arm != FIRST && !self.manifest.arms.contains(arm) {
            return inconsistent("arm", "an arm of run.json".into(), arm.clone());
        }
        let learned = measurement.learned_through;
        if !self.is_stage_of(arm, learned) {
            let n_tasks = self.n_tasks();
            let expected = format!(
                "a task up to {n_tasks}: 1 for arm {FIRST}, from 2 for the arms that go on from it"
            );
            return inconsistent("learned_through", expected, format!("{learned} for arm {arm}"));
        }
        let key = Key {
            run,
            arm: arm.clone(),
            learned_through: learned,
            quantity: measurement.quantity,
            level: measurement.level.map(f64::to_bits),
            step: measurement.step,
        };
        let n = self.examples.rows().len();
        let column = self.columns.entry(key).or_insert_with(|| vec![f64::NAN; n]);
        for (&id, &value) in measurement.examples.iter().zip(&measurement.values) {
            let Some(position) = self.examples.position(id) else {
                return inconsistent("examples", "ids of examples.json".into(), id.to_string());
            };
            if !column[position].is_nan() {
                let got = format!("example {id} twice, step {}, arm {arm}", measurement.step);
                return inconsistent(measurement.quantity.name(), "one value".into(), got);
            }
            column[position] = value;
        }
        let is_of_arm = arm != DATA && measurement.quantity != Quantity::Replayed;
        if is_of_arm && self.is_measured(run, arm, learned) {
            let last = self.boundaries.entry((run, learned)).or_default();
            *last = (*last).max(measurement.step);
        }
        Ok(())
    }

    /// Whether an arm may be measured after this task; 0 is before any.
    fn is_stage_of(&self, arm: &str, learned_through: u32) -> bool {
        match learned_through {
            0 => true,
            1 => arm == FIRST || arm == DATA,
            task => arm != FIRST && task <= self.n_tasks(),
        }
    }

    /// What was run.
    pub(crate) fn manifest(&self) -> &RunManifest {
        &self.manifest
    }

    /// The probed examples.
    pub(crate) fn examples(&self) -> &[ExampleRow] {
        self.examples.rows()
    }

    /// Number of tasks N.
    pub(crate) fn n_tasks(&self) -> u32 {
        self.manifest.tasks.len() as u32
    }

    /// Whether the boundary of a stage was measured.
    fn is_measured(&self, run: usize, arm: &str, task: u32) -> bool {
        self.stages.as_ref().is_none_or(|stages| {
            let stage = (self.manifest.runs[run].run.clone(), arm.to_owned(), task);
            stages.measured.contains(&stage)
        })
    }

    /// The repetitions of a scope, by their places in the manifest: of all, those that have come furthest.
    pub(crate) fn runs(&self, scope: Scope) -> Vec<usize> {
        match scope {
            Scope::Run(run) => vec![run],
            Scope::All => self.furthest.clone(),
        }
    }

    /// The repetitions that no mean is over: they have not come as far as others.
    pub(crate) fn left_out(&self) -> Vec<&Repetition> {
        let runs = self.manifest.runs.iter().enumerate();
        runs.filter(|(run, _)| !self.furthest.contains(run)).map(|(_, left)| left).collect()
    }

    /// Positions of the examples of one split whose task satisfies a condition.
    pub(crate) fn positions(&self, split: Split, is_task: impl Fn(u32) -> bool) -> Vec<usize> {
        let is_member = |row: &ExampleRow| row.split == split && is_task(row.task);
        let rows = self.examples().iter().enumerate();
        rows.filter(|(_, row)| is_member(row)).map(|(position, _)| position).collect()
    }

    /// Name of a class, or its number where the manifest has no name.
    pub(crate) fn class_name(&self, class: u32) -> String {
        let name = self.manifest.data.classes.get(class as usize);
        name.cloned().unwrap_or_else(|| format!("class {class}"))
    }

    /// A column at the boundary of a task. Task 1 belongs to the shared first arm.
    pub(crate) fn after(
        &self,
        scope: Scope,
        arm: &str,
        task: u32,
        gauge: Gauge,
    ) -> Option<Vec<f64>> {
        let arm = if task == 1 { FIRST } else { arm };
        self.average(scope, |run| {
            let step = *self.boundaries.get(&(run, task))?;
            let column = self.column(run, arm, task, gauge, step);
            column.filter(|_| self.is_measured(run, arm, task))
        })
    }

    /// The steps at which a gauge was read while an arm learned a task, in every run of the scope.
    pub(crate) fn steps(&self, scope: Scope, arm: &str, task: u32, gauge: Gauge) -> Vec<u64> {
        let mut runs =
            self.runs(scope).into_iter().map(|run| self.steps_of_run(run, arm, task, gauge));
        let first = runs.next().unwrap_or_default();
        runs.fold(first, |shared, steps| {
            shared.into_iter().filter(|step| steps.contains(step)).collect()
        })
    }

    fn steps_of_run(&self, run: usize, arm: &str, task: u32, gauge: Gauge) -> Vec<u64> {
        let key = |step| Key {
            run,
            arm: arm.to_owned(),
            learned_through: task,
            quantity: gauge.quantity,
            level: gauge.level.map(f64::to_bits),
            step,
        };
        self.columns.range(key(0)..=key(u64::MAX)).map(|(key, _)| key.step).collect()
    }

    /// The levels at which a quantity was measured, ascending.
    pub(crate) fn levels(&self, quantity: Quantity) -> Vec<f64> {
        let of_quantity = self.columns.keys().filter(|key| key.quantity == quantity);
        let mut levels: Vec<f64> =
            of_quantity.filter_map(|key| key.level.map(f64::from_bits)).collect();
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        levels
    }

    /// A column at a step of a task.
    pub(crate) fn at(
        &self,
        scope: Scope,
        arm: &str,
        task: u32,
        gauge: Gauge,
        step: u64,
    ) -> Option<Vec<f64>> {
        self.average(scope, |run| self.column(run, arm, task, gauge, step))
    }

    /// The last step of a task, if all runs of the scope agree.
    pub(crate) fn boundary(&self, scope: Scope, task: u32) -> Option<u64> {
        let mut steps = self.runs(scope).into_iter().map(|run| self.boundaries.get(&(run, task)));
        let first = steps.next()??;
        steps.all(|step| step == Some(first)).then_some(*first)
    }

    /// A fact of the examples.
    pub(crate) fn fact(&self, scope: Scope, quantity: Quantity) -> Option<Vec<f64>> {
        self.data(scope, 0, Gauge { quantity, level: None })
    }

    /// Energy of each example against the stored set of its own task, its own copy left out where
    /// it has one, at the inverse temperature of the manifest.
    pub(crate) fn energy(&self, scope: Scope, form: EnergyForm) -> Option<Vec<f64>> {
        let chosen = match form {
            EnergyForm::Distance => &self.manifest.inverse_temperatures.distance,
            EnergyForm::Unit => &self.manifest.inverse_temperatures.unit,
        };
        let level = Some(chosen.as_ref()?.value);
        let mut energies = vec![f64::NAN; self.examples().len()];
        for quantity in form.quantities() {
            for task in 1..=self.n_tasks() {
                if let Some(column) = self.data(scope, task, Gauge { quantity, level }) {
                    self.fill(&mut energies, &column, task);
                }
            }
        }
        energies.iter().any(|energy| !energy.is_nan()).then_some(energies)
    }

    /// Fills in the numbers of one task's examples that are still missing.
    fn fill(&self, energies: &mut [f64], column: &[f64], task: u32) {
        for ((energy, &found), row) in energies.iter_mut().zip(column).zip(self.examples()) {
            if row.task == task && energy.is_nan() {
                *energy = found;
            }
        }
    }

    /// Whether each example was in an arm's buffer while it learned the last task.
    pub(crate) fn replayed(&self, run: usize, arm: &str) -> Option<Vec<f64>> {
        let gauge = Gauge { quantity: Quantity::Replayed, level: None };
        let task = self.n_tasks();
        let step = *self.steps_of_run(run, arm, task, gauge).last()?;
        self.column(run, arm, task, gauge, step).cloned()
    }

    /// A column of the data arm: of the scope's run, or of the first run that has it, since it
    /// depends on no training.
    fn data(&self, scope: Scope, task: u32, gauge: Gauge) -> Option<Vec<f64>> {
        let own = match scope {
            Scope::Run(run) => Some(run),
            Scope::All => None,
        };
        own.into_iter().chain(0..self.manifest.runs.len()).find_map(|run| {
            let step = *self.steps_of_run(run, DATA, task, gauge).last()?;
            self.column(run, DATA, task, gauge, step).cloned()
        })
    }

    fn column(
        &self,
        run: usize,
        arm: &str,
        task: u32,
        gauge: Gauge,
        step: u64,
    ) -> Option<&Vec<f64>> {
        self.columns.get(&Key {
            run,
            arm: arm.to_owned(),
            learned_through: task,
            quantity: gauge.quantity,
            level: gauge.level.map(f64::to_bits),
            step,
        })
    }

    /// Mean of the runs' columns; none if a run lacks it.
    fn average<'a>(
        &self,
        scope: Scope,
        column: impl Fn(usize) -> Option<&'a Vec<f64>>,
    ) -> Option<Vec<f64>> {
        let columns: Vec<&Vec<f64>> =
            self.runs(scope).into_iter().map(column).collect::<Option<_>>()?;
        let n = columns.len() as f64;
        let mean = |position: usize| columns.iter().map(|column| column[position]).sum::<f64>() / n;
        (!columns.is_empty()).then(|| (0..self.examples().len()).map(mean).collect())
    }
}

/// The positions at which every column has a number, and the columns there.
pub(crate) fn complete(positions: &[usize], columns: &[&[f64]]) -> (Vec<usize>, Vec<Vec<f64>>) {
    let is_complete = |&position: &usize| {
        columns.iter().all(|column| column.get(position).is_some_and(|value| !value.is_nan()))
    };
    let kept: Vec<usize> = positions.iter().copied().filter(is_complete).collect();
    let pick = |column: &&[f64]| kept.iter().map(|&position| column[position]).collect();
    let picked = columns.iter().map(pick).collect();
    (kept, picked)
}

#[cfg(test)]
mod tests;
