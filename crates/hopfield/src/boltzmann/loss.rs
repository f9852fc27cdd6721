//! The mean of −log p over a batch and its gradient: two products and a softmax.

use super::batch::Batch;
use super::machine::BoltzmannMachine;
use super::softmax::{Matrix, associate, log_sum_exp, multiply};
use crate::error::{Result, finite, refuse};

/// Samples in a block: their logits lie in the second cache for some hundred units.
const BLOCK: usize = 512;

/// The mean negative log-likelihood of a batch, in nats, and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// Σ share_i (βE(x_i) + log Z).
    pub mean_nll: f64,
    /// With regard to the weights, [k, d].
    pub weights: Vec<f64>,
    /// With regard to the biases, [k], where the machine has any.
    pub biases: Option<Vec<f64>>,
}

impl BoltzmannMachine {
    /// The mean of −log p over `batch`, and its gradient.
    ///
    /// # Errors
    /// When the batch has another d, or the mean is not finite.
    pub fn gradient(&self, batch: &Batch) -> Result<Gradient> {
        let mut gradient = vec![0.; self.parameters().len()];
        let mean_nll = Workspace::default().evaluate(self, [(batch, 1.)], &mut gradient)?;
        let biases = gradient.split_off(self.units() * self.d());
        let biases = self.biases().map(|_| biases);
        Ok(Gradient { mean_nll, weights: gradient, biases })
    }
}

/// Buffers that outlive a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Workspace {
    /// Logits of a block, then associations, [k, block].
    logits: Vec<f64>,
    /// ½β‖w‖² + c, [k].
    priors: Vec<f64>,
}

impl Workspace {
    /// Mean of −log p over `batches`, whose masses sum to 1; `gradient` becomes its gradient in the parameters' layout.
    pub fn evaluate<'a>(
        &mut self,
        machine: &BoltzmannMachine,
        batches: impl IntoIterator<Item = (&'a Batch, f64)>,
        gradient: &mut [f64],
    ) -> Result<f64> {
        gradient.fill(0.);
        let mut mean_nll = self.add_partition(machine, gradient);
        for (batch, mass) in batches {
            mean_nll += self.add_energies(machine, batch, mass, gradient)?;
        }
        finite("mean negative log-likelihood", mean_nll)
    }

    /// log Z and its gradient, β π_μ w_μ and π_μ.
    fn add_partition(&mut self, machine: &BoltzmannMachine, gradient: &mut [f64]) -> f64 {
        let (k, d) = (machine.units(), machine.d());
        self.priors.resize(k, 0.);
        machine.prior_logits_into(&mut self.priors);
        let log_sum = log_sum_exp(&self.priors);
        let (to_weights, to_biases) = gradient.split_at_mut(k * d);
        let units = machine.weights().chunks_exact(d).zip(to_weights.chunks_exact_mut(d));
        for ((w, to), prior) in units.zip(&mut self.priors) {
            *prior = (*prior - log_sum).exp();
            let factor = machine.inverse_temperature() * *prior;
            to.iter_mut().zip(w).for_each(|(to, w)| *to += factor * w);
        }
        to_biases.iter_mut().zip(&self.priors).for_each(|(to, prior)| *to += prior);
        machine.log_volume() + log_sum
    }

