//! The law on a device: strided products of the library around our softmax, in chunks of queries; what suits tensor cores
//! goes to `flash.rs`.
//!
//! Heads are strided views, so nothing is transposed; logits are 32-bit whatever the operands.
//! Memory: the logits of a chunk, as many probabilities, and backward as many slopes; 256 MiB of logits at most, but for
//! the keys of one query of one image.

use super::{Gradients, Kept, Sizes, flash};
use crate::gpu::product::{Matrix, Product};
use crate::gpu::{Argument::*, Grid, Source, dense, fresh, launch, source};
use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;

pub(super) const KERNEL: Source = source!("attention");

/// Logits that exist at once.
const LOGITS: usize = 1 << 26;

/// What one round of products covers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    /// Images.
    images: Range<usize>,
    /// Queries of each.
    queries: Range<usize>,
}

/// How the work is cut: heads lie side by side, so several heads leave one image at a time, one head several images.
fn chunks(sizes: &Sizes, most: usize) -> Vec<Chunk> {
    let rows = (most / (sizes.heads * sizes.keys).max(1)).max(1);
    let queries = sizes.queries.min(rows);
    let images = if sizes.heads > 1 { 1 } else { (rows / sizes.queries.max(1)).max(1) };
    let mut found = Vec::new();
    for first in (0..sizes.batch).step_by(images) {
        let images = first..(first + images).min(sizes.batch);
        for query in (0..sizes.queries).step_by(queries.max(1)) {
            let queries = query..(query + queries).min(sizes.queries);
            found.push(Chunk { images: images.clone(), queries });
        }
    }
    found
}

/// The products of a chunk side by side: over heads of one image, or over images of one head.
struct Side<'a> {
    sizes: &'a Sizes,
    chunk: &'a Chunk,
}

impl Side<'_> {
    /// How many.
    fn count(&self) -> usize {
        if self.sizes.heads > 1 { self.sizes.heads } else { self.chunk.images.len() }
    }

    /// Rows of the logits.
    fn rows(&self) -> usize {
        self.count() * self.chunk.queries.len()
    }

    /// The tokens from `first` on of q, k, v or their kin, which have `tokens` an image.
    fn tokens<'t>(&self, of: &'t Tensor, tokens: usize, first: usize) -> Matrix<'t> {
        let channels = self.sizes.channels();
        let step = if self.sizes.heads > 1 { self.sizes.depth } else { tokens * channels };
        let start = (self.chunk.images.start * tokens + first) * channels;
        Matrix::of(of, channels).from(start).every(step)
    }

    fn queries<'t>(&self, of: &'t Tensor) -> Matrix<'t> {
        self.tokens(of, self.sizes.queries, self.chunk.queries.start)
    }

    fn keys<'t>(&self, of: &'t Tensor) -> Matrix<'t> {
        self.tokens(of, self.sizes.keys, 0)
    }

    /// [queries, keys], dense.
    fn dense<'t>(&self, of: &'t Tensor) -> Matrix<'t> {
        Matrix::of(of, self.sizes.keys).every(self.chunk.queries.len() * self.sizes.keys)
    }

    /// scale · a · bᵀ over the channels, in 32 bits: [rows, keys].
    fn similarities(&self, a: &Tensor, b: &Tensor, scale: f64) -> Result<Tensor> {
        let found = fresh(&[self.rows(), self.sizes.keys], DType::F32, a.device())?;
        let sizes = [self.chunk.queries.len(), self.sizes.keys, self.sizes.depth];
        Product::new(self.dense(&found), self.queries(a), self.keys(b).transposed(), sizes)
            .times(self.count())
            .scaled(scale)
            .run()?;
        Ok(found)
    }

    /// The probabilities, in `dtype`.
    fn probabilities(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let logits = self.similarities(q, k, self.sizes.scale())?;
        let p = fresh(logits.dims(), q.dtype(), q.device())?;
        let (rows, keys) = (self.rows(), self.sizes.keys);
        let arguments = [Read(&logits), Write(&p), Count(rows), Count(keys)];
        launch(&KERNEL, "softmax", q.dtype(), Grid::of_warps(rows), &arguments)?;
        Ok(p)
    }

    /// to ← weights · values, one row for each query.
    fn gather(&self, to: &Tensor, weights: &Tensor, values: &Tensor) -> Result<()> {
        let sizes = [self.chunk.queries.len(), self.sizes.depth, self.sizes.keys];
        Product::new(self.queries(to), self.dense(weights), self.keys(values), sizes)
            .times(self.count())
            .run()
    }

    /// to ← weightsᵀ · values (+ to), one row for each key.
    fn spread(&self, to: &Tensor, weights: &Tensor, values: &Tensor) -> Result<()> {
        let sizes = [self.sizes.keys, self.sizes.depth, self.chunk.queries.len()];
        Product::new(self.keys(to), self.dense(weights).transposed(), self.queries(values), sizes)
            .times(self.count())
            .onto(self.chunk.queries.start > 0)
            .run()
    }
}

