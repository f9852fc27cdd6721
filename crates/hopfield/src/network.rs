//! The modern Hopfield network in closed form, 64-bit: energy, association, retrieval, Hessian of one state.
//!
//! Law, with patterns ξ_μ of masses a_μ (1 each unless given) and inverse temperature β:
//! E(x) = ½‖x‖² − (1/β) log Σ_μ a_μ e^{β ξ_μ·x}, p_μ(x) = softmax_μ(β ξ_μ·x + log a_μ), F(x) = Σ_μ p_μ ξ_μ,
//! ∇E = x − F(x), ∇²E = I − β C(x), C = Σ_μ p_μ ξ_μ ξ_μᵀ − F Fᵀ.
//! Source: Ramsauer et al. 2020, eq. 1 to 3, without their constants; a mass is a number of copies.
//!
//! This is the reference of the theory, for some dozens of patterns; [`lethe_kernels::hopfield_energy`] is the streamed
//! version for data sets, and the two are compared in the tests.

use crate::error::{Result, refuse};
use crate::spectrum;
use crate::vectors::{Vectors, add_scaled, check_dimension, dot};

/// Stored patterns at an inverse temperature.
#[derive(Clone, Debug)]
pub struct Network {
    patterns: Vectors,
    /// log a_μ; none where every mass is 1.
    log_masses: Option<Vec<f64>>,
    inverse_temperature: f64,
}

/// What a network says of one state.
#[derive(Clone, Debug, PartialEq)]
pub struct Recall {
    /// E(x), in the unit of ‖x‖².
    pub energy: f64,
    /// p(x), [patterns]: how much each pattern is associated.
    pub association: Vec<f64>,
    /// Entropy of p(x), in nats.
    pub entropy: f64,
    /// F(x) = Σ_μ p_μ ξ_μ, [d]: the next retrieval update; x − F(x) is the energy's gradient.
    pub retrieved: Vec<f64>,
}

impl Network {
    /// Stores `patterns`, each with mass 1.
    ///
    /// # Errors
    /// When β is not a positive number, or so large that β‖ξ‖² is not finite.
    pub fn new(patterns: Vectors, inverse_temperature: f64) -> Result<Self> {
        if !(inverse_temperature > 0. && inverse_temperature.is_finite()) {
            return refuse("inverse temperature", "a positive, finite number", inverse_temperature);
        }
        let largest = patterns.rows().map(|row| dot(row, row)).fold(0., f64::max);
        // Energies of states as long as the longest pattern, and their sums over patterns, stay finite.
        let is_far = !(inverse_temperature * largest).is_finite()
            || (patterns.len() as f64).ln() / inverse_temperature > f64::MAX / 4.;
        if is_far {
            let expected =
                format!("one whose product with {largest:e}, the largest ‖ξ‖², is finite");
            return refuse("inverse temperature", expected, inverse_temperature);
        }
        Ok(Self { patterns, log_masses: None, inverse_temperature })
    }

    /// The same patterns with these masses.
    ///
    /// # Errors
    /// When there is not one positive, finite mass for each pattern.
    pub fn with_masses(mut self, masses: &[f64]) -> Result<Self> {
        if masses.len() != self.patterns.len() {
            return refuse(
                "masses",
                format!("one for each of {} patterns", self.patterns.len()),
                masses.len(),
            );
        }
        if let Some(mass) = masses.iter().find(|mass| !(**mass > 0. && mass.is_finite())) {
            return refuse("masses", "positive, finite numbers", mass);
        }
        self.log_masses = Some(masses.iter().map(|mass| mass.ln()).collect());
        Ok(self)
    }

    /// This network with one more copy of `pattern` stored: what one replayed example adds.
    ///
    /// # Errors
    /// When it has another dimension or is not finite.
    pub fn with_pattern(&self, pattern: &[f64]) -> Result<Self> {
        let log_masses = self.log_masses.as_ref().map(|masses| [masses.as_slice(), &[0.]].concat());
        let grown = Self::new(self.patterns.with(pattern)?, self.inverse_temperature)?;
        Ok(Self { log_masses, ..grown })
    }

    /// The stored patterns.
    pub fn patterns(&self) -> &Vectors {
        &self.patterns
    }

    /// β, in the inverse unit of ‖x‖².
    pub fn inverse_temperature(&self) -> f64 {
        self.inverse_temperature
    }

    /// E, p, its entropy and F of the state `x` [d].
    ///
    /// # Errors
    /// When `x` has another dimension or is too long for its energy to be a number.
    pub fn recall(&self, x: &[f64]) -> Result<Recall> {
        check_dimension("state", self.patterns.d(), x)?;
        let mut p = self.logits(x);
        let log_sum = softmax(&mut p);
        let energy = 0.5 * dot(x, x) - log_sum / self.inverse_temperature;
        if !energy.is_finite() {
            return refuse("state", "one whose energy is finite", format!("energy {energy}"));
        }
        Ok(Recall { energy, entropy: entropy(&p), retrieved: self.mean(&p), association: p })
    }