    /// mass · ⟨βE⟩ over a batch and its gradient, −β⟨r_μ x⟩ and −⟨r_μ⟩.
    fn add_energies(
        &mut self,
        machine: &BoltzmannMachine,
        batch: &Batch,
        mass: f64,
        gradient: &mut [f64],
    ) -> Result<f64> {
        let (k, d, beta) = (machine.units(), machine.d(), machine.inverse_temperature());
        if batch.d() != d {
            return refuse("samples", format!("{d} numbers each"), batch.d());
        }
        let (to_weights, to_biases) = gradient.split_at_mut(k * d);
        let mut log_sums = 0.;
        for (x, shares) in batch.samples().chunks(BLOCK * d).zip(batch.shares().chunks(BLOCK)) {
            let n = shares.len();
            self.logits.resize(k * n, 0.);
            let (w, columns) = (Matrix::rows(machine.weights(), d), Matrix::transposed(x, d));
            multiply(&mut self.logits, [0., beta], w, columns, [k, n, d]);
            log_sums += associate(&mut self.logits, machine.biases(), shares, mass);
            let (r, x) = (Matrix::rows(&self.logits, n), Matrix::rows(x, d));
            multiply(to_weights, [1., -beta], r, x, [k, d, n]);
            for (to, row) in to_biases.iter_mut().zip(self.logits.chunks_exact(n)) {
                *to -= row.iter().sum::<f64>();
            }
        }
        Ok(mass * beta * batch.mean_half_square() - log_sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_candlex::rng::Seed;

    const D: usize = 3;

    fn machine() -> BoltzmannMachine {
        BoltzmannMachine::random(5, D, 4., &mut Seed(1).stream("machine").at(0, 0)).unwrap()
    }

    fn biased() -> BoltzmannMachine {
        machine().with_biases(&[0.4, -1., 0., 2., 0.1]).unwrap()
    }

    /// `n` samples around the origin, with masses over `orders` orders of magnitude.
    fn batch(n: usize, orders: f64) -> Batch {
        let mut draws = Seed(2).stream("batch").at(0, 0);
        let samples = (0..n * D).map(|_| draws.normal_pair()[0]).collect();
        let masses: Vec<f64> =
            (0..n).map(|_| 10f64.powf(orders * (draws.uniform() - 0.5))).collect();
        Batch::with_masses(samples, D, &masses).unwrap()
    }

    /// Σ share_i (−log p(x_i)), one sample at a time.
    fn mean_nll(machine: &BoltzmannMachine, batch: &Batch) -> f64 {
        let samples = batch.samples().chunks_exact(D).zip(batch.shares());
        samples.map(|(x, share)| share * machine.negative_log_likelihood(x).unwrap()).sum()
    }

    /// Central differences in every parameter.
    fn differences(machine: &BoltzmannMachine, batch: &Batch) -> Vec<f64> {
        let h = 1e-5;
        let moved = |at: usize, by: f64| {
            let mut machine = machine.clone();
            machine.parameters_mut()[at] += by;
            mean_nll(&machine, batch)
        };
        (0..machine.parameters().len())
            .map(|at| (moved(at, h) - moved(at, -h)) / (2. * h))
            .collect()
    }

    fn error(found: &Gradient, expected: &[f64]) -> f64 {
        let found = found.weights.iter().chain(found.biases.iter().flatten());
        found.zip(expected).map(|(a, b)| (a - b).abs()).fold(0., f64::max)
    }

    #[test]
    fn value_and_gradient_agree_with_the_slow_ones() {
        for machine in [machine(), biased()] {
            // One sample; one block and its rest; masses over twelve orders of magnitude.
            for batch in [batch(1, 0.), batch(BLOCK + 70, 0.), batch(100, 12.)] {
                let found = machine.gradient(&batch).unwrap();
                assert!((found.mean_nll - mean_nll(&machine, &batch)).abs() <= 1e-12);
                assert_eq!(found.biases.is_some(), machine.biases().is_some());
                let expected = differences(&machine, &batch);
                assert!(error(&found, &expected) <= 1e-8, "{}", error(&found, &expected));
            }
        }
    }

    /// The control: without the gradient of log Z the test above fails, and descent makes the weights grow for ever.
    #[test]
    fn without_the_partition_function_nothing_holds() {
        let (machine, batch) = (machine(), batch(200, 0.));
        let lame = |machine: &BoltzmannMachine| {
            let mut gradient = vec![0.; machine.parameters().len()];
            Workspace::default().add_energies(machine, &batch, 1., &mut gradient).unwrap();
            gradient
        };
        let found = Gradient { mean_nll: 0., weights: lame(&machine), biases: None };
        assert!(error(&found, &differences(&machine, &batch)) > 0.1);
        let descend = |gradient: &dyn Fn(&BoltzmannMachine) -> Vec<f64>| {
            let mut machine = machine.clone();
            for _ in 0..400 {
                let gradient = gradient(&machine);
                machine.parameters_mut().iter_mut().zip(gradient).for_each(|(w, g)| *w -= 0.05 * g);
            }
            machine.weights().iter().fold(0f64, |a, w| a.max(w.abs()))
        };
        assert!(descend(&lame) > 20.);
        assert!(descend(&|machine| machine.gradient(&batch).unwrap().weights) < 5.);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let error = machine().gradient(&Batch::new(vec![0.; 4], 4).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "samples: expected 3 numbers each, got 4");
        let far = Batch::new(vec![1e153; 3], 3).unwrap();
        let hot = BoltzmannMachine::new(vec![0.; 3], 3, 1e10).unwrap();
        assert!(hot.gradient(&far).unwrap_err().to_string().contains("finite"));
    }
}