fn dense_all(operands: &[(&str, &Tensor)]) -> Result<()> {
    operands.iter().try_for_each(|(name, tensor)| dense(&format!("attention {name}"), tensor))
}

pub(super) fn forward(q: &Tensor, k: &Tensor, v: &Tensor, sizes: &Sizes) -> Result<(Tensor, Kept)> {
    if flash::suits(&[q, k, v], sizes) {
        dense_all(&[("q", q), ("k", k), ("v", v)])?;
        let (o, kept) = flash::forward(q, k, v, sizes)?;
        return Ok((o, Kept(Some(kept))));
    }
    Ok((forward_in(q, k, v, sizes, LOGITS)?, Kept::default()))
}

fn forward_in(q: &Tensor, k: &Tensor, v: &Tensor, sizes: &Sizes, most: usize) -> Result<Tensor> {
    dense_all(&[("q", q), ("k", k), ("v", v)])?;
    let o = fresh(q.dims(), q.dtype(), q.device())?;
    for chunk in &chunks(sizes, most) {
        let side = Side { sizes, chunk };
        side.gather(&o, &side.probabilities(q, k)?, v)?;
    }
    Ok(o)
}

pub(super) fn gradients(
    kept: &Kept,
    d_o: &Tensor,
    [q, k, v]: [&Tensor; 3],
    sizes: &Sizes,
) -> Result<Gradients> {
    if !flash::suits(&[d_o, q, k, v], sizes) {
        return gradients_in(d_o, [q, k, v], sizes, LOGITS);
    }
    dense_all(&[("do", d_o), ("q", q), ("k", k), ("v", v)])?;
    match &kept.0 {
        Some(kept) => flash::gradients(d_o, [q, k, v], sizes, kept),
        None => flash::gradients(d_o, [q, k, v], sizes, &flash::forward(q, k, v, sizes)?.1),
    }
}

fn gradients_in(
    d_o: &Tensor,
    [q, k, v]: [&Tensor; 3],
    sizes: &Sizes,
    most: usize,
) -> Result<Gradients> {
    dense_all(&[("do", d_o), ("q", q), ("k", k), ("v", v)])?;
    let (dtype, device) = (q.dtype(), q.device());
    let chunks = chunks(sizes, most);
    // What several chunks of queries add to is added in 32 bits.
    let is_summed = chunks.first().is_some_and(|chunk| chunk.queries.len() < sizes.queries);
    let sum_type = if is_summed { DType::F32 } else { dtype };
    let dq = fresh(q.dims(), dtype, device)?;
    let (dk, dv) = (sum(k, sum_type, device)?, sum(v, sum_type, device)?);
    for chunk in &chunks {
        let side = Side { sizes, chunk };
        let p = side.probabilities(q, k)?;
        side.spread(&dv, &p, d_o)?;
        let dp = side.similarities(d_o, v, 1.)?;
        let slope = fresh(dp.dims(), dtype, device)?;
        let operands = [Read(&p), Read(&dp), Write(&slope)];
        let sizes_of = [Count(side.rows()), Count(sizes.keys), Float(sizes.scale())];
        let arguments = [operands, sizes_of].concat();
        launch(&KERNEL, "slope", dtype, Grid::of_warps(side.rows()), &arguments)?;
        side.gather(&dq, &slope, k)?;
        side.spread(&dk, &slope, q)?;
    }
    Ok(Gradients { q: dq, k: dk.to_dtype(dtype)?, v: dv.to_dtype(dtype)? })
}

