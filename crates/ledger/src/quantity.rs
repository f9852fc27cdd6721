//! The quantities that a ledger may hold: name, unit, meaning of the level, orientation.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Something measured on one example.
///
/// Pixels are in [-1, 1] throughout; `beta` is the inverse temperature, in 1/pixel² for the
/// distance form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Sum of absolute differences of neighbouring pixels.
    TotalVariation,
    /// Standard deviation of the pixels.
    Contrast,
    /// Euclidean norm of the pixels.
    Norm,
    /// Euclidean distance to the nearest other stored example.
    NearestNeighbourDistance,
    /// Hopfield energy, distance form: `-1/beta log mean_m exp(-beta/2 |x - x_m|²)`.
    EnergyDistance,
    /// The same without the example's own stored copy.
    EnergyDistanceLoo,
    /// Hopfield energy, dot form on centred unit-norm examples: `1/2 - 1/beta log sum_m exp(beta cos)`.
    EnergyUnit,
    /// The same without the example's own stored copy.
    EnergyUnitLoo,
    /// Mean square error per pixel, or per latent number, after noising to t and denoising back.
    ReconstructionError,
    /// Mean square error per pixel of a latent reconstruction, decoded, against the image itself.
    DecodedError,
    /// Mean square error of the predicted noise at t, per dimension, in a single step.
    DenoisingLoss,
    /// Variational bound on the negative log-likelihood.
    VariationalBound,
    /// 1 if the example was in the arm's buffer while this task was learned, else 0.
    Replayed,
}

/// What the level of a quantity means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelMeaning {
    /// The quantity has no level.
    None,
    /// The level is the inverse temperature, > 0.
    InverseTemperature,
    /// The level is the noise level t/T, in [0, 1].
    Time,
}

/// Whether more of a quantity is worse for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// The model is worse on this example when the number is higher: a rise is forgetting.
    HigherIsWorse,
    /// A fact about the example or the stored set, not a judgement of the model.
    Neutral,
}

impl Quantity {
    /// Every quantity, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::TotalVariation,
        Self::Contrast,
        Self::Norm,
        Self::NearestNeighbourDistance,
        Self::EnergyDistance,
        Self::EnergyDistanceLoo,
        Self::EnergyUnit,
        Self::EnergyUnitLoo,
        Self::ReconstructionError,
        Self::DecodedError,
        Self::DenoisingLoss,
        Self::VariationalBound,
        Self::Replayed,
    ];

    /// The name in files: snake_case.
    pub fn name(self) -> &'static str {
        match self {
            Self::TotalVariation => "total_variation",
            Self::Contrast => "contrast",
            Self::Norm => "norm",
            Self::NearestNeighbourDistance => "nearest_neighbour_distance",
            Self::EnergyDistance => "energy_distance",
            Self::EnergyDistanceLoo => "energy_distance_loo",
            Self::EnergyUnit => "energy_unit",
            Self::EnergyUnitLoo => "energy_unit_loo",
            Self::ReconstructionError => "reconstruction_error",
            Self::DecodedError => "decoded_error",
            Self::DenoisingLoss => "denoising_loss",
            Self::VariationalBound => "variational_bound",
            Self::Replayed => "replayed",
        }
    }

    /// The unit, as printed beside a number.
    pub fn unit(self) -> &'static str {
        match self {
            Self::TotalVariation | Self::Contrast | Self::Norm => "pixel",
            Self::NearestNeighbourDistance => "pixel",
            Self::EnergyDistance | Self::EnergyDistanceLoo => "pixel²",
            Self::EnergyUnit | Self::EnergyUnitLoo => "1",
            Self::ReconstructionError | Self::DecodedError => "pixel²",
            Self::DenoisingLoss => "1",
            Self::VariationalBound => "bits/dimension",
            Self::Replayed => "0 or 1",
        }
    }

    /// Whether a rise means that the model got worse.
    pub fn orientation(self) -> Orientation {
        match self {
            Self::ReconstructionError
            | Self::DecodedError
            | Self::DenoisingLoss
            | Self::VariationalBound => Orientation::HigherIsWorse,
            _ => Orientation::Neutral,
        }
    }

    /// What the level of a measurement of this quantity means.
    pub fn level(self) -> LevelMeaning {
        match self {
            Self::EnergyDistance
            | Self::EnergyDistanceLoo
            | Self::EnergyUnit
            | Self::EnergyUnitLoo => LevelMeaning::InverseTemperature,
            Self::ReconstructionError | Self::DecodedError | Self::DenoisingLoss => {
                LevelMeaning::Time
            }
            _ => LevelMeaning::None,
        }
    }

    /// One line that defines the quantity.
    pub fn description(self) -> &'static str {
        match self {
            Self::TotalVariation => "sum of absolute differences of neighbouring pixels",
            Self::Contrast => "standard deviation of the example's pixels",
            Self::Norm => "Euclidean norm of the example's pixels",
            Self::NearestNeighbourDistance => {
                "Euclidean distance to the nearest other example of the stored set"
            }
            Self::EnergyDistance => {
                "Hopfield energy of the example under a stored set of M examples, distance form: -(1/b) log((1/M) sum exp(-(b/2) |x - x_m|²))"
            }
            Self::EnergyDistanceLoo => {
                "energy_distance with the example's own stored copy left out; for an example that is not stored, the same as energy_distance"
            }
            Self::EnergyUnit => {
                "Hopfield energy, dot form on centred unit-norm examples: 1/2 - (1/b) log(sum exp(b cos(x, x_m)))"
            }
            Self::EnergyUnitLoo => {
                "energy_unit with the example's own stored copy left out; for an example that is not stored, the same as energy_unit"
            }
            Self::ReconstructionError => {
                "mean square error per pixel (per latent number, where diffusion is on latents) after noising the example to t/T and denoising it back, with noise shared by all measurements"
            }
            Self::DecodedError => {
                "mean square error per pixel of the decoded reconstruction against the image itself, the autoencoder's own error included"
            }
            Self::DenoisingLoss => {
                "mean square error per dimension of the noise predicted in one step at t/T, with noise shared by all measurements"
            }
            Self::VariationalBound => {
                "variational upper bound on the negative log-likelihood, with noise shared by all measurements"
            }
            Self::Replayed => {
                "1 if the example was in the arm's replay buffer while this task was learned, else 0"
            }
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|quantity| quantity.name() == name).ok_or_else(|| {
            Error::UnknownQuantity {
                found: name.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_agree_with_files() {
        for quantity in Quantity::ALL {
            let parsed: Quantity = quantity.name().parse().unwrap();
            assert_eq!(parsed, quantity);
            let json = serde_json::to_string(&quantity).unwrap();
            assert_eq!(json, format!("\"{}\"", quantity.name()));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = "fid".parse::<Quantity>().unwrap_err().to_string();
        assert!(message.contains("`fid`") && message.contains("variational_bound"), "{message}");
    }
}
