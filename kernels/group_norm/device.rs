//! The law on a device: moments of runs of pixels, put together, then one pass over the elements.

use super::{Activation, Gradients, GroupNorm, Kept, Sizes};
use crate::gpu::rows::{Runs, combine};
use crate::gpu::{Argument, Argument::*, Grid, Source, dense, fresh, launch, source};
use candle_core::{DType, Result, Tensor};

const KERNEL: Source = source!("group_norm");

/// What every pass over the elements is told last.
fn shape<'a>(norm: &GroupNorm, sizes: &Sizes, runs: &Runs) -> [Argument<'a>; 8] {
    [
        Count(sizes.pixels),
        Count(sizes.channels),
        Count(sizes.groups),
        Count(sizes.per_example.into()),
        Count((norm.activation == Activation::Silu).into()),
        Count(runs.width),
        Count(runs.lanes),
        Count(runs.each),
    ]
}

/// A block for each group of each example, a thread for each of its `items`.
fn of_groups(sizes: &Sizes, items: usize) -> Grid {
    Grid { blocks: [sizes.groups, sizes.batch], ..Grid::of_rows(1, items) }
}

/// [batch, groups, 2]: μ and 1 / √(σ² + ε).
fn statistics(norm: &GroupNorm, sizes: &Sizes, runs: &Runs, x: &Tensor) -> Result<Tensor> {
    let Sizes { batch, pixels, channels, groups, .. } = *sizes;
    let moments = fresh(&[2, batch, runs.runs, channels], DType::F32, x.device())?;
    let arguments = [
        Read(x),
        Write(&moments),
        Count(pixels),
        Count(channels),
        Count(runs.width),
        Count(runs.lanes),
        Count(runs.each),
    ];
    launch(&KERNEL, &runs.function("moments"), x.dtype(), runs.grid(), &arguments)?;
    let found = fresh(&[batch, groups, 2], DType::F32, x.device())?;
    let arguments = [
        Read(&moments),
        Write(&found),
        Count(runs.runs),
        Count(runs.each),
        Count(pixels),
        Count(channels),
        Count(groups),
        Float(norm.epsilon),
    ];
    let grid = of_groups(sizes, runs.runs * channels / groups);
    launch(&KERNEL, "statistics", DType::F32, grid, &arguments)?;
    Ok(found)
}

fn is_dense(operands: &[(&str, &Tensor)]) -> Result<()> {
    operands.iter().try_for_each(|(name, tensor)| dense(&format!("group norm {name}"), tensor))
}

pub(super) fn forward(
    norm: &GroupNorm,
    sizes: &Sizes,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
) -> Result<(Tensor, Kept)> {
    is_dense(&[("x", x), ("gamma", gamma), ("beta", beta)])?;
    let runs = Runs::of(&[x], [sizes.batch, sizes.pixels, sizes.channels]);
    let y = fresh(x.dims(), x.dtype(), x.device())?;
    if x.elem_count() == 0 {
        return Ok((y, Kept::default()));
    }
    let statistics = statistics(norm, sizes, &runs, x)?;
    let operands = [Read(x), Read(gamma), Read(beta), Read(&statistics), Write(&y)];
    let arguments = [&operands[..], &shape(norm, sizes, &runs)].concat();
    launch(&KERNEL, &runs.function("normalise"), x.dtype(), runs.grid(), &arguments)?;
    Ok((y, Kept(Some(statistics))))
}

pub(super) fn gradients(
    norm: &GroupNorm,
    sizes: &Sizes,
    kept: &Kept,
    [dy, x, gamma, beta]: [&Tensor; 4],
) -> Result<Gradients> {
    is_dense(&[("dy", dy), ("x", x), ("gamma", gamma), ("beta", beta)])?;
    let (dtype, device) = (x.dtype(), x.device());
    let Sizes { batch, pixels, channels, groups, per_example } = *sizes;
    let runs = Runs::of(&[dy, x], [batch, pixels, channels]);
    let shape = shape(norm, sizes, &runs);
    let statistics = match &kept.0 {
        Some(kept) => kept.clone(),
        None => statistics(norm, sizes, &runs, x)?,
    };
    let operands = [Read(dy), Read(x), Read(gamma), Read(beta), Read(&statistics)];

    let partial = fresh(&[2, batch, runs.runs, channels], DType::F32, device)?;
    let arguments = [&operands[..], &[Write(&partial)], &shape].concat();
    launch(&KERNEL, &runs.function("scale_gradients"), dtype, runs.grid(), &arguments)?;
    let sums = combine(&partial.reshape((2 * batch, runs.runs, channels))?, DType::F32)?;

    let means = fresh(&[batch, groups, 2], DType::F32, device)?;
    let arguments = [
        Read(gamma),
        Read(&sums),
        Write(&means),
        Count(pixels),
        Count(channels),
        Count(groups),
        Count(per_example.into()),
    ];
    let grid = of_groups(sizes, channels / groups);
    launch(&KERNEL, "group_means", dtype, grid, &arguments)?;

    let dx = fresh(x.dims(), dtype, device)?;
    let arguments = [&operands[..], &[Read(&means), Write(&dx)], &shape].concat();
    launch(&KERNEL, &runs.function("input_gradient"), dtype, runs.grid(), &arguments)?;

    // Examples that share their scale share its gradient.
    let sums = match per_example {
        true => sums.to_dtype(dtype)?.reshape((2, batch, channels))?,
        false => combine(&sums.reshape((2, batch, channels))?, dtype)?,
    };
    Ok(Gradients { x: dx, gamma: sums.get(0)?, beta: sums.get(1)? })
}
