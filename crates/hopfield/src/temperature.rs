//! Choosing the inverse temperature: the one at which a pattern has a given number of neighbours.
//!
//! Law: β such that median_i exp H(softmax_{j ≠ i}(β s_ij)) = k, with s the similarity and H the entropy.
//! At small β every pattern sees all others, at large β its nearest alone; the perplexity falls in between.
//! Source: as for the neighbourhoods of van der Maaten & Hinton 2008, taken over the whole set.

use crate::HopfieldEnergy;
use candle_core::{DType, Result, Tensor, bail};
use lethe_kernels::hopfield_energy::Form;
use rayon::prelude::*;

/// Patterns whose neighbourhoods are looked at, at most: their similarities to all others are held.
const WITNESSES: usize = 512;

/// Halvings of the interval of log β.
const HALVINGS: usize = 60;

/// The β at which the median perplexity over the stored patterns is `perplexity`.
///
/// Up to 512 patterns, evenly spread over the set, are asked.
///
/// # Errors
/// When fewer than `perplexity` + 2 patterns are stored, `perplexity` is not above 1, or so many patterns coincide
/// that no β reaches it.
pub fn at_perplexity(stored: &HopfieldEnergy, perplexity: f64) -> Result<f64> {
    let m = stored.patterns().dim(0)?;
    if !(perplexity > 1. && perplexity + 1. < m as f64) {
        bail!(
            "expected a number above 1 and below {} (the stored patterns less one), got {perplexity}",
            m - 1
        );
    }
    let similarities = similarities(stored)?;
    let median = |beta: f64| median(&similarities, beta);
    // Similarities differ by at most their spread: far outside these ends the perplexity is m − 1 or 1.
    let spread = similarities
        .iter()
        .flat_map(|row| row.iter())
        .fold(0f64, |a, s| a.max(s.abs()))
        .max(1e-300);
    let (mut low, mut high) = ((1e-9 / spread).ln(), (1e12 / spread).ln());
    if !(median(low.exp()) >= perplexity && median(high.exp()) <= perplexity) {
        bail!("no inverse temperature gives a median of {perplexity}; are many patterns equal?");
    }
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if median(middle.exp()) > perplexity { low = middle } else { high = middle }
    }
    Ok((0.5 * (low + high)).exp())
}

/// s_ij − max_j s_ij of each witness to all other patterns.
fn similarities(stored: &HopfieldEnergy) -> Result<Vec<Vec<f64>>> {
    let patterns = stored.patterns();
    let m = patterns.dim(0)?;
    let n = m.min(WITNESSES);
    let witnesses: Vec<u32> = (0..n).map(|i| (i * m / n) as u32).collect();
    let queries =
        patterns.index_select(&Tensor::new(witnesses.as_slice(), patterns.device())?, 0)?;
    let mut products = queries.matmul(&patterns.t()?)?;
    if stored.form() == Form::Distance {
        // −½‖x − ξ‖² without the term in x alone.
        products = products.broadcast_sub(&(patterns.sqr()?.sum(1)? * 0.5)?)?;
    }
    let rows = products.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let others = |(row, &witness): (&Vec<f64>, &u32)| {
        let others =
            row.iter().enumerate().filter(|(j, _)| *j != witness as usize).map(|(_, s)| *s);
        let largest = others.clone().fold(f64::NEG_INFINITY, f64::max);
        others.map(|s| s - largest).collect()
    };
    Ok(rows.iter().zip(&witnesses).map(others).collect())
}

fn median(similarities: &[Vec<f64>], beta: f64) -> f64 {
    let mut perplexities: Vec<f64> =
        similarities.par_iter().map(|row| perplexity(row, beta)).collect();
    perplexities.sort_by(f64::total_cmp);
    let n = perplexities.len();
    0.5 * (perplexities[(n - 1) / 2] + perplexities[n / 2])
}

/// exp H of softmax(β·row), the row's largest entry being 0.
fn perplexity(row: &[f64], beta: f64) -> f64 {
    let (mut total, mut moment) = (0., 0.);
    for s in row {
        let logit = beta * s;
        let weight = logit.exp();
        total += weight;
        moment += weight * logit;
    }
    (total.ln() - moment / total).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Representation;
    use candle_core::Device;
    use lethe_candlex::rng::Seed;

    #[test]
    fn the_median_perplexity_is_the_one_asked_for() {
        let ids: Vec<u64> = (0..300).collect();
        let x = Seed(1).stream("patterns").normal(0, &ids, &[8], &Device::Cpu).unwrap();
        for representation in [Representation::Distance, Representation::Unit] {
            let stored = HopfieldEnergy::new(representation, &x, &ids).unwrap();
            let (few, many) =
                (at_perplexity(&stored, 3.).unwrap(), at_perplexity(&stored, 30.).unwrap());
            assert!(few > many);
            let similarities = similarities(&stored).unwrap();
            assert!((median(&similarities, few) - 3.).abs() <= 1e-9);
            assert!((median(&similarities, many) - 30.).abs() <= 1e-9);
        }
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        let ids: Vec<u64> = (0..5).collect();
        let x = Seed(1).stream("patterns").normal(0, &ids, &[2], &Device::Cpu).unwrap();
        let stored = HopfieldEnergy::new(Representation::Distance, &x, &ids).unwrap();
        assert!(at_perplexity(&stored, 10.).unwrap_err().to_string().contains("below 4"));
        assert!(at_perplexity(&stored, 1.).is_err());
        let equal = Tensor::ones((5, 2), DType::F32, &Device::Cpu).unwrap();
        let stored = HopfieldEnergy::new(Representation::Distance, &equal, &ids).unwrap();
        assert!(at_perplexity(&stored, 2.).unwrap_err().to_string().contains("equal"));
    }
}
