//! Fitting a fixed set of samples by L-BFGS.
//!
//! Law: Nocedal & Wright 2006, algorithm 7.4 (two loops over the last pairs of steps and changes of the gradient), with
//! the bisection of Lewis & Overton 2013, algorithm 4.6: a step that lowers the loss enough and turns the slope enough,
//! the weak Wolfe conditions, under which every pair has positive curvature.

use super::batch::Batch;
use super::loss::Workspace;
use super::machine::BoltzmannMachine;
use super::softmax::dot;
use crate::error::{Result, refuse};
use std::collections::VecDeque;

/// Share of the slope by which the loss must fall, and to which the slope may remain.
const WOLFE: [f64; 2] = [1e-4, 0.9];

/// Changes of the loss below this share of it may be rounding.
const ROUNDING: f64 = 1e-13;

/// Halvings and doublings of a step before it is given up: by then it is below the rounding of the loss.
const TRIALS: usize = 60;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// Pairs that are remembered.
    pub memory: usize,
    /// Iterations at most.
    pub iterations: usize,
    /// Norm of the gradient at which the machine is fitted, in nats over the unit of x.
    pub tolerance: f64,
}

impl Default for Descent {
    /// 10 pairs, 1000 iterations, 1e-8.
    fn default() -> Self {
        Self { memory: 10, iterations: 1000, tolerance: 1e-8 }
    }
}

/// Why a descent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The gradient's norm is within the tolerance.
    Tolerance,
    /// All iterations were used.
    Iterations,
    /// No step lowers the loss: all changes are below its rounding.
    Precision,
}

/// What a descent found.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The fitted machine.
    pub machine: BoltzmannMachine,
    /// Its mean of −log p over the samples, in nats.
    pub mean_nll: f64,
    /// Norm of the gradient there.
    pub gradient_norm: f64,
    /// Iterations used.
    pub iterations: usize,
    /// Why it ended.
    pub stop: Stop,
}

