//! Energies of examples under a stored set, leaving each example's own copy out where asked.

use candle_core::{D, DType, Result, Tensor, bail};
use lethe_kernels::hopfield_energy::{Answer, Form, Question, Wanted, energy};
use std::collections::BTreeMap;

/// The space in which a stored set and its queries are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// Vectors as they are, in the distance form: −(1/β) log of their smoothed density.
    Distance,
    /// Directions from the stored set's mean, in the dot form: the modern Hopfield network on unit vectors.
    Unit,
}

/// Stored patterns, ready for queries.
///
/// Law: see [`lethe_kernels::hopfield_energy`]; unit vectors are x̂ = (x − m) / ‖x − m‖ with m the stored mean.
#[derive(Debug)]
pub struct HopfieldEnergy {
    representation: Representation,
    /// [m, d], represented.
    patterns: Tensor,
    /// Where each example's own copy stands.
    positions: BTreeMap<u64, usize>,
    /// Mean of the stored vectors [1, d], for unit vectors.
    mean: Option<Tensor>,
}

impl HopfieldEnergy {
    /// Stores `patterns` [m, d], the vectors of `examples`.
    ///
    /// # Errors
    /// When a count differs, an id stands twice, or a vector has no direction from the mean.
    pub fn new(
        representation: Representation,
        patterns: &Tensor,
        examples: &[u64],
    ) -> Result<Self> {
        if patterns.dim(0)? != examples.len() {
            bail!("stored set: {} examples but vectors {:?}", examples.len(), patterns.dims());
        }
        let positions: BTreeMap<u64, usize> = examples.iter().copied().zip(0..).collect();
        if positions.len() != examples.len() {
            bail!("stored set: an example is stored twice");
        }
        let mean = match representation {
            Representation::Distance => None,
            Representation::Unit => {
                Some(patterns.to_dtype(DType::F64)?.mean_keepdim(0)?.to_dtype(patterns.dtype())?)
            }
        };
        let mut stored = Self { representation, patterns: patterns.clone(), positions, mean };
        stored.patterns = stored.represent(patterns, examples)?;
        Ok(stored)
    }

    /// The similarity that the representation implies.
    pub fn form(&self) -> Form {
        match self.representation {
            Representation::Distance => Form::Distance,
            Representation::Unit => Form::Dot,
        }
    }

    /// The stored vectors as they are compared, [m, d].
    pub fn patterns(&self) -> &Tensor {
        &self.patterns
    }

    /// `vectors` [n, d] of `examples` as they are compared with the stored ones, [n, d].
    ///
    /// # Errors
    /// When one has no direction from the stored mean.
    pub fn represent(&self, vectors: &Tensor, examples: &[u64]) -> Result<Tensor> {
        let Some(mean) = &self.mean else { return Ok(vectors.clone()) };
        let centred = vectors.broadcast_sub(mean)?;
        let norms = centred.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        let lengths: Vec<f64> = norms.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        if let Some(index) = lengths.iter().position(|&length| length <= 0.) {
            bail!("example {} equals the stored mean: it has no direction", examples[index]);
        }
        centred.broadcast_div(&norms)
    }

    /// E of every query under all stored patterns, its own copy included.
    ///
    /// `queries`: [n, d], the vectors of `examples`.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn full(
        &self,
        queries: &Tensor,
        examples: &[u64],
        inverse_temperature: f64,
    ) -> Result<Vec<f64>> {
        Ok(self.ask(queries, examples, inverse_temperature, None)?.energy)
    }

    /// E of every query under all stored patterns but its own copy.
    ///
    /// # Errors
    /// When shapes do not fit, or the only stored pattern is a query's own.
    pub fn leave_one_out(
        &self,
        queries: &Tensor,
        examples: &[u64],
        inverse_temperature: f64,
    ) -> Result<Vec<f64>> {
        let own: Vec<Option<usize>> =
            examples.iter().map(|id| self.positions.get(id).copied()).collect();
        Ok(self.ask(queries, examples, inverse_temperature, Some(&own))?.energy)
    }

    fn ask(
        &self,
        queries: &Tensor,
        examples: &[u64],
        inverse_temperature: f64,
        left_out: Option<&[Option<usize>]>,
    ) -> Result<Answer> {
        let queries = self.represent(queries, examples)?;
        let question = Question {
            form: self.form(),
            inverse_temperature,
            masses: None,
            left_out,
            wanted: Wanted::Energy,
        };
        energy(&queries.contiguous()?, &self.patterns, &question)
    }
}

