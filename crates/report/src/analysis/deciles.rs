//! Error and its rise over ten equal groups of examples by energy.

use super::{CONTROL, NONE, Outcome, View, sentence};
use crate::gauge::{EnergyForm, Gauge};
use crate::study::complete;
use lethe_ledger::statistics::{Deciles, Interval, Trend};
use lethe_ledger::{Quantity, Split};

/// Decile means of one gauge under one form of the energy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    pub(crate) form: EnergyForm,
    pub(crate) gauge: Gauge,
    pub(crate) n: usize,
    /// Mean energy of each decile.
    pub(crate) energy: Vec<Interval>,
    pub(crate) before: Vec<Interval>,
    pub(crate) after: Vec<Interval>,
    pub(crate) increment: Vec<Interval>,
    /// Where the means of the rise would lie if energies were shuffled over the examples.
    pub(crate) shuffled: Vec<Interval>,
    /// The rise in the control arm.
    pub(crate) control: Outcome<Vec<Interval>>,
    /// Correlation of decile and mean rise, and the trend test over deciles.
    pub(crate) spearman: Outcome<Interval>,
    pub(crate) trend: Outcome<Trend>,
    /// (energy, rise) of each example.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Measures the profile of the arm without replay on the first task's training examples.
pub(crate) fn measure(view: &View<'_>, form: EnergyForm, gauge: Gauge) -> Outcome<Profile> {
    let energy = view.energy(form)?;
    let (before, after) = (view.before(gauge)?, view.after(NONE, view.last(), gauge)?);
    let positions = view.first_task(Split::Train);
    let (kept, columns) = complete(&positions, &[&energy, &before, &after]);
    let [energy, before, after] = columns.as_slice() else { return Err("no columns".into()) };
    let rise = super::subtract(after, before);
    let deciles = Deciles::by(energy).map_err(sentence)?;
    let means = |column: &[f64]| deciles.means(column, &view.bootstrap).map_err(sentence);
    let control = view.increment(CONTROL, gauge).and_then(|column| {
        let values: Vec<f64> = kept.iter().map(|&position| column[position]).collect();
        means(&values)
    });
    Ok(Profile {
        form,
        gauge,
        n: kept.len(),
        energy: means(energy)?,
        before: means(before)?,
        after: means(after)?,
        increment: means(&rise)?,
        shuffled: deciles.shuffled_means(&rise, &view.bootstrap).map_err(sentence)?,
        control,
        spearman: deciles.spearman(&rise, &view.bootstrap).map_err(sentence),
        trend: deciles.trend(&rise).map_err(sentence),
        points: energy.iter().copied().zip(rise.iter().copied()).collect(),
    })
}

/// The levels of the reconstruction error that the manifest names.
pub(crate) fn gauges(view: &View<'_>) -> Vec<Gauge> {
    let levels = view.study.manifest().levels.iter();
    levels
        .map(|&level| Gauge { quantity: Quantity::ReconstructionError, level: Some(level) })
        .collect()
}
