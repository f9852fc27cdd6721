//! One step of AdamW, in place, over all parameters at once.
//!
//! Law, with g scaled by the clipping factor, t counted from 1:
//! m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²,
//! θ ← θ − η·λ·θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε).
//! Source: Loshchilov & Hutter 2019, algorithm 2, in the form of `torch.optim.AdamW` (the decay is scaled by η).
//!
//! Parameters, gradients and both moments are flat tensors [n]: the parameters' tensors are views of the first.
//! Bandwidth is the limit: 4 bytes · 10 passes an element.

mod device;

use crate::ema::lerp;
use crate::view::{Route, route};
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};
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
        if route("adamw", &operands)? == Route::Cuda {
            return device::step(self, t, parameters, gradients, moments, scale);
        }
        lerp(&moments.first, gradients, 1. - self.first_decay, scale)?;
        let square = Square { keep: self.second_decay, scale };
        if parameters.device().is_cpu() {
            moments.second.inplace_op2(gradients, &square)?;
            return parameters.inplace_op3(
                &moments.first,
                &moments.second,
                &Move { law: *self, t },
            );
        }
        self.composed(t, parameters, gradients, moments, scale)
    }

    /// The last two lines of the law in candle's operations; the first moment has moved already.
    fn composed(
        &self,
        t: u64,
        parameters: &Tensor,
        gradients: &Tensor,
        moments: &Moments,
        scale: f64,
    ) -> Result<()> {
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

/// v ← keep·v + (1 − keep)·(scale·g)².
struct Square {
    keep: f64,
    scale: f64,
}

impl InplaceOp2 for Square {
    fn name(&self) -> &'static str {
        "adamw second moment"
    }

    fn cpu_fwd(
        &self,
        v: &mut CpuStorage,
        layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<()> {
        let (to, from) = (range(layout)?, range(g_layout)?);
        let factor = (1. - self.keep) * self.scale * self.scale;
        match (v, g) {
            (CpuStorage::F32(v), CpuStorage::F32(g)) => {
                let (keep, factor) = (self.keep as f32, factor as f32);
                update(&mut v[to], |at, v| {
                    for (v, g) in v.iter_mut().zip(&g[from.clone()][at..]) {
                        *v = keep * *v + factor * (g * g);
                    }
                });
            }
            (CpuStorage::F64(v), CpuStorage::F64(g)) => {
                for (v, g) in v[to].iter_mut().zip(&g[from]) {
                    *v = self.keep * *v + factor * (g * g);
                }
            }
            (v, g) => bail!(
                "adamw: expected f32 or f64 throughout, got {:?} and {:?}",
                dtype(v),
                dtype(g)
            ),
        }
        Ok(())
    }
}

/// θ ← θ − η·λ·θ − η · m̂ / (√v̂ + ε).
struct Move {
    law: AdamW,
    t: u64,
}

impl InplaceOp3 for Move {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        theta: &mut CpuStorage,
        layout: &Layout,
        m: &CpuStorage,
        m_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<()> {
        let (to, m_range, v_range) = (range(layout)?, range(m_layout)?, range(v_layout)?);
        let AdamW { learning_rate, epsilon, weight_decay, .. } = self.law;
        let (first_correction, second_correction) = self.law.corrections(self.t);
        let (keep, rate) = (1. - learning_rate * weight_decay, learning_rate / first_correction);
        let root = 1. / second_correction.sqrt();
        match (theta, m, v) {
            (CpuStorage::F32(theta), CpuStorage::F32(m), CpuStorage::F32(v)) => {
                let (keep, rate, root, epsilon) =
                    (keep as f32, rate as f32, root as f32, epsilon as f32);
                update(&mut theta[to], |at, theta| {
                    let (m, v) = (&m[m_range.clone()][at..], &v[v_range.clone()][at..]);
                    for ((theta, m), v) in theta.iter_mut().zip(m).zip(v) {
                        *theta = keep * *theta - rate * m / (v.sqrt() * root + epsilon);
                    }
                });
            }
            (CpuStorage::F64(theta), CpuStorage::F64(m), CpuStorage::F64(v)) => {
                for ((theta, m), v) in theta[to].iter_mut().zip(&m[m_range]).zip(&v[v_range]) {
                    *theta = keep * *theta - rate * m / (v.sqrt() * root + epsilon);
                }
            }
            (theta, ..) => {
                bail!("adamw: expected f32 or f64 throughout, got {:?} among others", dtype(theta))
            }
        }
        Ok(())
    }
}

fn dtype(storage: &CpuStorage) -> candle_core::DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

/// A contiguous layout's elements.
pub(crate) fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!(
            "in-place update: expected a contiguous tensor, got strides {:?}",
            layout.stride()
        ),
    }
}

/// Calls `each(offset, chunk)` on chunks of `to`, in parallel.
pub(crate) fn update(to: &mut [f32], each: impl Fn(usize, &mut [f32]) + Sync) {
    const CHUNK: usize = 1 << 15;
    to.par_chunks_mut(CHUNK).enumerate().for_each(|(k, chunk)| each(k * CHUNK, chunk));
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

    /// The law, element by element.
    fn reference(theta: &mut [f64], gradients: &[Vec<f64>]) {
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
        reference(
            &mut expected,
            &gradients.iter().map(|g| g.to_vec1().unwrap()).collect::<Vec<_>>(),
        );
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
            lerp(&others.first, &g, 1. - LAW.first_decay, 0.7).unwrap();
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
