//! The names by which a study is asked: which runs, which arm, which quantity at which level.

use lethe_ledger::Quantity;

/// The arm of facts that depend on no network.
pub(crate) const DATA: &str = "data";
/// The arm of the first task, which all others share.
pub(crate) const FIRST: &str = "task-1";

/// Which repetitions a column is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One repetition, by its place in the manifest.
    Run(usize),
    /// The mean over the repetitions that have come furthest, example by example: over all, if the run is finished.
    All,
}

/// The two forms of the energy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnergyForm {
    /// From squared distances.
    Distance,
    /// From cosines.
    Unit,
}

impl EnergyForm {
    pub(crate) const ALL: [Self; 2] = [Self::Distance, Self::Unit];

    /// The word for tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Distance => "distance",
            Self::Unit => "unit",
        }
    }

    /// The quantities that hold this energy, the one without the own copy first.
    pub(crate) fn quantities(self) -> [Quantity; 2] {
        match self {
            Self::Distance => [Quantity::EnergyDistanceLoo, Quantity::EnergyDistance],
            Self::Unit => [Quantity::EnergyUnitLoo, Quantity::EnergyUnit],
        }
    }
}

/// A quantity at its level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gauge {
    pub(crate) quantity: Quantity,
    pub(crate) level: Option<f64>,
}

impl Gauge {
    /// The reconstruction error at t/T.
    pub(crate) fn reconstruction(level: f64) -> Self {
        Self { quantity: Quantity::ReconstructionError, level: Some(level) }
    }

    /// The variational bound.
    pub(crate) const VARIATIONAL_BOUND: Self =
        Self { quantity: Quantity::VariationalBound, level: None };
}
