//! The machine itself: density, association, exact samples, reconstruction.

use super::softmax::{dot, log_sum_exp, normalize};
use crate::error::{Result, finite, refuse};
use crate::normal::fill_normal;
use lethe_candlex::rng::Draws;
use std::f64::consts::TAU;

/// Above it a sum of two logits would be near the end of the numbers.
pub(super) const LARGEST_LOGIT: f64 = 1e300;

/// A Boltzmann machine with k hidden units over ℝᵈ; always a proper density.
#[derive(Clone, Debug, PartialEq)]
pub struct BoltzmannMachine {
    d: usize,
    k: usize,
    inverse_temperature: f64,
    /// Weights [k, d], then biases [k] where there are any.
    parameters: Vec<f64>,
}

impl BoltzmannMachine {
    /// A machine with hidden units `weights` [k, d] and no biases.
    ///
    /// # Errors
    /// When there is no unit, d is 0 or does not divide the count, a weight is not finite, or β is not a positive number
    /// for which β‖w‖² and log(k)/β are moderate.
    pub fn new(weights: Vec<f64>, d: usize, inverse_temperature: f64) -> Result<Self> {
        if d == 0 || weights.is_empty() || !weights.len().is_multiple_of(d) {
            let expected = format!("at least one hidden unit of {d} numbers, d ≥ 1");
            return refuse("weights", expected, format!("{} numbers", weights.len()));
        }
        let machine = Self { d, k: weights.len() / d, inverse_temperature, parameters: weights };
        machine.check()?;
        Ok(machine)
    }

    /// The same machine with `biases` [k].
    ///
    /// # Errors
    /// When there is not one finite, moderate bias for each unit.
    pub fn with_biases(mut self, biases: &[f64]) -> Result<Self> {
        if biases.len() != self.k {
            return refuse("biases", format!("one for each of {} units", self.k), biases.len());
        }
        self.parameters.truncate(self.k * self.d);
        self.parameters.extend(biases);
        self.check()?;
        Ok(self)
    }

