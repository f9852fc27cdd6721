//! One step of AdamW, in place, over all parameters at once.
//!
//! Law, with g scaled by the clipping factor, t counted from 1:
//! m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²,
//! θ ← θ − η·λ·θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε).
//! Source: Loshchilov & Hutter 2019, algorithm 2, in the form of `torch.optim.AdamW` (the decay is scaled by η).
//!
//! Parameters, gradients and both moments are flat tensors [n]: the parameters' tensors are views of the first.
//! Bandwidth is the limit: four numbers read and three written, 28 bytes an element.

mod device;

use crate::ema::lerp;
use crate::in_place::{Number, shared, write};
use crate::simd::{MulAdd, multiversion};
use crate::view::{Route, View, route};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Hyper-parameters of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// η.
    pub learning_rate: f64,
    /// β₁.
    pub first_decay: f64,
    /// β₂.
    pub second_decay: f64,
    /// ε.
    pub epsilon: f64,
    /// λ.
    pub weight_decay: f64,
}

/// The running averages that AdamW keeps, each shaped as the parameters.
#[derive(Debug)]
pub struct Moments {
    /// m, of the gradient.
    pub first: Tensor,
    /// v, of its square.
    pub second: Tensor,
}

impl AdamW {
    /// Step `t` (from 1): moves `parameters` and `moments` in place; `scale` multiplies the gradients first.
    ///
    /// # Errors
    /// When shapes or dtypes differ, or a tensor is not contiguous.
    pub fn step(
        &self,
        t: u64,
        parameters: &Tensor,
        gradients: &Tensor,
        moments: &Moments,
        scale: f64,
    ) -> Result<()> {
        for tensor in [gradients, &moments.first, &moments.second] {
            if tensor.dims() != parameters.dims() {
                bail!(
                    "adamw: parameters are {:?}, an operand is {:?}",
                    parameters.dims(),
                    tensor.dims()
                );
            }
        }
        let operands = [parameters, gradients, &moments.first, &moments.second];
        let route = route("adamw", &operands)?;
        match route {
            Route::Cuda => device::step(self, t, parameters, gradients, moments, scale),
            Route::Composed => self.composed(t, parameters, gradients, moments, scale),
            Route::Fast => in_place(parameters, gradients, moments, |theta, m, v, g| {
                fast(theta, m, v, g, self.factors(t, scale).map(|factor| factor as f32));
            }),
            Route::Reference => in_place(parameters, gradients, moments, |theta, m, v, g| {
                reference(theta, m, v, g, self.factors(t, scale));
            }),
        }
    }

    /// What the law multiplies with: scale, 1 − β₁, β₂, (1 − β₂)·scale², 1 − η·λ, η/(1 − β₁ᵗ), 1/√(1 − β₂ᵗ), ε.
    fn factors(&self, t: u64, scale: f64) -> [f64; 8] {
        let AdamW { learning_rate, first_decay, second_decay, epsilon, weight_decay } = *self;
        let (first_correction, second_correction) = self.corrections(t);
        [
            scale,
            1. - first_decay,
            second_decay,
            (1. - second_decay) * scale * scale,
            1. - learning_rate * weight_decay,
            learning_rate / first_correction,
            1. / second_correction.sqrt(),
            epsilon,
        ]
    }

    /// The law in candle's operations.
    fn composed(
        &self,
        t: u64,
        parameters: &Tensor,
        gradients: &Tensor,
        moments: &Moments,
        scale: f64,
    ) -> Result<()> {
        lerp(&moments.first, gradients, 1. - self.first_decay, scale)?;
        let squares = (gradients.sqr()? * (scale * scale * (1. - self.second_decay)))?;
        let second = ((&moments.second * self.second_decay)? + squares)?;
        moments.second.slice_set(&second, 0, 0)?;
        let (first_correction, second_correction) = self.corrections(t);
        let denominator = ((second / second_correction)?.sqrt()? + self.epsilon)?;
        let update = ((&moments.first * (self.learning_rate / first_correction))? / denominator)?;
        let kept = (parameters * (1. - self.learning_rate * self.weight_decay))?;
        parameters.slice_set(&(kept - update)?, 0, 0)
    }

    /// (1 − β₁ᵗ, 1 − β₂ᵗ).
    fn corrections(&self, t: u64) -> (f64, f64) {
        (1. - self.first_decay.powf(t as f64), 1. - self.second_decay.powf(t as f64))
    }
}

/// `f` of θ, m, v and g in chunks, side by side.
fn in_place<T: Number>(
    parameters: &Tensor,
    gradients: &Tensor,
    moments: &Moments,
    f: impl Fn(&mut [T], &mut [T], &mut [T], &[T]) + Sync,
) -> Result<()> {
    const CHUNK: usize = 1 << 14;
    let written = [parameters, &moments.first, &moments.second];
    if written.iter().any(|tensor| shared(tensor, gradients)) {
        bail!("adamw: the gradients lie in the storage of a tensor that is written");
    }
    let view = View::of("adamw gradients", gradients)?;
    let g = T::read(&view)?;
    write("adamw", &written, |held: Vec<&mut [T]>| {
        let [theta, m, v] =
            held.try_into().unwrap_or_else(|_| unreachable!("three were asked for"));
        let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
        let operands = theta.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
        operands.zip(moments).for_each(|((theta, g), (m, v))| f(theta, m, v, g));
    })
}

