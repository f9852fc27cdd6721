//! What a report says, as numbers: every figure and table has its analysis here.
//!
//! An analysis that lacks a measurement says which one, and the page prints that sentence.

pub(crate) mod arms;
pub(crate) mod correlations;
pub(crate) mod curves;
pub(crate) mod deciles;
pub(crate) mod extremes;
pub(crate) mod headline;
pub(crate) mod matrix;
pub(crate) mod trainings;

use crate::gauge::{EnergyForm, FIRST, Gauge, Scope};
use crate::number;
use crate::study::{Study, complete};
use lethe_ledger::statistics::{Bootstrap, Deciles, Interval};
use lethe_ledger::{Quantity, Repetition, Split};

/// A number, or the sentence that says why there is none.
pub(crate) type Outcome<T> = Result<T, String>;

/// The arm without replay: what all mitigation is measured against.
pub(crate) const NONE: &str = "none";
/// The arm that goes on with the first task: what changes without a new task.
pub(crate) const CONTROL: &str = "control";

/// A study seen in one scope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) study: &'a Study,
    pub(crate) scope: Scope,
    pub(crate) bootstrap: Bootstrap,
}

impl<'a> View<'a> {
    /// The repetitions in view.
    pub(crate) fn repetitions(&self) -> Vec<&'a Repetition> {
        self.one_by_one().map(|(repetition, _)| repetition).collect()
    }

    /// Each repetition in view, and the view of it alone.
    pub(crate) fn one_by_one(self) -> impl Iterator<Item = (&'a Repetition, Self)> {
        let alone = move |run| View { scope: Scope::Run(run), ..self };
        let runs = self.study.runs(self.scope).into_iter();
        runs.map(move |run| (&self.study.manifest().runs[run], alone(run)))
    }

    /// The reconstruction error at the level of the headline.
    pub(crate) fn headline(&self) -> Gauge {
        Gauge::reconstruction(self.study.manifest().headline_level)
    }

    /// Number of the last task.
    pub(crate) fn last(&self) -> u32 {
        self.study.n_tasks()
    }

    /// Positions of the first task's examples.
    pub(crate) fn first_task(&self, split: Split) -> Vec<usize> {
        self.study.positions(split, |task| task == 1)
    }

    /// Positions of the examples of every task before the last.
    pub(crate) fn old(&self, split: Split) -> Vec<usize> {
        let last = self.last();
        self.study.positions(split, |task| task < last)
    }

    /// A column after the first task.
    pub(crate) fn before(&self, gauge: Gauge) -> Outcome<Vec<f64>> {
        self.after(FIRST, 1, gauge)
    }

    /// A column of an arm after a task.
    pub(crate) fn after(&self, arm: &str, task: u32, gauge: Gauge) -> Outcome<Vec<f64>> {
        self.study.after(self.scope, arm, task, gauge).ok_or_else(|| {
            format!("{} was not measured after task {task} of arm {arm}", name(gauge))
        })
    }

    /// Rise of a gauge from the first task to the end of an arm.
    pub(crate) fn increment(&self, arm: &str, gauge: Gauge) -> Outcome<Vec<f64>> {
        Ok(subtract(&self.after(arm, self.last(), gauge)?, &self.before(gauge)?))
    }

    /// The energies of one form.
    pub(crate) fn energy(&self, form: EnergyForm) -> Outcome<Vec<f64>> {
        self.study.energy(self.scope, form).ok_or_else(|| {
            format!(
                "the energy in {} form was not measured at the inverse temperature of run.json",
                form.name()
            )
        })
    }

    /// The energy by which examples are put into deciles: distance form, else unit form.
    pub(crate) fn leading_energy(&self) -> Outcome<(EnergyForm, Vec<f64>)> {
        let of = |form| self.energy(form).map(|energy| (form, energy));
        of(EnergyForm::Distance).or_else(|why| of(EnergyForm::Unit).map_err(|_| why))
    }

    /// A fact of the examples.
    pub(crate) fn fact(&self, quantity: Quantity) -> Outcome<Vec<f64>> {
        self.study
            .fact(self.scope, quantity)
            .ok_or_else(|| format!("{} was not measured", quantity.name()))
    }

    /// Mean of a column over the positions where it was measured.
    pub(crate) fn mean(&self, column: &[f64], positions: &[usize]) -> Outcome<Interval> {
        let (_, values) = complete(positions, &[column]);
        let values = values.first().map_or(&[][..], Vec::as_slice);
        self.bootstrap.mean(values).map_err(sentence)
    }

    /// The positions of the highest tenth by the leading energy.
    pub(crate) fn top_decile(&self, positions: &[usize]) -> Outcome<Vec<usize>> {
        let (_, energy) = self.leading_energy()?;
        let (kept, values) = complete(positions, &[&energy]);
        let deciles = Deciles::by(&values[0]).map_err(sentence)?;
        Ok(deciles.top().iter().map(|&index| kept[index]).collect())
    }
}

/// `a - b`, NaN where either is missing.
pub(crate) fn subtract(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Why a statistic has no value, as a sentence of the page.
pub(crate) fn sentence(error: lethe_ledger::Error) -> String {
    error.to_string()
}

/// A gauge in words.
pub(crate) fn name(gauge: Gauge) -> String {
    match gauge.level {
        Some(level) => format!("{} at level {}", gauge.quantity.name(), number::short(level)),
        None => gauge.quantity.name().to_owned(),
    }
}
