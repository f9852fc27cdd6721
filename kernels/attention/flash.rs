//! The law on tensor cores (flash.cuh): bfloat16 operands, heads of few channels, nothing of [queries, keys] in memory.

use super::{Gradients, Sizes};
use crate::gpu::{Argument, Argument::*, Grid, fresh, has_tensor_cores, launch};
use candle_core::{DType, Result, Tensor};

/// Most channels of a head: beyond them a thread's registers do not hold its sums.
const DEEPEST: usize = 96;

/// Rows of a block: four warps of sixteen.
const ROWS: usize = 64;
/// Threads of a block.
const THREADS: usize = 128;

/// Whether these kernels take the operands: their type and sizes, and rows that begin at a multiple of 16 bytes.
pub(super) fn suits(operands: &[&Tensor], sizes: &Sizes) -> bool {
    let is_aligned = |x: &&Tensor| x.layout().start_offset().is_multiple_of(8);
    has_tensor_cores()
        && operands.iter().all(|x| x.dtype() == DType::BF16)
        && operands.iter().all(is_aligned)
        && sizes.depth <= DEEPEST
        && sizes.depth.is_multiple_of(8)
        && sizes.batch * sizes.heads <= crate::gpu::MOST_IN_Y
        && sizes.keys > 0
        && sizes.depth > 0
}

impl Sizes {
    /// Runs `name` for heads of this depth, a block for each tile of `rows` tokens of each head.
    fn run(&self, name: &str, rows: usize, operands: &[Argument]) -> Result<()> {
        let grid =
            Grid { blocks: [rows.div_ceil(ROWS), self.batch * self.heads], threads: THREADS };
        let function = format!("flash_{name}_{}", self.depth.next_multiple_of(16));
        let counts = [self.queries, self.keys, self.heads, self.depth].map(Count);
        let arguments = [operands, &counts, &[Float(self.scale())]].concat();
        launch(&super::device::KERNEL, &function, DType::BF16, grid, &arguments)
    }
}

/// What backward takes over from forward.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    o: Tensor,
    /// [batch · heads, queries], 32-bit: log₂ Σ exp of each query's logits.
    shift: Tensor,
}

/// o, and with it what is kept.
pub(super) fn forward(q: &Tensor, k: &Tensor, v: &Tensor, sizes: &Sizes) -> Result<(Tensor, Kept)> {
    let o = fresh(q.dims(), q.dtype(), q.device())?;
    let shift = of_rows(sizes, q)?;
    let operands = [Read(q), Read(k), Read(v), Write(&o), Write(&shift)];
    sizes.run("forward", sizes.queries, &operands)?;
    Ok((o.clone(), Kept { o, shift }))
}

pub(super) fn gradients(
    d_o: &Tensor,
    [q, k, v]: [&Tensor; 3],
    sizes: &Sizes,
    kept: &Kept,
) -> Result<Gradients> {
    let like = |x: &Tensor| fresh(x.dims(), x.dtype(), x.device());
    let found = Gradients { q: like(q)?, k: like(k)?, v: like(v)? };
    let (mean, shift) = (of_rows(sizes, q)?, Read(&kept.shift));
    let operands = [Read(q), Read(k), Read(v), Read(d_o)];
    let written = [Read(&kept.o), shift, Write(&found.q), Write(&mean)];
    sizes.run("queries", sizes.queries, &[operands, written].concat())?;
    let written = [shift, Read(&mean), Write(&found.k), Write(&found.v)];
    sizes.run("keys", sizes.keys, &[operands, written].concat())?;
    Ok(found)
}