/// The law, number by number.
fn reference(theta: &mut [f64], m: &mut [f64], v: &mut [f64], g: &[f64], factors: [f64; 8]) {
    let [scale, new, keep, square, decay, rate, root, epsilon] = factors;
    for ((theta, g), (m, v)) in theta.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
        *m += new * (scale * g - *m);
        *v = keep * *v + square * (g * g);
        *theta = decay * *theta - rate * *m / (v.sqrt() * root + epsilon);
    }
}

multiversion! {
    /// As [`reference`], in 32 bits.
    fn fast(theta: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], factors: [f32; 8]) = fast_body;
}

#[inline(always)]
fn fast_body<M: MulAdd, const L: usize>(
    theta: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    g: &[f32],
    factors: [f32; 8],
) {
    let [scale, new, keep, square, decay, rate, root, epsilon] = factors;
    for ((theta, g), (m, v)) in theta.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
        *m += new * (scale * g - *m);
        *v = keep * *v + square * (g * g);
        *theta = decay * *theta - rate * *m / (v.sqrt() * root + epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, f32, filled};
    use candle_nn::optim::Optimizer;

    const LAW: AdamW = AdamW {
        learning_rate: 1e-2,
        first_decay: 0.9,
        second_decay: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.1,
    };

    fn zeros(like: &Tensor) -> Moments {
        Moments { first: like.zeros_like().unwrap(), second: like.zeros_like().unwrap() }
    }

    /// The law of the page, number by number.
    fn law(theta: &mut [f64], gradients: &[Vec<f64>]) {
        let AdamW { learning_rate: eta, first_decay: b1, second_decay: b2, epsilon, weight_decay } =
            LAW;
        for (k, theta) in theta.iter_mut().enumerate() {
            let (mut m, mut v) = (0., 0.);
            for (t, g) in (1..).zip(gradients.iter().map(|g| g[k])) {
                m = b1 * m + (1. - b1) * g;
                v = b2 * v + (1. - b2) * g * g;
                let (m_hat, v_hat) = (m / (1. - b1.powi(t)), v / (1. - b2.powi(t)));
                *theta -= eta * weight_decay * *theta + eta * m_hat / (v_hat.sqrt() + epsilon);
            }
        }
    }

    #[test]
    fn steps_equal_the_law_and_candle() {
        let n = 70_001; // two chunks and a bit
        let theta = filled(&[n], 1);
        let gradients: Vec<Tensor> = (0..4).map(|t| filled(&[n], 10 + t)).collect();
        let mut expected = theta.to_vec1::<f64>().unwrap();
        law(&mut expected, &gradients.iter().map(|g| g.to_vec1().unwrap()).collect::<Vec<_>>());
        let expected = Tensor::new(expected, theta.device()).unwrap();
        for (narrow, tolerance) in [(false, 1e-13), (true, 1e-6)] {
            let cast = |t: &Tensor| if narrow { f32(t) } else { t.copy().unwrap() };
            let (theta, moments) = (cast(&theta), zeros(&cast(&theta)));
            for (t, g) in (1..).zip(&gradients) {
                let half = cast(&(g * 2.).unwrap());
                LAW.step(t, &theta, &half, &moments, 0.5).unwrap();
            }
            assert!(distance(&theta, &expected) <= tolerance, "{}", distance(&theta, &expected));
        }
        let var = candle_core::Var::from_tensor(&theta).unwrap();
        let candle = candle_nn::ParamsAdamW {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
        };
        let mut candle = candle_nn::AdamW::new(vec![var.clone()], candle).unwrap();
        for g in &gradients {
            let loss = (var.as_tensor() * g).unwrap().sum_all().unwrap();
            candle.step(&loss.backward().unwrap()).unwrap();
        }
        assert!(distance(&expected, &var) <= 1e-12);
    }

    #[test]
    fn composed_equals_in_place() {
        let (theta, g) = (filled(&[50], 1), filled(&[50], 2));
        let (other, moments, others) = (theta.copy().unwrap(), zeros(&theta), zeros(&theta));
        for t in 1..4 {
            LAW.step(t, &theta, &g, &moments, 0.7).unwrap();
            LAW.composed(t, &other, &g, &others, 0.7).unwrap();
        }
        assert!(distance(&other, &theta) <= 1e-13);
    }

    #[test]
    fn views_of_the_flat_parameters_move_with_them() {
        let flat = f32(&filled(&[10], 1));
        let view = flat.narrow(0, 4, 3).unwrap();
        let before = view.to_vec1::<f32>().unwrap();
        LAW.step(1, &flat, &f32(&filled(&[10], 2)), &zeros(&flat), 1.).unwrap();
        assert!(before.iter().zip(view.to_vec1::<f32>().unwrap()).all(|(a, b)| *a != b));
    }
}