fn sum(like: &Tensor, dtype: DType, device: &Device) -> Result<Tensor> {
    fresh(like.dims(), dtype, device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, TYPES, distance, filled, on_devices, same_in_any_order, there};

    /// (batch, queries, keys, heads, depth), logits at once.
    fn cases() -> Vec<([usize; 5], usize)> {
        let sizes = SIZES.map(|n| ([1, 3, n, 2, 4], LOGITS));
        let others = [
            ([2, 5, 5, 1, 7], LOGITS),
            ([3, 33, 31, 3, 5], LOGITS),
            ([3, 20, 31, 1, 5], 31 * 40), // two images at once, then one
            ([2, 20, 31, 1, 5], 31 * 7),  // not even all queries of one
            ([2, 16, 77, 4, 8], 4 * 77 * 5),
        ];
        sizes.into_iter().chain(others).collect()
    }

    #[test]
    fn value_and_gradients_are_the_reference_however_they_are_cut() {
        on_devices(|device| {
            for ([batch, queries, keys, heads, depth], most) in cases() {
                for (dtype, tolerance) in TYPES {
                    let channels = heads * depth;
                    let tensor = |tokens, salt| {
                        let t = (filled(&[batch, tokens, channels], salt) * 1.5).unwrap();
                        there(&t, dtype, device)
                    };
                    let (q, q64) = tensor(queries, 1);
                    let (k, k64) = tensor(keys, 2);
                    let (v, v64) = tensor(keys, 3);
                    let (d_o, d_o64) = tensor(queries, 4);
                    let sizes = Sizes::new(&q, &k, &v, heads).unwrap();
                    let label = format!("{sizes:?} {most} {dtype:?}");
                    let o = forward_in(&q, &k, &v, &sizes, most).unwrap();
                    let exact = crate::attention::forward(&q64, &k64, &v64, heads).unwrap();
                    // Probabilities are rounded to the operands' type before they weigh.
                    let tolerance = 3. * tolerance;
                    assert!(distance(&o, &exact) <= tolerance, "{label} {}", distance(&o, &exact));
                    let found = gradients_in(&d_o, [&q, &k, &v], &sizes, most).unwrap();
                    let exact =
                        crate::attention::gradients(&d_o64, &q64, &k64, &v64, heads).unwrap();
                    assert!(distance(&found.v, &exact.v) <= tolerance, "{label}");
                    // With one key the probabilities are constant: these gradients vanish.
                    if keys > 1 {
                        let off = [distance(&found.q, &exact.q), distance(&found.k, &exact.k)];
                        assert!(off.iter().all(|off| *off <= 2. * tolerance), "{label} {off:?}");
                    }
                }
            }
        });
    }

    #[test]
    fn extremes_saturate_and_nan_and_the_order_stay() {
        on_devices(|device| {
            let q = there(&(filled(&[1, 3, 4], 1) * 1e4).unwrap(), DType::F32, device).0;
            let k = there(&filled(&[1, 6, 4], 2), DType::F32, device).0;
            let sizes = Sizes::new(&q, &k, &k, 1).unwrap();
            let values = |q: &Tensor| {
                let o = forward(q, &k, &k, &sizes).unwrap().0;
                o.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            assert!(values(&q).iter().all(|o| o.is_finite()));
            assert!(values(&(&q * f64::NAN).unwrap()).iter().all(|o| o.is_nan()));
            same_in_any_order(|| {
                let found = gradients(&Kept::default(), &q, [&q, &k, &k], &sizes).unwrap();
                vec![forward(&q, &k, &k, &sizes).unwrap().0, found.q, found.k, found.v]
            });
        });
    }

    #[test]
    fn chunks_cover_all_once_and_stay_within_their_bound() {
        for ([batch, queries, keys, heads, depth], most) in cases() {
            let sizes = Sizes { batch, queries, keys, heads, depth };
            let mut seen = vec![0; batch * queries];
            for chunk in chunks(&sizes, most) {
                let rows = chunk.images.len() * chunk.queries.len() * heads;
                assert!(rows * keys <= most || chunk.queries.len() == 1);
                for image in chunk.images {
                    chunk.queries.clone().for_each(|query| seen[image * queries + query] += 1);
                }
            }
            assert!(seen.iter().all(|&n| n == 1));
        }
    }
}
