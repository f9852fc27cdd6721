//! How energy goes with error, its rise, and the rise of the likelihood bound.

use super::{NONE, Outcome, View, sentence};
use crate::gauge::{EnergyForm, Gauge};
use crate::study::complete;
use lethe_ledger::statistics::{Deciles, Interval, RankCorrelation, Trend};
use lethe_ledger::{Quantity, Split};
use std::collections::BTreeSet;

/// What energy is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Error after the first task.
    Before,
    /// Error after the last, without replay.
    After,
    /// Its rise.
    Increment,
    /// Rise of the variational bound.
    BoundIncrement,
    /// Rise of the denoising loss.
    LossIncrement,
}

impl Target {
    pub(crate) const ALL: [Self; 5] =
        [Self::Before, Self::After, Self::Increment, Self::BoundIncrement, Self::LossIncrement];

    /// The symbol of the page.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Before => "R before",
            Self::After => "R after",
            Self::Increment => "ΔR",
            Self::BoundIncrement => "Δ bound",
            Self::LossIncrement => "Δ loss",
        }
    }

    /// The name in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Before => "r_before",
            Self::After => "r_after",
            Self::Increment => "r_increment",
            Self::BoundIncrement => "variational_bound_increment",
            Self::LossIncrement => "denoising_loss_increment",
        }
    }

    fn column(self, view: &View<'_>) -> Outcome<Vec<f64>> {
        match self {
            Self::Before => view.before(view.headline()),
            Self::After => view.after(NONE, view.last(), view.headline()),
            Self::Increment => view.increment(NONE, view.headline()),
            Self::BoundIncrement => view.increment(NONE, Gauge::VARIATIONAL_BOUND),
            Self::LossIncrement => view.increment(NONE, loss_gauge(view)?),
        }
    }
}

/// One row of the correlations.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Correlation {
    pub(crate) form: EnergyForm,
    pub(crate) split: Split,
    pub(crate) target: Target,
    pub(crate) n: usize,
    /// Over examples.
    pub(crate) spearman: Outcome<Interval>,
    /// The range that shuffled energies give.
    pub(crate) shuffled: Outcome<Interval>,
    /// Over energy deciles.
    pub(crate) deciles: Outcome<Interval>,
    pub(crate) trend: Outcome<Trend>,
    /// Over examples, with R before, total variation, contrast and norm taken out.
    pub(crate) partial: Outcome<Interval>,
    /// The same with the classes taken out too.
    pub(crate) within: Outcome<Interval>,
}

/// Correlates energy with a target on the first task's examples of a split.
pub(crate) fn measure(
    view: &View<'_>,
    form: EnergyForm,
    split: Split,
    target: Target,
) -> Outcome<Correlation> {
    let energy = view.energy(form)?;
    let values = target.column(view)?;
    let positions = view.first_task(split);
    let (kept, columns) = complete(&positions, &[&energy, &values]);
    let (energy, values) = (&columns[0], &columns[1]);
    let plain = RankCorrelation::new(energy, values, &[]).map_err(sentence)?;
    let groups = Deciles::by(energy).map_err(sentence);
    Ok(Correlation {
        form,
        split,
        target,
        n: kept.len(),
        spearman: plain.interval(&view.bootstrap).map_err(sentence),
        shuffled: plain.shuffled(&view.bootstrap).map_err(sentence),
        deciles: groups
            .clone()
            .and_then(|groups| groups.spearman(values, &view.bootstrap).map_err(sentence)),
        trend: groups.and_then(|groups| groups.trend(values).map_err(sentence)),
        partial: partial(view, form, split, target, &[]),
        within: partial(view, form, split, target, &classes(view, split)),
    })
}

/// For every class of the first task but one: 1 for its examples, 0 for the others.
fn classes(view: &View<'_>, split: Split) -> Vec<Vec<f64>> {
    let class = |position: usize| view.study.examples()[position].class;
    let present: BTreeSet<u32> = view.first_task(split).into_iter().map(class).collect();
    let column = |&wanted: &u32| {
        let all = view.study.examples().iter();
        all.map(|example| f64::from(u8::from(example.class == wanted))).collect()
    };
    present.iter().skip(1).map(column).collect()
}

/// The partial correlation, on the examples for which all controls were measured; `further` ones are taken out too.
fn partial(
    view: &View<'_>,
    form: EnergyForm,
    split: Split,
    target: Target,
    further: &[Vec<f64>],
) -> Outcome<Interval> {
    let mut columns = vec![view.energy(form)?, target.column(view)?];
    if target != Target::Before {
        columns.push(view.before(view.headline())?);
    }
    for quantity in [Quantity::TotalVariation, Quantity::Contrast, Quantity::Norm] {
        columns.push(view.fact(quantity)?);
    }
    columns.extend_from_slice(further);
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let (_, picked) = complete(&view.first_task(split), &columns);
    let controls: Vec<&[f64]> = picked[2..].iter().map(Vec::as_slice).collect();
    RankCorrelation::new(&picked[0], &picked[1], &controls)
        .and_then(|correlation| correlation.interval(&view.bootstrap))
        .map_err(sentence)
}

/// The denoising loss at the measured level nearest to the headline's.
pub(crate) fn loss_gauge(view: &View<'_>) -> Outcome<Gauge> {
    let headline = view.study.manifest().headline_level;
    let distance = |level: f64| (level - headline).abs();
    let level = view
        .study
        .levels(Quantity::DenoisingLoss)
        .into_iter()
        .min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
        .ok_or("denoising_loss was not measured")?;
    Ok(Gauge { quantity: Quantity::DenoisingLoss, level: Some(level) })
}
