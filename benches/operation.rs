//! Single operations, forward and every gradient, at the sizes at which networks spend their time.

use crate::child::serve_rounds;
use crate::place::Place;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::rng::Seed;
use lethe_candlex::weights::serialize;
use lethe_kernels::adamw::{AdamW, Moments};
use lethe_kernels::conv2d::{self, Window};
use lethe_kernels::ema::{lerp, norm};
use lethe_kernels::group_norm::{Activation, GroupNorm};
use lethe_kernels::{attention, geglu, layer_norm};
use std::path::Path;

/// Which operation.
#[derive(Clone, Copy)]
pub enum Operation {
    /// 3x3, stride 1; images of `side`, so many `channels` in and out.
    Convolution { batch: usize, side: usize, channels: usize },
    /// 32 groups, SiLU behind.
    GroupNorm { batch: usize, side: usize, channels: usize },
    /// Over the channels of each token.
    LayerNorm { tokens: usize, channels: usize },
    /// Of each token with each.
    Attention { batch: usize, tokens: usize, heads: usize, depth: usize },
    /// So many channels out, twice as many in.
    Geglu { tokens: usize, channels: usize },
    /// Norm of the gradient, a step of AdamW, the moving average.
    Optimizer { numbers: usize },
}

const EPSILON: f64 = 1e-5;
const LAW: AdamW = AdamW {
    learning_rate: 1e-3,
    first_decay: 0.9,
    second_decay: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.01,
};
/// Weight of what is new in the average.
const NEW: f64 = 1e-3;

impl Operation {
    /// Operations of one round, 10⁹; 0 where memory is the limit.
    pub fn giga_operations(self) -> f64 {
        match self {
            Self::Convolution { batch, side, channels } => {
                3. * 2. * (batch * side * side * channels * channels * 9) as f64 / 1e9
            }
            Self::Attention { batch, tokens, heads, depth } => {
                14. * (batch * tokens * tokens * heads * depth) as f64 / 1e9
            }
            _ => 0.,
        }
    }

    /// The same, small.
    pub fn quick(self) -> Self {
        match self {
            Self::Convolution { .. } => Self::Convolution { batch: 1, side: 8, channels: 32 },
            Self::GroupNorm { .. } => Self::GroupNorm { batch: 2, side: 8, channels: 64 },
            Self::LayerNorm { .. } => Self::LayerNorm { tokens: 16, channels: 64 },
            Self::Attention { .. } => Self::Attention { batch: 1, tokens: 32, heads: 2, depth: 8 },
            Self::Geglu { .. } => Self::Geglu { tokens: 16, channels: 32 },
            Self::Optimizer { .. } => Self::Optimizer { numbers: 1000 },
        }
    }

    /// What it reads, by name.
    fn operands(self) -> Result<Vec<(&'static str, Tensor)>> {
        let shapes: Vec<(&'static str, Vec<usize>)> = match self {
            Self::Convolution { batch, side, channels } => vec![
                ("x", vec![batch, side, side, channels]),
                ("w", vec![channels, channels, 3, 3]),
                ("b", vec![channels]),
                ("dy", vec![batch, side, side, channels]),
            ],
            Self::GroupNorm { batch, side, channels } => vec![
                ("x", vec![batch, side, side, channels]),
                ("gamma", vec![channels]),
                ("beta", vec![channels]),
                ("dy", vec![batch, side, side, channels]),
            ],
            Self::LayerNorm { tokens, channels } => vec![
                ("x", vec![tokens, channels]),
                ("gamma", vec![channels]),
                ("beta", vec![channels]),
                ("dy", vec![tokens, channels]),
            ],
            Self::Attention { batch, tokens, heads, depth } => {
                let shape = vec![batch, tokens, heads * depth];
                ["q", "k", "v", "dy"].map(|name| (name, shape.clone())).into()
            }
            Self::Geglu { tokens, channels } => {
                vec![("x", vec![tokens, 2 * channels]), ("dy", vec![tokens, channels])]
            }
            Self::Optimizer { numbers } => {
                ["parameters", "gradient", "average"].map(|name| (name, vec![numbers])).into()
            }
        };
        shapes.into_iter().map(|(name, shape)| Ok((name, drawn(name, &shape)?))).collect()
    }

