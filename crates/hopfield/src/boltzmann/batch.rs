//! Samples with masses, and where batches of them come from.

use super::softmax::dot;
use crate::error::{Result, refuse};

/// Samples [n, d], each with a mass; their mean loss is what training lowers.
#[derive(Clone, Debug)]
pub struct Batch {
    d: usize,
    samples: Vec<f64>,
    /// Masses over their sum, [n].
    shares: Vec<f64>,
    /// Σ share ½‖x‖².
    mean_half_square: f64,
    /// For sources that write in two passes; holds nothing between them.
    scratch: Vec<f64>,
}

impl Batch {
    /// `samples` [n, d], one after another, of equal mass.
    ///
    /// # Errors
    /// When there is no sample, d is 0 or does not divide the count, or a number or its square is not finite.
    pub fn new(samples: Vec<f64>, d: usize) -> Result<Self> {
        let n = samples.len() / d.max(1);
        Self::with_masses(samples, d, &vec![1.; n])
    }

    /// `samples` [n, d] and their `masses` [n], of any sum.
    ///
    /// # Errors
    /// As [`Self::new`]; when there is not one mass for each sample, one is negative, or their sum is no positive number.
    pub fn with_masses(samples: Vec<f64>, d: usize, masses: &[f64]) -> Result<Self> {
        if d == 0 || samples.is_empty() || !samples.len().is_multiple_of(d) {
            let got = format!("{} numbers", samples.len());
            return refuse("samples", format!("at least one of {d} numbers, d ≥ 1"), got);
        }
        let n = samples.len() / d;
        if masses.len() != n {
            return refuse("masses", format!("one for each of {n} samples"), masses.len());
        }
        if let Some(mass) = masses.iter().find(|mass| !(**mass >= 0. && mass.is_finite())) {
            return refuse("masses", "finite numbers, none negative", mass);
        }
        let total: f64 = masses.iter().sum();
        if !(total > 0. && total.is_finite()) {
            return refuse("masses", "a sum that is positive and finite", total);
        }
        let shares = masses.iter().map(|mass| mass / total).collect();
        let mut batch = Self { d, samples, shares, mean_half_square: 0., scratch: Vec::new() };
        batch.weigh()?;
        Ok(batch)
    }

    /// Numbers in a sample.
    pub fn d(&self) -> usize {
        self.d
    }

    /// The samples [n, d].
    pub fn samples(&self) -> &[f64] {
        &self.samples
    }

    /// The samples' masses over their sum, [n].
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    pub(super) fn mean_half_square(&self) -> f64 {
        self.mean_half_square
    }

    /// Writes other samples of the same number and masses in place; the second slice, as long, is room to work in.
    ///
    /// # Errors
    /// When `write` leaves a number that is not finite, or whose square is not.
    pub fn rewrite(&mut self, write: impl FnOnce(&mut [f64], &mut [f64])) -> Result<()> {
        self.scratch.resize(self.samples.len(), 0.);
        write(&mut self.samples, &mut self.scratch);
        self.weigh()
    }

    fn weigh(&mut self) -> Result<()> {
        let rows = self.samples.chunks_exact(self.d).zip(&self.shares);
        self.mean_half_square = rows.map(|(x, share)| 0.5 * share * dot(x, x)).sum();
        // A sample of mass 0 hides nothing: an infinite square times 0 is no number.
        if self.mean_half_square.is_finite() {
            return Ok(());
        }
        let is_bad = |x: &&[f64]| !dot(x, x).is_finite();
        let bad = self.samples.chunks_exact(self.d).position(|x| is_bad(&x)).unwrap_or(0);
        refuse("samples", "numbers whose squares are finite", format!("otherwise in sample {bad}"))
    }
}

/// A stream of batches: a pure function of the step.
///
/// A closure that returns a batch is a source.
pub trait Source: Sync {
    /// The batch of `step`, as a new one.
    ///
    /// # Errors
    /// When it holds a number that is not finite.
    fn batch(&self, step: u32) -> Result<Batch>;

    /// Writes the batch of `step` over that of another step.
    ///
    /// # Errors
    /// As [`Self::batch`].
    fn rewrite(&self, step: u32, batch: &mut Batch) -> Result<()> {
        *batch = self.batch(step)?;
        Ok(())
    }
}

impl<F: Fn(u32) -> Result<Batch> + Sync> Source for F {
    fn batch(&self, step: u32) -> Result<Batch> {
        self(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_batch_is_refused() {
        for (samples, d, masses, field) in [
            (vec![], 2, vec![], "samples"),
            (vec![1.], 0, vec![1.], "samples"),
            (vec![1.; 3], 2, vec![1.], "samples"),
            (vec![1., f64::NAN], 2, vec![1.], "samples"),
            (vec![1e200, 0.], 1, vec![0., 1.], "samples"),
            (vec![f64::INFINITY], 1, vec![0.], "masses"),
            (vec![1.; 2], 1, vec![1.], "masses"),
            (vec![1.; 2], 1, vec![2., -1.], "masses"),
            (vec![1.; 2], 1, vec![0., 0.], "masses"),
            (vec![1.; 2], 1, vec![1e308, 1e308], "masses"),
            (vec![1.; 2], 1, vec![f64::NAN, 1.], "masses"),
        ] {
            let error = Batch::with_masses(samples, d, &masses).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{field}: expected")), "{error}");
        }
        let mut batch = Batch::new(vec![0.; 4], 2).unwrap();
        assert!(batch.rewrite(|samples, _| samples[3] = f64::NAN).is_err());
    }
}
