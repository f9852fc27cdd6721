//! The registry: every policy under the name that protocols and reports use.

use std::{fmt, str::FromStr};

use super::{
    Balance, ByPriority, EnergyWeighted, GradientDiversity, Greedy, Herding, KCenter, Reservoir,
    SelectionPolicy, Stratified,
};
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
    /// `energy-weighted`: a sample with probability proportional to e^{E/tau}.
    EnergyWeighted,
    /// `top-loss`: the highest denoising loss.
    TopLoss,
    /// `nearest-neighbour`: the largest distance to the nearest neighbour.
    NearestNeighbour,
    /// `herding`: the sample whose mean follows the class mean (iCaRL).
    Herding,
    /// `k-center`: the cover that leaves nothing far from what is kept.
    KCenter,
    /// `greedy`: the largest replay gain of the set as a whole (submodular).
    Greedy,
    /// `gradient-diversity`: gradients in as many directions as possible (GSS-Greedy).
    GradientDiversity,
    /// `interference`: the losses that a virtual step on the new task raises most (MIR).
    ///
    /// Source: Aljundi et al. 2019, "Online Continual Learning with Maximally Interfered Retrieval".
    /// Unlike there, it chooses what stays in the buffer, not what a batch takes from it.
    Interference,
    /// `most-forgotten`: the largest forgetting in a pilot run without replay (an oracle).
    MostForgotten,
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
    /// [`Evidence::features`](super::Evidence) must be the gradient of each example's loss.
    Gradients,
    /// The priority is the loss after a virtual step on the new task minus the loss before it.
    Interference,
    /// The priority is what a pilot run without replay forgot of the example; higher is more.
    Forgetting,
}

impl Policy {
    /// Every policy, in the order of reports.
    pub const ALL: [Self; 14] = [
        Self::Random,
        Self::ClassBalanced,
        Self::TopEnergy,
        Self::BottomEnergy,
        Self::StratifiedEnergy,
        Self::EnergyWeighted,
        Self::TopLoss,
        Self::NearestNeighbour,
        Self::Herding,
        Self::KCenter,
        Self::Greedy,
        Self::GradientDiversity,
        Self::Interference,
        Self::MostForgotten,
    ];

    /// The name in protocols, ledgers and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::ClassBalanced => "class-balanced",
            Self::TopEnergy => "top-energy",
            Self::BottomEnergy => "bottom-energy",
            Self::StratifiedEnergy => "stratified-energy",
            Self::EnergyWeighted => "energy-weighted",
            Self::TopLoss => "top-loss",
            Self::NearestNeighbour => "nearest-neighbour",
            Self::Herding => "herding",
            Self::KCenter => "k-center",
            Self::Greedy => "greedy",
            Self::GradientDiversity => "gradient-diversity",
            Self::Interference => "interference",
            Self::MostForgotten => "most-forgotten",
        }
    }

    /// What must be measured first.
    pub fn needs(self) -> Needs {
        match self {
            Self::Random | Self::ClassBalanced => Needs::Nothing,
            Self::TopEnergy
            | Self::BottomEnergy
            | Self::StratifiedEnergy
            | Self::EnergyWeighted => Needs::Energy,
            Self::TopLoss => Needs::Loss,
            Self::NearestNeighbour => Needs::NeighbourDistance,
            Self::Herding | Self::KCenter => Needs::Features,
            Self::Greedy => Needs::Coverage,
            Self::GradientDiversity => Needs::Gradients,
            Self::Interference => Needs::Interference,
            Self::MostForgotten => Needs::Forgetting,
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
            Self::TopEnergy
            | Self::TopLoss
            | Self::NearestNeighbour
            | Self::Interference
            | Self::MostForgotten => &ByPriority::Highest,
            Self::BottomEnergy => &ByPriority::Lowest,
            Self::StratifiedEnergy => &Stratified,
            Self::EnergyWeighted => &EnergyWeighted,
            Self::Herding => &Herding,
            Self::KCenter => &KCenter,
            Self::Greedy => &Greedy,
            Self::GradientDiversity => &GradientDiversity,
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