/// Lowers the mean of −log p over `batch` from `start` to a local minimum.
///
/// # Errors
/// When the batch has another d, the tolerance is negative or no number, or the loss at `start` is not finite.
pub fn descend(start: &BoltzmannMachine, batch: &Batch, descent: &Descent) -> Result<Fit> {
    if descent.tolerance.is_nan() || descent.tolerance < 0. {
        return refuse("tolerance", "a number, not negative", descent.tolerance);
    }
    let mut workspace = Workspace::default();
    let mut point = Point::at(start.clone(), batch, &mut workspace)?;
    let mut memory = Memory { pairs: VecDeque::new(), limit: descent.memory.max(1) };
    let mut iterations = 0;
    let stop = loop {
        if norm(&point.gradient) <= descent.tolerance {
            break Stop::Tolerance;
        }
        if iterations == descent.iterations {
            break Stop::Iterations;
        }
        let direction = memory.direction(&point.gradient);
        let Some(next) = point.search(&direction, batch, &mut workspace)? else {
            if memory.pairs.is_empty() {
                break Stop::Precision;
            }
            // An old model of the curvature may mislead: once more along the gradient itself.
            memory.pairs.clear();
            continue;
        };
        memory.remember(&point, &next);
        point = next;
        iterations += 1;
    };
    let gradient_norm = norm(&point.gradient);
    Ok(Fit { machine: point.machine, mean_nll: point.loss, gradient_norm, iterations, stop })
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

/// A machine with its loss.
struct Point {
    machine: BoltzmannMachine,
    loss: f64,
    gradient: Vec<f64>,
}

impl Point {
    fn at(machine: BoltzmannMachine, batch: &Batch, workspace: &mut Workspace) -> Result<Self> {
        let mut gradient = vec![0.; machine.parameters().len()];
        let loss = workspace.evaluate(&machine, [(batch, 1.)], &mut gradient)?;
        Ok(Self { machine, loss, gradient })
    }

    /// A point along `direction` that fulfils the weak Wolfe conditions; none where rounding hides every descent.
    fn search(
        &self,
        direction: &[f64],
        batch: &Batch,
        workspace: &mut Workspace,
    ) -> Result<Option<Self>> {
        let slope = dot(&self.gradient, direction);
        let (mut low, mut high, mut step) = (0., f64::INFINITY, 1.);
        for _ in 0..TRIALS {
            let trial = self.moved(direction, step);
            // Too far for numbers is too far.
            let trial = trial.and_then(|machine| Self::at(machine, batch, workspace)).ok();
            let trial = trial.map(|trial| (dot(&trial.gradient, direction), trial));
            match trial.filter(|(end, trial)| self.is_improved_by(trial, step, [slope, *end])) {
                None => high = step,
                Some((end, _)) if end < WOLFE[1] * slope => low = step,
                Some((_, trial)) => return Ok(Some(trial)),
            }
            step = if high.is_finite() { 0.5 * (low + high) } else { 2. * low };
        }
        Ok(None)
    }

    /// Whether `trial`, `step` away, lowers the loss by its share of the slope; where rounding hides that, whether the
    /// slopes of begin and end say so (Hager & Zhang 2005, the approximate Wolfe conditions).
    fn is_improved_by(&self, trial: &Self, step: f64, [begin, end]: [f64; 2]) -> bool {
        let change = trial.loss - self.loss;
        let is_hidden = change.abs() <= ROUNDING * self.loss.abs();
        change < 0. && change <= WOLFE[0] * step * begin
            || is_hidden && end <= (2. * WOLFE[0] - 1.) * begin
    }

    fn moved(&self, direction: &[f64], step: f64) -> Result<BoltzmannMachine> {
        let mut machine = self.machine.clone();
        let moves = machine.parameters_mut().iter_mut().zip(direction);
        moves.for_each(|(value, direction)| *value += step * direction);
        machine.check()?;
        Ok(machine)
    }
}

/// The last steps s and changes of the gradient y, each with 1/(s·y), oldest first.
struct Memory {
    pairs: VecDeque<(Vec<f64>, Vec<f64>, f64)>,
    limit: usize,
}

impl Memory {
    fn remember(&mut self, from: &Point, to: &Point) {
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let s: Vec<f64> = difference(to.machine.parameters(), from.machine.parameters());
        let y: Vec<f64> = difference(&to.gradient, &from.gradient);
        let curvature = dot(&s, &y);
        if curvature > f64::EPSILON * norm(&s) * norm(&y) {
            self.pairs.push_back((s, y, 1. / curvature));
        }
        while self.pairs.len() > self.limit {
            self.pairs.pop_front();
        }
    }

    /// −H·gradient, with H the inverse Hessian that the pairs suggest.
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let add = |to: &mut [f64], factor: f64, x: &[f64]| {
            to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
        };
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for (s, y, rho) in self.pairs.iter().rev() {
            let alpha = rho * dot(s, &q);
            add(&mut q, -alpha, y);
            alphas.push(alpha);
        }
        // Before any curvature is known, a step of length 1 at most.
        let scale = match self.pairs.back() {
            Some((_, y, rho)) => 1. / (rho * dot(y, y)),
            None => 1. / norm(gradient).max(1.),
        };
        q.iter_mut().for_each(|q| *q *= scale);
        for ((s, y, rho), alpha) in self.pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = rho * dot(y, &q);
            add(&mut q, alpha - beta, s);
        }
        q
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boltzmann::{Source, Teacher};
    use lethe_candlex::rng::Seed;

    const D: usize = 16;

    /// An equiangular cluster of ten at overlap .35 and one outlier.
    fn patterns() -> Vec<f64> {
        let mut x = vec![0.; 11 * D];
        for i in 0..10 {
            (x[i * D], x[i * D + i + 1]) = (0.35f64.sqrt(), 0.65f64.sqrt());
        }
        x[10 * D + 12] = 1.;
        x
    }

    #[test]
    fn cold_machines_keep_their_patterns() {
        let batch = Batch::new(patterns(), D).unwrap();
        for (beta, slack) in [(16., 0.05), (32., 1e-3), (64., 1e-6)] {
            let start = BoltzmannMachine::new(patterns(), D, beta).unwrap();
            let fit = descend(&start, &batch, &Descent::default()).unwrap();
            assert!(fit.gradient_norm <= 1e-7, "{fit:?}");
            assert!(fit.mean_nll <= start.gradient(&batch).unwrap().mean_nll);
            let moved = fit.machine.weights().iter().zip(patterns()).map(|(w, x)| (w - x).abs());
            let moved = moved.fold(0., f64::max);
            assert!(moved <= slack, "β {beta}: {moved}");
        }
    }

    #[test]
    fn a_fit_is_a_minimum_and_says_why_it_ended() {
        let machine = BoltzmannMachine::new(patterns(), D, 8.).unwrap();
        let batch = Teacher::new(machine, Seed(1).stream("data"), 400).unwrap().batch(0).unwrap();
        let start =
            BoltzmannMachine::random(5, D, 8., &mut Seed(2).stream("start").at(0, 0)).unwrap();
        let start = start.with_biases(&[0.; 5]).unwrap();
        let fit = descend(&start, &batch, &Descent::default()).unwrap();
        assert_eq!(fit.stop, Stop::Tolerance, "{}", fit.gradient_norm);
        assert!(fit.gradient_norm <= 1e-8 && fit.iterations > 5);
        let gradient = fit.machine.gradient(&batch).unwrap();
        assert_eq!(gradient.mean_nll, fit.mean_nll);
        // Every direction leads up.
        for seed in 0..20 {
            let mut near = fit.machine.clone();
            let mut draws = Seed(seed).stream("near").at(0, 0);
            near.parameters_mut().iter_mut().for_each(|w| *w += 1e-3 * draws.normal_pair()[0]);
            assert!(near.gradient(&batch).unwrap().mean_nll > fit.mean_nll);
        }
        let short = Descent { iterations: 3, ..Descent::default() };
        let fit = descend(&start, &batch, &short).unwrap();
        assert_eq!((fit.stop, fit.iterations), (Stop::Iterations, 3));
        let endless = Descent { tolerance: 0., iterations: 2000, ..Descent::default() };
        let fit = descend(&start, &batch, &endless).unwrap();
        assert!(fit.stop != Stop::Tolerance && fit.gradient_norm <= 1e-11, "{fit:?}");
    }

    #[test]
    fn masses_over_twelve_orders_of_magnitude_are_fitted() {
        let masses: Vec<f64> = (0..11).map(|i| 10f64.powf(1.2 * f64::from(i) - 6.)).collect();
        let batch = Batch::with_masses(patterns(), D, &masses).unwrap();
        let start = BoltzmannMachine::new(patterns(), D, 16.).unwrap();
        let fit =
            descend(&start.clone().with_biases(&[0.; 11]).unwrap(), &batch, &Descent::default())
                .unwrap();
        // The lightest patterns hardly bend the loss: the way to its very bottom is long.
        assert!(fit.gradient_norm <= 1e-2, "{fit:?}");
        assert!(fit.mean_nll < start.gradient(&batch).unwrap().mean_nll);
        let pi = fit.machine.mixture_weights();
        let heaviest = (0..11).max_by(|a, b| pi[*a].total_cmp(&pi[*b])).unwrap();
        assert_eq!(heaviest, 10);
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let start = BoltzmannMachine::new(vec![0.; 2], 2, 1.).unwrap();
        let batch = Batch::new(vec![0.; 3], 3).unwrap();
        assert!(descend(&start, &batch, &Descent::default()).is_err());
        let batch = Batch::new(vec![0.; 2], 2).unwrap();
        let descent = Descent { tolerance: f64::NAN, ..Descent::default() };
        assert!(descend(&start, &batch, &descent).is_err());
        // Already there.
        let fit = descend(&start, &batch, &Descent::default()).unwrap();
        assert_eq!((fit.iterations, fit.stop), (0, Stop::Tolerance));
    }
}
