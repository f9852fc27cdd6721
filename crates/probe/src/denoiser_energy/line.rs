//! Differences of energy as the work of the score along a line, at one level.
//!
//! Law: E(y) − E(r) = −v₀·∫ ⟨S, dy⟩ = √v₀·∫ ⟨ε̂, dy⟩ from r to y: on any path, where ε̂ is a gradient.
//! A network's ε̂ need not be one, so the integral is taken twice, straight and on a bow to the side, by Gauss and
//! Legendre's rule; how far the two differ says how far the number can be believed.

use super::Question;
use super::subject::{Subject, dots};
use candle_core::{Result, Tensor, bail};
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::Denoiser;

/// The estimator.
#[derive(Clone, Copy, Debug)]
pub struct LineEnergy {
    /// Places on each path where the denoiser is asked; a path's integral is exact for polynomials of degree 2·nodes − 1.
    pub nodes: usize,
    /// How far the second path bows to the side, as a share of the line's length.
    pub bow: f64,
    /// The seed of the side to which it bows.
    pub seed: Seed,
}

/// Energies above the reference's.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// E(y) − E(r) of each point, along the straight line.
    pub straight: Vec<f64>,
    /// The same along the bow.
    pub bowed: Vec<f64>,
}

impl Lines {
    /// |straight − bowed| of each point: 0 where the denoiser is conservative.
    pub fn discrepancies(&self) -> Vec<f64> {
        self.straight.iter().zip(&self.bowed).map(|(a, b)| (a - b).abs()).collect()
    }
}

impl LineEnergy {
    /// E of every point less that of `reference` [..data]; only `start` and not the levels above are asked.
    ///
    /// # Errors
    /// When shapes do not fit, or the denoiser gives a number that is not finite.
    pub fn measure(
        &self,
        denoiser: &dyn Denoiser,
        question: &Question,
        reference: &Tensor,
    ) -> Result<Lines> {
        if self.nodes == 0 || !self.bow.is_finite() {
            bail!(
                "line energy: expected a node and a finite bow, got {} and {}",
                self.nodes,
                self.bow
            );
        }
        let subject = Subject::new(denoiser, question)?;
        let from = reference.flatten_all()?.to_dtype(candle_core::DType::F64)?.unsqueeze(0)?;
        let line = subject.points().broadcast_sub(&from)?;
        let aside = (self.aside(&subject, &line)? * self.bow)?;
        let path = |aside: &Tensor| self.work(&subject, question, &from, &line, aside);
        Ok(Lines { straight: path(&aside.zeros_like()?)?, bowed: path(&aside)? })
    }

    /// √v₀·∫ ⟨ε̂, dy⟩ along y(l) = r + l·line + sin(πl)·aside, l from 0 to 1.
    fn work(
        &self,
        subject: &Subject<dyn Denoiser + '_>,
        question: &Question,
        from: &Tensor,
        line: &Tensor,
        aside: &Tensor,
    ) -> Result<Vec<f64>> {
        let pi = std::f64::consts::PI;
        let mut sums = vec![0.; subject.count()];
        for (l, weight) in gauss_legendre(self.nodes) {
            let (sine, cosine) = libm::sincos(pi * l);
            let y = ((line * l)? + (aside * sine)?)?.broadcast_add(from)?;
            let velocity = (line + (aside * (pi * cosine))?)?;
            let work = dots(&subject.noise(&y, question.start)?, &velocity)?;
            sums.iter_mut().zip(work).for_each(|(sum, work)| *sum += weight * work);
        }
        let root = subject.deviation(question.start);
        Ok(sums.into_iter().map(|sum| root * sum).collect())
    }

    /// For each line a vector of its length at a right angle to it, [n, d]; 0 in one dimension.
    fn aside(&self, subject: &Subject<dyn Denoiser + '_>, line: &Tensor) -> Result<Tensor> {
        let draws = subject.normal(1, 0, |_| self.seed.stream("energy line"))?.to_vec2::<f64>()?;
        let rows = draws.into_iter().zip(line.to_vec2::<f64>()?).flat_map(|(draw, line)| {
            let squares: f64 = line.iter().map(|x| x * x).sum();
            let along: f64 = draw.iter().zip(&line).map(|(a, b)| a * b).sum();
            let share = if squares > 0. { along / squares } else { 0. };
            let side: Vec<f64> = draw.iter().zip(&line).map(|(a, b)| a - share * b).collect();
            let length = side.iter().map(|x| x * x).sum::<f64>().sqrt();
            let is_side = line.len() > 1 && length > 0.;
            let scale = if is_side { squares.sqrt() / length } else { 0. };
            side.into_iter().map(move |x| scale * x)
        });
        Tensor::from_vec(rows.collect::<Vec<f64>>(), line.dims(), line.device())
    }
}

/// (node, weight) of Gauss and Legendre's rule with `n` nodes on [0, 1], by Newton's method on P_n.
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let node = |i: usize| {
        let mut x = libm::cos(std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5));
        let mut slope = 1.;
        // From this start Newton's method converges quadratically for every n: eight steps are more than enough.
        for _ in 0..8 {
            let (value, before) = legendre(n, x);
            slope = n as f64 * (x * value - before) / (x * x - 1.);
            x -= value / slope;
        }
        (0.5 * (1. - x), 1. / ((1. - x * x) * slope * slope))
    };
    (0..n).map(node).collect()
}

/// (P_n(x), P_{n−1}(x)), n ≥ 1.
fn legendre(n: usize, x: f64) -> (f64, f64) {
    (1..n).fold((x, 1.), |(value, before), k| {
        let k = k as f64;
        (((2. * k + 1.) * x * value - k * before) / (k + 1.), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_integrates_polynomials() {
        for n in [1, 2, 5, 40] {
            let rule = gauss_legendre(n);
            for degree in [0, 1, 2 * n as i32 - 1] {
                let sum: f64 = rule.iter().map(|(x, w)| w * x.powi(degree)).sum();
                assert!((sum - 1. / f64::from(degree + 1)).abs() <= 1e-13, "{n} {degree}: {sum}");
            }
        }
        let two: f64 = gauss_legendre(2).iter().map(|(x, w)| w * x.powi(4)).sum();
        assert!((two - 0.2).abs() >= 1e-3);
    }
}