/// Distance from each query [n, d] to the nearest pattern [m, d] but its own copy: the limit of large β, √(2E).
///
/// # Errors
/// When shapes do not fit.
pub fn nearest_neighbour_distance(
    stored: &HopfieldEnergy,
    queries: &Tensor,
    examples: &[u64],
) -> Result<Vec<f64>> {
    if stored.representation != Representation::Distance {
        bail!("nearest neighbours are taken in the distance representation");
    }
    // E exceeds half the squared distance by log(m)/β at most: 1e-11 here.
    let energies = stored.leave_one_out(queries, examples, 1e12)?;
    Ok(energies.into_iter().map(|energy| (2. * energy).max(0.).sqrt()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use lethe_candlex::rng::Seed;

    fn vectors(n: u64) -> (Tensor, Vec<u64>) {
        let ids: Vec<u64> = (0..n).map(|i| 10 * i).collect();
        let x = Seed(1).stream("patterns").normal(0, &ids, &[6], &Device::Cpu).unwrap();
        (x.to_dtype(DType::F64).unwrap(), ids)
    }

    #[test]
    fn leaving_out_ranks_as_keeping_in() {
        let (x, ids) = vectors(50);
        for representation in [Representation::Distance, Representation::Unit] {
            let stored = HopfieldEnergy::new(representation, &x, &ids).unwrap();
            let full = stored.full(&x, &ids, 0.7).unwrap();
            let out = stored.leave_one_out(&x, &ids, 0.7).unwrap();
            let order = |values: &[f64]| {
                let mut order: Vec<usize> = (0..values.len()).collect();
                order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
                order
            };
            assert_eq!(order(&full), order(&out), "{representation:?}");
            assert!(full.iter().zip(&out).all(|(full, out)| full <= out));
        }
    }

    #[test]
    fn a_stranger_leaves_nothing_out() {
        let (x, ids) = vectors(20);
        let stored = HopfieldEnergy::new(Representation::Distance, &x, &ids).unwrap();
        let stranger = x.narrow(0, 3, 1).unwrap();
        let out = stored.leave_one_out(&stranger, &[9999], 2.).unwrap();
        assert_eq!(out, stored.full(&stranger, &[9999], 2.).unwrap());
    }

    #[test]
    fn nearest_neighbours_are_found() {
        let (x, ids) = vectors(30);
        let stored = HopfieldEnergy::new(Representation::Distance, &x, &ids).unwrap();
        let found = nearest_neighbour_distance(&stored, &x, &ids).unwrap();
        let rows = x.to_vec2::<f64>().unwrap();
        for (i, found) in found.iter().enumerate() {
            let others = rows.iter().enumerate().filter(|(j, _)| *j != i);
            let squares = others.map(|(_, row)| {
                row.iter().zip(&rows[i]).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
            });
            let nearest = squares.fold(f64::INFINITY, f64::min).sqrt();
            assert!((found - nearest).abs() <= 1e-7, "{found} {nearest}");
        }
    }

    #[test]
    fn an_example_at_the_mean_has_no_direction() {
        let x = Tensor::new(&[[1f64, 0.], [-1., 0.], [0., 0.]], &Device::Cpu).unwrap();
        let error =
            HopfieldEnergy::new(Representation::Unit, &x, &[7, 8, 9]).unwrap_err().to_string();
        assert!(error.contains("example 9"), "{error}");
        assert!(HopfieldEnergy::new(Representation::Unit, &x, &[7, 8, 8]).is_err());
    }
}
