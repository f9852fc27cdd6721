//! The law on a device: a warp for each row, sums down the rows in runs.

use super::{Gradients, gathered};
use crate::gpu::rows::{Runs, combine, pack, wide};
use crate::gpu::{Argument::*, Grid, Source, dense, fresh, launch, source};
use candle_core::{DType, Result, Tensor};

const KERNEL: Source = source!("layer_norm");

pub(super) fn forward(x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f64) -> Result<Tensor> {
    for (name, tensor) in [("x", x), ("gamma", gamma), ("beta", beta)] {
        dense(&format!("layer norm {name}"), tensor)?;
    }
    let n = gamma.elem_count();
    let y = fresh(x.dims(), x.dtype(), x.device())?;
    let (rows, function) = (x.elem_count() / n, wide("forward", pack(&[x, gamma, beta], n)));
    let arguments =
        [Read(x), Read(gamma), Read(beta), Write(&y), Count(rows), Count(n), Float(epsilon)];
    launch(&KERNEL, &function, x.dtype(), Grid::of_warps(rows), &arguments)?;
    Ok(y)
}

pub(super) fn gradients(
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    epsilon: f64,
) -> Result<Gradients> {
    for (name, tensor) in [("dy", dy), ("x", x), ("gamma", gamma)] {
        dense(&format!("layer norm {name}"), tensor)?;
    }
    let (n, dtype, device) = (gamma.elem_count(), x.dtype(), x.device());
    let rows = x.elem_count() / n;
    let dx = fresh(x.dims(), dtype, device)?;
    let found = fresh(&[rows, 2], DType::F32, device)?;
    let operands = [Read(dy), Read(x), Read(gamma), Write(&dx), Write(&found)];
    let arguments = [&operands[..], &[Count(rows), Count(n), Float(epsilon)]].concat();
    let function = wide("input_gradient", pack(&[dy, x, gamma], n));
    launch(&KERNEL, &function, dtype, Grid::of_warps(rows), &arguments)?;

    let runs = Runs::of(&[dy, x], [1, rows, n]);
    let partial = fresh(&[2, runs.runs, n], DType::F32, device)?;
    let arguments = [
        Read(dy),
        Read(x),
        Read(&found),
        Write(&partial),
        Count(rows),
        Count(n),
        Count(runs.width),
        Count(runs.lanes),
        Count(runs.each),
    ];
    launch(&KERNEL, &runs.function("scale_gradients"), dtype, runs.grid(), &arguments)?;
    let sums = combine(&partial, dtype)?;
    gathered(dx, sums.get(0)?, sums.get(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, TYPES, distance, filled, on_devices, same_in_any_order, there};

    const EPSILON: f64 = 1e-5;

    #[test]
    fn value_and_gradients_are_the_reference() {
        on_devices(|device| {
            let others = [(300, 40), (1, 1030), (9, 320), (2, 1280), (700, 8)];
            for (rows, n) in SIZES.map(|n| (3, n)).into_iter().chain(others) {
                for (dtype, tolerance) in TYPES {
                    let tensor = |shape: &[usize], salt| there(&filled(shape, salt), dtype, device);
                    let (x, exact_x) = tensor(&[rows, n], 1);
                    let (gamma, exact_gamma) = tensor(&[n], 2);
                    let (dy, exact_dy) = tensor(&[rows, n], 3);
                    let y = forward(&x, &gamma, &gamma, EPSILON).unwrap();
                    let exact =
                        crate::layer_norm::forward(&exact_x, &exact_gamma, &exact_gamma, EPSILON);
                    assert!(distance(&y, &exact.unwrap()) <= tolerance, "{rows} {n} {dtype:?}");
                    let found = gradients(&dy, &x, &gamma, EPSILON).unwrap();
                    let exact = crate::layer_norm::gradients(
                        &exact_dy,
                        &exact_x,
                        &exact_gamma,
                        &exact_gamma,
                        EPSILON,
                    )
                    .unwrap();
                    assert!(distance(&found.beta, &exact.beta) <= tolerance);
                    // One channel is its own mean: these gradients vanish.
                    if n > 1 {
                        assert!(distance(&found.x, &exact.x) <= 2. * tolerance);
                        assert!(distance(&found.gamma, &exact.gamma) <= 2. * tolerance);
                    }
                }
            }
            let x = there(&filled(&[40, 70], 1), DType::F32, device).0;
            let gamma = there(&filled(&[70], 2), DType::F32, device).0;
            same_in_any_order(|| {
                let found = gradients(&x, &x, &gamma, EPSILON).unwrap();
                vec![found.x, found.gamma, found.beta]
            });
            let poisoned = (&x * f64::NAN).unwrap();
            let y = forward(&poisoned, &gamma, &gamma, EPSILON).unwrap();
            assert!(y.to_vec2::<f32>().unwrap().iter().flatten().all(|y| y.is_nan()));
        });
    }
}
