//! The step on a device: one launch.

use super::{AdamW, Moments};
use crate::gpu::rows::{pack_of_all, wide};
use crate::gpu::{Argument::*, Grid, Source, dense, launch, source};
use candle_core::{Result, Tensor};

const KERNEL: Source = source!("adamw");

pub(super) fn step(
    law: &AdamW,
    t: u64,
    parameters: &Tensor,
    gradients: &Tensor,
    moments: &Moments,
    scale: f64,
) -> Result<()> {
    let Moments { first: m, second: v } = moments;
    for tensor in [parameters, gradients, m, v] {
        dense("adamw", tensor)?;
    }
    let (first_correction, second_correction) = law.corrections(t);
    let n = parameters.elem_count();
    let arguments = [
        Write(parameters),
        Write(m),
        Write(v),
        Read(gradients),
        Length(n),
        Float(scale),
        Float(1. - law.first_decay),
        Float(law.second_decay),
        Float(1. - law.second_decay),
        Float(law.learning_rate / first_correction),
        Float(1. / second_correction.sqrt()),
        Float(1. - law.learning_rate * law.weight_decay),
        Float(law.epsilon),
    ];
    let pack = pack_of_all(&[parameters, m, v, gradients]);
    let grid = Grid::of_elements(n.div_ceil(pack));
    launch(&KERNEL, &wide("step", pack), parameters.dtype(), grid, &arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, distance, f32, filled, on_devices};

    #[test]
    fn steps_are_those_of_the_processor() {
        let law = AdamW {
            learning_rate: 1e-2,
            first_decay: 0.9,
            second_decay: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
        };
        on_devices(|device| {
            for n in SIZES {
                let zeros = || f32(&filled(&[n], 1)).zeros_like().unwrap();
                let moments = Moments { first: zeros(), second: zeros() };
                let there = |t: &Tensor| t.copy().unwrap().to_device(device).unwrap();
                let others =
                    Moments { first: there(&moments.first), second: there(&moments.second) };
                let theta = f32(&filled(&[n], 1));
                let moved = there(&theta);
                for t in 1..4 {
                    let g = f32(&filled(&[n], 10 + t));
                    law.step(t, &theta, &g, &moments, 0.5).unwrap();
                    step(&law, t, &moved, &there(&g), &others, 0.5).unwrap();
                }
                assert!(distance(&moved, &theta) <= 1e-6, "{n}: {}", distance(&moved, &theta));
                assert!(distance(&others.second, &moments.second) <= 1e-6, "{n}");
            }
        });
    }
}
