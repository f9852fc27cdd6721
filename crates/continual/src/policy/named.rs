//! The registry: every policy under the name that protocols and reports use.

use std::{fmt, str::FromStr};

use super::{Balance, ByPriority, Greedy, Herding, Reservoir, SelectionPolicy, Stratified};
use crate::{ContinualError, error::Result};

/// A policy that the project ships.
///
/// Parsed from, and displayed as, the name beside each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// `random`: a uniform sample of the task, blind to classes (reservoir).
    Random,
    /// `class-balanced`: a uniform sample of each class.
    ClassBalanced,
    /// `top-energy`: the highest energies, the isolated examples (the paper's proposal).
    TopEnergy,
    /// `bottom-energy`: the lowest energies, the crowded examples.
    BottomEnergy,
    /// `stratified-energy`: equally many from each energy decile.
    StratifiedEnergy,
    /// `top-loss`: the highest denoising loss.
    TopLoss,
    /// `nearest-neighbour`: the largest distance to the nearest neighbour.
    NearestNeighbour,
    /// `herding`: the sample whose mean follows the class mean (iCaRL).
    Herding,
    /// `greedy`: the largest replay gain of the set as a whole (submodular).
    Greedy,
}

/// What the caller must measure before a policy can select.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// [`Candidate::priority`](super::Candidate) is the Hopfield energy; higher is more isolated.
    Energy,
    /// The priority is the denoising loss or bound; higher is worse.
    Loss,
    /// The priority is the distance to the nearest other example.
    NeighbourDistance,
    /// [`Evidence::features`](super::Evidence) must be there.
    Features,
    /// [`Evidence::coverage`](super::Evidence) must be there.
    Coverage,
}

impl Policy {
    /// Every policy, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::Random,
        Self::ClassBalanced,
        Self::TopEnergy,
        Self::BottomEnergy,
        Self::StratifiedEnergy,
        Self::TopLoss,
        Self::NearestNeighbour,
        Self::Herding,
        Self::Greedy,
    ];

    /// The name in protocols, ledgers and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::ClassBalanced => "class-balanced",
            Self::TopEnergy => "top-energy",
            Self::BottomEnergy => "bottom-energy",
            Self::StratifiedEnergy => "stratified-energy",
            Self::TopLoss => "top-loss",
            Self::NearestNeighbour => "nearest-neighbour",
            Self::Herding => "herding",
            Self::Greedy => "greedy",
        }
    }

    /// What must be measured first.
    pub fn needs(self) -> Needs {
        match self {
            Self::Random | Self::ClassBalanced => Needs::Nothing,
            Self::TopEnergy | Self::BottomEnergy | Self::StratifiedEnergy => Needs::Energy,
            Self::TopLoss => Needs::Loss,
            Self::NearestNeighbour => Needs::NeighbourDistance,
            Self::Herding => Needs::Features,
            Self::Greedy => Needs::Coverage,
        }
    }

    /// The balance that this policy follows when the protocol asks for `wanted`.
    ///
    /// `random` is blind to classes and `class-balanced` is not, whatever the protocol says.
    pub fn balance(self, wanted: Balance) -> Balance {
        match self {
            Self::Random => Balance::None,
            Self::ClassBalanced => Balance::PerClass,
            _ => wanted,
        }
    }

    /// The rule behind the name.
    pub fn rule(self) -> &'static dyn SelectionPolicy {
        match self {
            Self::Random | Self::ClassBalanced => &Reservoir,
            Self::TopEnergy | Self::TopLoss | Self::NearestNeighbour => &ByPriority::Highest,
            Self::BottomEnergy => &ByPriority::Lowest,
            Self::StratifiedEnergy => &Stratified,
            Self::Herding => &Herding,
            Self::Greedy => &Greedy,
        }
    }
}

impl FromStr for Policy {
    type Err = ContinualError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name).ok_or_else(|| {
            ContinualError::UnknownName {
                kind: "policy",
                name: name.to_owned(),
                expected: format!("one of {}", Self::ALL.map(Self::name).join(", ")),
            }
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