    /// A machine of `k` units drawn from N(0, I/d), as the paper begins.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn random(k: usize, d: usize, inverse_temperature: f64, draws: &mut Draws) -> Result<Self> {
        let mut weights = vec![0.; k * d];
        fill_normal(draws, 1. / (d.max(1) as f64).sqrt(), &mut weights);
        Self::new(weights, d, inverse_temperature)
    }

    /// This machine with the units of `other` after its own: what storing more patterns means.
    ///
    /// # Errors
    /// When the machines differ in d, in β, or in having biases.
    pub fn joined(&self, other: &Self) -> Result<Self> {
        if other.d != self.d || other.inverse_temperature != self.inverse_temperature {
            let of = |machine: &Self| format!("d {}, β {}", machine.d, machine.inverse_temperature);
            return refuse("units to join", of(self), of(other));
        }
        if other.biases().is_some() != self.biases().is_some() {
            return refuse("units to join", "biases on both sides or on neither", "one side's");
        }
        let weights = [self.weights(), other.weights()].concat();
        let joined = Self::new(weights, self.d, self.inverse_temperature)?;
        match (self.biases(), other.biases()) {
            (Some(own), Some(others)) => joined.with_biases(&[own, others].concat()),
            _ => Ok(joined),
        }
    }

    /// Refuses parameters for which a logit, an energy or log Z could be infinite.
    pub(super) fn check(&self) -> Result<()> {
        let beta = self.inverse_temperature;
        if !(beta > 0. && beta.is_finite()) {
            return refuse("inverse temperature", "a positive, finite number", beta);
        }
        if let Some(at) = self.parameters.iter().position(|value| !value.is_finite()) {
            let got = format!("{} at place {at}", self.parameters[at]);
            return refuse("weights and biases", "finite numbers", got);
        }
        let bias = self.biases().unwrap_or_default().iter().fold(0., |a: f64, c| a.max(c.abs()));
        let square = self.rows().map(|w| beta * dot(w, w)).fold(0., f64::max);
        // All finite but for overflow: no NaN can hide in these maxima.
        let largest = square.max(bias).max(((self.k as f64).ln() + bias) / beta);
        if largest > LARGEST_LOGIT {
            let expected = "β‖w‖², |c| and log(k)/β of 1e300 at most";
            return refuse("weights and biases", expected, largest);
        }
        Ok(())
    }

    /// Numbers in a sample.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Number of hidden units, k.
    pub fn units(&self) -> usize {
        self.k
    }

    /// β, in the inverse unit of ‖x‖².
    pub fn inverse_temperature(&self) -> f64 {
        self.inverse_temperature
    }

    /// The hidden units [k, d].
    pub fn weights(&self) -> &[f64] {
        &self.parameters[..self.k * self.d]
    }

    /// The biases [k], where the machine has any.
    pub fn biases(&self) -> Option<&[f64]> {
        let biases = &self.parameters[self.k * self.d..];
        (!biases.is_empty()).then_some(biases)
    }

    /// Weights, then biases.
    pub(super) fn parameters(&self) -> &[f64] {
        &self.parameters
    }

    /// Weights, then biases, for training, which checks what it writes.
    pub(super) fn parameters_mut(&mut self) -> &mut [f64] {
        &mut self.parameters
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.weights().chunks_exact(self.d)
    }

    /// w of unit `unit`.
    pub(super) fn unit(&self, unit: usize) -> &[f64] {
        &self.weights()[unit * self.d..][..self.d]
    }

    fn bias(&self, unit: usize) -> f64 {
        self.biases().map_or(0., |biases| biases[unit])
    }

    /// log Z = (d/2) log(2π/β) + log Σ_μ e^{½β‖w_μ‖² + c_μ}, in nats.
    pub fn log_partition(&self) -> f64 {
        self.log_volume() + log_sum_exp(&self.prior_logits())
    }

    /// (d/2) log(2π/β), of one Gaussian.
    pub(super) fn log_volume(&self) -> f64 {
        0.5 * self.d as f64 * (TAU.ln() - self.inverse_temperature.ln())
    }

    /// ½β‖w_μ‖² + c_μ, [k].
    fn prior_logits(&self) -> Vec<f64> {
        let mut logits = vec![0.; self.k];
        self.prior_logits_into(&mut logits);
        logits
    }

    pub(super) fn prior_logits_into(&self, logits: &mut [f64]) {
        for (unit, (w, logit)) in self.rows().zip(logits).enumerate() {
            *logit = 0.5 * self.inverse_temperature * dot(w, w) + self.bias(unit);
        }
    }

    /// π_μ, [k]: the probability with which a sample lies around each unit.
    pub fn mixture_weights(&self) -> Vec<f64> {
        let mut weights = self.prior_logits();
        normalize(&mut weights);
        weights
    }

    /// E(x) = ½‖x‖² − (1/β) log Σ_μ e^{β w_μ·x + c_μ}, in the unit of ‖x‖².
    ///
    /// # Errors
    /// When `x` has not d numbers, or its energy is not finite.
    pub fn energy(&self, x: &[f64]) -> Result<f64> {
        let log_sum = log_sum_exp(&self.logits(x)?);
        finite("energy", 0.5 * dot(x, x) - log_sum / self.inverse_temperature)
    }

    /// −log p(x) = βE(x) + log Z, in nats.
    ///
    /// # Errors
    /// As [`Self::energy`].
    pub fn negative_log_likelihood(&self, x: &[f64]) -> Result<f64> {
        let energy = 0.5 * self.inverse_temperature * dot(x, x) - log_sum_exp(&self.logits(x)?);
        finite("negative log-likelihood", energy + self.log_partition())
    }

    /// −(1/β) log p(x) = E(x) + (1/β) log Z: the energy on a scale that machines share.
    ///
    /// # Errors
    /// As [`Self::energy`].
    pub fn normalized_energy(&self, x: &[f64]) -> Result<f64> {
        finite("normalized energy", self.negative_log_likelihood(x)? / self.inverse_temperature)
    }

    /// r_μ(x), [k]: the probability that `x` came from each unit.
    ///
    /// # Errors
    /// As [`Self::energy`].
    pub fn responsibilities(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut logits = self.logits(x)?;
        normalize(&mut logits);
        Ok(logits)
    }

    /// β w_μ·x + c_μ, all finite.
    fn logits(&self, x: &[f64]) -> Result<Vec<f64>> {
        if x.len() != self.d {
            return refuse("sample", format!("{} numbers", self.d), x.len());
        }
        finite("sample, β‖x‖²", self.inverse_temperature * dot(x, x))?;
        let logit = |(unit, w)| self.inverse_temperature * dot(w, x) + self.bias(unit);
        Ok(self.rows().enumerate().map(logit).collect())
    }

    /// One exact sample, [d]: a unit drawn by π, and N(0, I/β) around it.
    pub fn sample(&self, draws: &mut Draws) -> Vec<f64> {
        let mut x = vec![0.; self.d];
        let unit = choose(&cumulated(&self.mixture_weights()), draws.uniform());
        self.sample_around(unit, draws, &mut x);
        x
    }

    /// Writes a sample of unit `unit`'s Gaussian over `x`.
    pub(super) fn sample_around(&self, unit: usize, draws: &mut Draws, x: &mut [f64]) {
        fill_normal(draws, 1. / self.inverse_temperature.sqrt(), x);
        x.iter_mut().zip(self.unit(unit)).for_each(|(x, w)| *x += w);
    }

    /// `x` with its missing numbers replaced by their mean given the observed ones, [d].
    ///
    /// ⟨x_m | x_o⟩ = Σ_μ ρ_μ w_μm, ρ = softmax(β w_μo·x_o + ½β‖w_μm‖² + c_μ).
    /// Where `observed` is false, `x` is not read: it may be anything.
    ///
    /// # Errors
    /// When `x` or `observed` has not d entries, or an observed number is not finite.
    pub fn reconstruct(&self, x: &[f64], observed: &[bool]) -> Result<Vec<f64>> {
        if x.len() != self.d || observed.len() != self.d {
            let got = format!("{} and {}", x.len(), observed.len());
            return refuse("sample and its mask", format!("{} entries each", self.d), got);
        }
        let known: Vec<f64> =
            x.iter().zip(observed).map(|(x, o)| if *o { *x } else { 0. }).collect();
        let mut rho = self.logits(&known)?;
        for (w, logit) in self.rows().zip(&mut rho) {
            let missing = w.iter().zip(observed).filter(|(_, observed)| !**observed);
            *logit += 0.5 * self.inverse_temperature * missing.map(|(w, _)| w * w).sum::<f64>();
        }
        normalize(&mut rho);
        let mean = |i: usize| -> f64 { self.rows().zip(&rho).map(|(w, rho)| rho * w[i]).sum() };
        Ok((0..self.d).map(|i| if observed[i] { x[i] } else { mean(i) }).collect())
    }
}

/// Running sums of `weights`.
pub(super) fn cumulated(weights: &[f64]) -> Vec<f64> {
    let add = |sum: &mut f64, weight: &f64| {
        *sum += weight;
        Some(*sum)
    };
    weights.iter().scan(0., add).collect()
}

/// The index at the quantile `uniform` of the weights whose running sums are `cumulated`, at least one.
pub(super) fn choose(cumulated: &[f64], uniform: f64) -> usize {
    let last = cumulated.len() - 1;
    let at = uniform * cumulated[last];
    cumulated.partition_point(|sum| *sum <= at).min(last)
}

#[cfg(test)]
mod tests;