    /// Its results, by name: the output, then every gradient.
    fn results(self, operands: &[Tensor]) -> Result<Vec<(&'static str, Tensor)>> {
        Ok(match (self, operands) {
            (Self::Convolution { .. }, [x, w, b, dy]) => {
                let window = Window::same(3);
                vec![
                    ("y", conv2d::forward(x, w, Some(b), window)?),
                    ("dx", conv2d::input_gradient(dy, w, x.dims(), window)?),
                    ("dw", conv2d::weight_gradient(x, dy, window)?),
                    ("db", conv2d::bias_gradient(dy, b.dims())?),
                ]
            }
            (Self::GroupNorm { .. }, [x, gamma, beta, dy]) => {
                let norm = GroupNorm { groups: 32, epsilon: EPSILON, activation: Activation::Silu };
                let y = norm.forward(x, gamma, beta)?;
                let found = norm.gradients(dy, x, gamma, beta)?;
                vec![("y", y), ("dx", found.x), ("dgamma", found.gamma), ("dbeta", found.beta)]
            }
            (Self::LayerNorm { .. }, [x, gamma, beta, dy]) => {
                let y = layer_norm::forward(x, gamma, beta, EPSILON)?;
                let found = layer_norm::gradients(dy, x, gamma, beta, EPSILON)?;
                vec![("y", y), ("dx", found.x), ("dgamma", found.gamma), ("dbeta", found.beta)]
            }
            (Self::Attention { heads, .. }, [q, k, v, dy]) => {
                let y = attention::forward(q, k, v, heads)?;
                let found = attention::gradients(dy, q, k, v, heads)?;
                vec![("y", y), ("dq", found.q), ("dk", found.k), ("dv", found.v)]
            }
            (Self::Geglu { .. }, [x, dy]) => {
                vec![("y", geglu::forward(x)?), ("dx", geglu::gradient(dy, x)?)]
            }
            _ => anyhow::bail!("an operation met the operands of another"),
        })
    }
}

/// Standard normal numbers of a shape.
fn drawn(name: &str, shape: &[usize]) -> Result<Tensor> {
    let rows: Vec<u64> = (0..shape[0] as u64).collect();
    Ok(Seed(1).stream(name).normal(0, &rows, &shape[1..], &Device::Cpu)?)
}

/// Leaves operands and results in `folder` for the peer to find again, then runs rounds of `times` repetitions.
pub fn serve(place: &Place, operation: Operation, times: usize, folder: &Path) -> Result<()> {
    let operands = operation.operands()?;
    keep(folder, "operands", &operands)?;
    let tensors: Vec<Tensor> = operands.into_iter().map(|(_, tensor)| tensor).collect();
    if let Operation::Optimizer { .. } = operation {
        let mut optimizer = Optimizer::new(tensors)?;
        optimizer.step()?;
        let [parameters, _, average] = &optimizer.tensors;
        let moved = [("moved.parameters", parameters.clone()), ("moved.average", average.clone())];
        keep(folder, "results", &moved)?;
        drop(moved);
        return serve_rounds(place, || {
            place.timed(|| (0..times).try_for_each(|_| optimizer.step()))
        });
    }
    keep(folder, "results", &operation.results(&tensors)?)?;
    serve_rounds(place, || {
        place.timed(|| (0..times).try_for_each(|_| operation.results(&tensors).map(drop)))
    })
}

/// Writes `<name>.safetensors`.
fn keep(folder: &Path, name: &str, tensors: &[(&str, Tensor)]) -> Result<()> {
    let path = folder.join(format!("{name}.safetensors"));
    std::fs::write(&path, serialize(tensors, None)?).with_context(|| path.display().to_string())
}

/// Parameters, gradient, average; and both moments.
struct Optimizer {
    tensors: [Tensor; 3],
    moments: Moments,
    t: u64,
}

impl Optimizer {
    fn new(tensors: Vec<Tensor>) -> Result<Self> {
        let Ok(tensors) = <[Tensor; 3]>::try_from(tensors) else {
            anyhow::bail!("an optimizer has three tensors");
        };
        let zeros = || Tensor::zeros(tensors[0].dims(), DType::F32, &Device::Cpu);
        let moments = Moments { first: zeros()?, second: zeros()? };
        Ok(Self { tensors, moments, t: 0 })
    }

    fn step(&mut self) -> Result<()> {
        let [parameters, gradient, average] = &self.tensors;
        self.t += 1;
        let scale = (1. / (norm(gradient)? + 1e-6)).min(1.);
        LAW.step(self.t, parameters, gradient, &self.moments, scale)?;
        Ok(lerp(average, parameters, NEW, 1.)?)
    }
}