    /// E(x).
    ///
    /// # Errors
    /// As [`Self::recall`].
    pub fn energy(&self, x: &[f64]) -> Result<f64> {
        check_dimension("state", self.patterns.d(), x)?;
        let energy = self.energy_unchecked(x, &mut Vec::new());
        if energy.is_finite() {
            Ok(energy)
        } else {
            refuse("state", "one whose energy is finite", energy)
        }
    }

    /// E(x) of a state known to fit; `logits` is scratch.
    pub(crate) fn energy_unchecked(&self, x: &[f64], logits: &mut Vec<f64>) -> f64 {
        logits.clear();
        self.logits_into(x, logits);
        0.5 * dot(x, x) - log_sum_exp(logits) / self.inverse_temperature
    }

    /// C(x), [d, d]: covariance of the patterns under p(x).
    ///
    /// # Errors
    /// As [`Self::recall`].
    pub fn covariance(&self, x: &[f64]) -> Result<Vec<f64>> {
        let Recall { association, retrieved, .. } = self.recall(x)?;
        let d = self.patterns.d();
        let mut c = vec![0.; d * d];
        for (p, xi) in association.iter().zip(self.patterns.rows()) {
            let centred: Vec<f64> = xi.iter().zip(&retrieved).map(|(xi, m)| xi - m).collect();
            for (row, value) in c.chunks_exact_mut(d).zip(&centred) {
                add_scaled(row, p * value, &centred);
            }
        }
        Ok(c)
    }

    /// ∇²E(x) = I − β C(x), [d, d].
    ///
    /// # Errors
    /// As [`Self::recall`].
    pub fn hessian(&self, x: &[f64]) -> Result<Vec<f64>> {
        let d = self.patterns.d();
        let mut hessian = self.covariance(x)?;
        hessian.iter_mut().for_each(|value| *value *= -self.inverse_temperature);
        hessian.iter_mut().step_by(d + 1).for_each(|diagonal| *diagonal += 1.);
        Ok(hessian)
    }

    /// Largest eigenvalue of β C(x): a fixed point is stable where it is below 1, and nearer 1 more nearly flat.
    ///
    /// # Errors
    /// As [`Self::recall`].
    pub fn flatness(&self, x: &[f64]) -> Result<f64> {
        let Recall { association, retrieved, .. } = self.recall(x)?;
        // C = AᵀA with rows √p_μ (ξ_μ − m); A Aᵀ has the same largest eigenvalue and M rows instead of d.
        let rows: Vec<Vec<f64>> = association
            .iter()
            .zip(self.patterns.rows())
            .map(|(p, xi)| xi.iter().zip(&retrieved).map(|(xi, m)| p.sqrt() * (xi - m)).collect())
            .collect();
        let gram: Vec<f64> = rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b))).collect();
        let largest = spectrum::eigenvalues(gram, rows.len()).last().copied().unwrap_or(0.);
        Ok(self.inverse_temperature * largest.max(0.))
    }

    fn logits(&self, x: &[f64]) -> Vec<f64> {
        let mut logits = Vec::with_capacity(self.patterns.len());
        self.logits_into(x, &mut logits);
        logits
    }

    /// β ξ_μ·x + log a_μ.
    fn logits_into(&self, x: &[f64], logits: &mut Vec<f64>) {
        logits.extend(self.patterns.rows().map(|xi| self.inverse_temperature * dot(xi, x)));
        if let Some(log_masses) = &self.log_masses {
            logits.iter_mut().zip(log_masses).for_each(|(logit, log_mass)| *logit += log_mass);
        }
    }

    fn mean(&self, p: &[f64]) -> Vec<f64> {
        let mut mean = vec![0.; self.patterns.d()];
        p.iter().zip(self.patterns.rows()).for_each(|(p, xi)| add_scaled(&mut mean, *p, xi));
        mean
    }
}

/// Turns logits into probabilities; returns the logarithm of the sum of their exponentials.
pub(crate) fn softmax(logits: &mut [f64]) -> f64 {
    let (first, largest) = largest(logits);
    logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
    let rest = logits[..first].iter().chain(&logits[first + 1..]).sum::<f64>();
    logits.iter_mut().for_each(|weight| *weight /= 1. + rest);
    largest + rest.ln_1p()
}

/// log Σ e^l.
///
/// The largest term is 1; what the others add is summed apart, so that where one outweighs them they are not lost.
pub(crate) fn log_sum_exp(logits: &[f64]) -> f64 {
    let (first, largest) = largest(logits);
    let others = logits[..first].iter().chain(&logits[first + 1..]);
    largest + others.map(|logit| (logit - largest).exp()).sum::<f64>().ln_1p()
}

/// The first largest of at least one number, and its place.
fn largest(numbers: &[f64]) -> (usize, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, &number) in numbers.iter().enumerate() {
        if number > best.1 {
            best = (i, number);
        }
    }
    best
}

/// −Σ p log p, in nats.
pub(crate) fn entropy(p: &[f64]) -> f64 {
    p.iter().filter(|p| **p > 0.).map(|p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests;