/// A number for each query of each head.
fn of_rows(sizes: &Sizes, like: &Tensor) -> Result<Tensor> {
    fresh(&[sizes.batch * sizes.heads, sizes.queries], DType::F32, like.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, distance, filled, on_devices, same_in_any_order, there};

    /// Bfloat16's rounding of operands, probabilities and results.
    const TOLERANCE: f64 = 3. * 6e-3;

    fn operands(sizes: [usize; 5], device: &candle_core::Device) -> (Sizes, Vec<(Tensor, Tensor)>) {
        let [batch, queries, keys, heads, depth] = sizes;
        let tensor = |tokens, salt| {
            let t = (filled(&[batch, tokens, heads * depth], salt) * 1.5).unwrap();
            there(&t, DType::BF16, device)
        };
        let all = vec![tensor(queries, 1), tensor(keys, 2), tensor(keys, 3), tensor(queries, 4)];
        (Sizes { batch, queries, keys, heads, depth }, all)
    }

    #[test]
    fn value_and_gradients_are_the_reference() {
        on_devices(|device| {
            let around = SIZES.map(|n| [1, 3, n, 2, 8]);
            let others = [
                [2, 65, 70, 2, 40],
                [1, 33, 77, 3, 80],
                [1, 130, 129, 1, 96],
                [1, 20, 64, 2, 48],
                [2, 64, 65, 1, 24],
                [1, 5, 31, 1, 64],
            ];
            for case in around.into_iter().chain(others) {
                let (sizes, all) = operands(case, device);
                let [(q, q64), (k, k64), (v, v64), (d_o, d_o64)] = &all[..] else { panic!() };
                assert!(suits(&[q, k, v, d_o], &sizes), "{sizes:?}");
                let (o, kept) = forward(q, k, v, &sizes).unwrap();
                let exact = crate::attention::forward(q64, k64, v64, sizes.heads).unwrap();
                let off = distance(&o, &exact);
                assert!(off <= TOLERANCE, "{sizes:?} o {off}");
                let found = gradients(d_o, [q, k, v], &sizes, &kept).unwrap();
                let exact = crate::attention::gradients(d_o64, q64, k64, v64, sizes.heads).unwrap();
                let off = distance(&found.v, &exact.v);
                assert!(off <= TOLERANCE, "{sizes:?} dv {off}");
                // With one key the probabilities are constant: these gradients vanish.
                if sizes.keys > 1 {
                    let off = [distance(&found.q, &exact.q), distance(&found.k, &exact.k)];
                    assert!(off.iter().all(|off| *off <= 2. * TOLERANCE), "{sizes:?} {off:?}");
                }
            }
        });
    }

    #[test]
    fn extremes_saturate_and_nan_and_the_order_stay() {
        on_devices(|device| {
            let (sizes, all) = operands([1, 20, 70, 2, 16], device);
            let [(q, _), (k, _), (v, _), (d_o, _)] = &all[..] else { panic!() };
            let values = |q: &Tensor| {
                let (o, kept) = forward(q, k, v, &sizes).unwrap();
                let found = gradients(d_o, [q, k, v], &sizes, &kept).unwrap();
                let all: Vec<Tensor> = [o, found.q, found.k, found.v]
                    .iter()
                    .map(|t| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap())
                    .collect();
                Tensor::cat(&all, 0).unwrap().to_vec1::<f32>().unwrap()
            };
            assert!(values(&(q * 1e4).unwrap()).iter().all(|o| o.is_finite()));
            assert!(values(&(q * f64::NAN).unwrap()).iter().all(|o| o.is_nan()));
            same_in_any_order(|| {
                let (o, kept) = forward(q, k, v, &sizes).unwrap();
                let found = gradients(d_o, [q, k, v], &sizes, &kept).unwrap();
                vec![o, found.q, found.k, found.v]
            });
        });
    }

    #[test]
    fn what_does_not_suit_is_left_to_the_library() {
        let x = |depth: usize, dtype| {
            let x = Tensor::zeros((1, 4, 2 * depth), dtype, &candle_core::Device::Cpu).unwrap();
            let sizes = Sizes { batch: 1, queries: 4, keys: 4, heads: 2, depth };
            suits(&[&x], &sizes)
        };
        assert!(x(40, DType::BF16) == has_tensor_cores());
        assert!(!x(40, DType::F32) && !x(36, DType::BF16) && !x(104, DType::BF16));
    }
}
