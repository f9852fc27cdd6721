//! Hopfield energies of examples against a stored set.

use crate::{Examples, Reading};
use candle_core::Result;
use lethe_hopfield::{HopfieldEnergy, Representation, nearest_neighbour_distance};
use lethe_ledger::Quantity;

/// The inverse temperature of each form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperatures {
    /// Distance form, 1/pixel².
    pub distance: f64,
    /// Dot form on unit vectors.
    pub unit: f64,
}

/// Both forms of one stored set.
#[derive(Debug)]
pub struct StoredSet {
    distance: HopfieldEnergy,
    unit: HopfieldEnergy,
}

impl StoredSet {
    /// # Errors
    /// When an id stands twice, or an example has no direction from the mean of all.
    pub fn new(stored: &Examples) -> Result<Self> {
        let vectors = stored.vectors()?;
        Ok(Self {
            distance: HopfieldEnergy::new(Representation::Distance, &vectors, stored.ids())?,
            unit: HopfieldEnergy::new(Representation::Unit, &vectors, stored.ids())?,
        })
    }

    /// The distance form.
    pub fn distance(&self) -> &HopfieldEnergy {
        &self.distance
    }

    /// The unit form.
    pub fn unit(&self) -> &HopfieldEnergy {
        &self.unit
    }

    /// Energies of the examples in both forms, with and without their own copies.
    ///
    /// # Errors
    /// When an example has no direction from the stored mean.
    pub fn energies(
        &self,
        examples: &Examples,
        temperatures: Temperatures,
    ) -> Result<Vec<Reading>> {
        let (vectors, ids) = (examples.vectors()?, examples.ids());
        let reading = |quantity, level: f64, values| Reading {
            quantity,
            level: Some(level),
            examples: ids.to_vec(),
            values,
        };
        let Temperatures { distance, unit } = temperatures;
        Ok(vec![
            reading(
                Quantity::EnergyDistance,
                distance,
                self.distance.full(&vectors, ids, distance)?,
            ),
            reading(
                Quantity::EnergyDistanceLoo,
                distance,
                self.distance.leave_one_out(&vectors, ids, distance)?,
            ),
            reading(Quantity::EnergyUnit, unit, self.unit.full(&vectors, ids, unit)?),
            reading(Quantity::EnergyUnitLoo, unit, self.unit.leave_one_out(&vectors, ids, unit)?),
        ])
    }

    /// Distance to the nearest other stored example.
    ///
    /// # Errors
    /// Those of candle.
    pub fn nearest(&self, examples: &Examples) -> Result<Reading> {
        Ok(Reading {
            quantity: Quantity::NearestNeighbourDistance,
            level: None,
            examples: examples.ids().to_vec(),
            values: nearest_neighbour_distance(
                &self.distance,
                &examples.vectors()?,
                examples.ids(),
            )?,
        })
    }
}
