//! The law on a device: tiles of similarities by the library's product, merged into running sums by our kernel.
//!
//! Memory: one tile, and what it is made of once or twice more where that is split or retrieved in 32 bits; never queries
//! by patterns.
//! On tensor cores a 32-bit operand is split in two, and three TF32 products are added: hi·hi + hi·lo + lo·hi. Each has
//! eleven bits of both operands, so that 22 of their 24 count; sums are of 32 bits. Half the time of true 32-bit products.

use super::streamed::{Answers, Sums};
use super::{Form, Question, Wanted};
use crate::gpu::product::{Matrix, Product};
use crate::gpu::{Argument::*, Grid, Source, dense, fresh, has_tensor_cores, launch, source};
use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;

const KERNEL: Source = source!("hopfield_energy");

/// Queries and patterns of a tile: 64 MiB of similarities.
const TILE: [usize; 2] = [2048, 8192];

pub(super) fn energy(queries: &Tensor, patterns: &Tensor, question: &Question) -> Result<Answers> {
    energy_in(queries, patterns, question, TILE, has_tensor_cores())
}

/// What every tile shares.
struct Held<'a> {
    question: &'a Question<'a>,
    queries: &'a Tensor,
    half_queries: Tensor,
    half_patterns: Tensor,
    /// a_μ; anything where all are 1.
    masses: Tensor,
    /// [n]: the pattern that a query leaves out, or none of them.
    left_out: Tensor,
    /// [n, 5].
    sums: Tensor,
    /// [n, d]; nothing where it is not wanted.
    retrieved: Tensor,
}

fn energy_in(
    queries: &Tensor,
    patterns: &Tensor,
    question: &Question,
    tile: [usize; 2],
    is_short: bool,
) -> Result<Answers> {
    dense("hopfield energy queries", queries)?;
    dense("hopfield energy patterns", patterns)?;
    let ((n, d), m, device) = (queries.dims2()?, patterns.dim(0)?, queries.device());
    let is_wanted = question.wanted == Wanted::Retrieved;
    let held = Held {
        question,
        queries,
        half_queries: half_norms(queries)?,
        half_patterns: half_norms(patterns)?,
        masses: Tensor::new(question.masses.unwrap_or(&[1.]), device)?,
        left_out: left_out(question, n, device)?,
        sums: Tensor::from_vec(Sums::EMPTY.values().repeat(n), (n, 5), device)?,
        retrieved: fresh(&[if is_wanted { n } else { 1 }, d], DType::F32, device)?,
    };
    for start in (0..m).step_by(tile[1]) {
        let own = patterns.narrow(0, start, tile[1].min(m - start))?;
        let own = Operand::of(&own, is_short)?;
        for first in (0..n).step_by(tile[0]) {
            held.add(first..n.min(first + tile[0]), start, &own)?;
        }
    }
    held.finish()
}

/// ½‖x‖² of each row, in 64 bits.
fn half_norms(x: &Tensor) -> Result<Tensor> {
    let (n, d) = x.dims2()?;
    let found = fresh(&[n], DType::F64, x.device())?;
    let arguments = [Read(x), Write(&found), Count(d)];
    launch(&KERNEL, "half_norms", x.dtype(), Grid::of_rows(n, d), &arguments)?;
    Ok(found)
}

fn left_out(question: &Question, n: usize, device: &Device) -> Result<Tensor> {
    let index = |left_out: &Option<usize>| left_out.map_or(u32::MAX, |index| index as u32);
    let indices = match question.left_out {
        Some(left_out) => left_out.iter().map(index).collect(),
        None => vec![u32::MAX; n],
    };
    Tensor::from_vec(indices, n, device)
}

/// x = high + low.
fn split(x: &Tensor) -> Result<[Tensor; 2]> {
    let parts = [0, 1].map(|_| fresh(x.dims(), DType::F32, x.device()));
    let [high, low] = parts;
    let (high, low) = (high?, low?);
    let n = x.elem_count();
    let arguments = [Read(x), Write(&high), Write(&low), Length(n)];
    launch(&KERNEL, "split", DType::F32, Grid::of_elements(n), &arguments)?;
    Ok([high, low])
}

/// One side of the products.
struct Operand {
    /// [rows, d].
    whole: Tensor,
    /// Its high and its low parts, where TF32 products take them.
    split: Option<[Tensor; 2]>,
}

impl Operand {
    fn of(x: &Tensor, is_short: bool) -> Result<Self> {
        let split = (is_short && x.dtype() == DType::F32).then(|| split(x)).transpose()?;
        Ok(Self { whole: x.clone(), split })
    }
}

/// x·ξ of all pairs, in 32 bits: [rows, columns].
fn products(x: &Operand, xi: &Operand) -> Result<Tensor> {
    let ((rows, d), columns) = (x.whole.dims2()?, xi.whole.dim(0)?);
    let tile = fresh(&[rows, columns], DType::F32, x.whole.device())?;
    let product = |a: &Tensor, b: &Tensor, keeps: bool, is_short: bool| {
        let (to, b) = (Matrix::of(&tile, columns), Matrix::of(b, d).transposed());
        Product::new(to, Matrix::of(a, d), b, [rows, columns, d])
            .onto(keeps)
            .in_tf32(is_short)
            .run()
    };
    match (&x.split, &xi.split) {
        (Some([high, low]), Some([xi_high, xi_low])) => {
            // The small ones first.
            product(low, xi_high, false, true)?;
            product(high, xi_low, true, true)?;
            product(high, xi_high, true, true)?;
        }
        _ => product(&x.whole, &xi.whole, false, false)?,
    }
    Ok(tile)
}

impl Held<'_> {
    /// Adds the patterns from `start` on to the sums of the queries `own`.
    fn add(&self, own: Range<usize>, start: usize, patterns: &Operand) -> Result<()> {
        let (first, rows, columns) = (own.start, own.len(), patterns.whole.dim(0)?);
        let queries = self.queries.narrow(0, first, rows)?;
        let tile = products(&Operand::of(&queries, patterns.split.is_some())?, patterns)?;
        let (d, is_weighted) = (self.queries.dim(1)?, self.question.masses.is_some());
        let is_wanted = self.question.wanted == Wanted::Retrieved;
        let own = |t: &Tensor, first, count| t.narrow(0, first, count);
        let masses =
            if is_weighted { own(&self.masses, start, columns)? } else { self.masses.clone() };
        let retrieved =
            if is_wanted { own(&self.retrieved, first, rows)? } else { self.retrieved.clone() };
        let kept = match (is_wanted, start) {
            (false, _) => 0,
            (true, 0) => 1,
            (true, _) => 2,
        };
        let arguments = [
            Write(&tile),
            Read(&queries),
            Read(&patterns.whole),
            Read(&own(&self.half_queries, first, rows)?),
            Read(&own(&self.half_patterns, start, columns)?),
            Read(&masses),
            Read(&own(&self.left_out, first, rows)?),
            Write(&own(&self.sums, first, rows)?),
            Write(&retrieved),
            Count(start),
            Count(columns),
            Count(d),
            Double(self.question.inverse_temperature),
            Count((self.question.form == Form::Distance).into()),
            Count(is_weighted.into()),
            Count(kept),
        ];
        launch(&KERNEL, "merge", self.queries.dtype(), Grid::of_rows(rows, columns), &arguments)?;
        if is_wanted {
            let patterns = patterns.whole.to_dtype(DType::F32)?;
            let (to, a, b) =
                (Matrix::of(&retrieved, d), Matrix::of(&tile, columns), Matrix::of(&patterns, d));
            let product = Product::new(to, a, b, [rows, d, columns]);
            product.onto(start > 0).in_tf32(false).run()?;
        }
        Ok(())
    }

    /// The only copies to the host.
    fn finish(&self) -> Result<Answers> {
        let sums = self.sums.to_vec2::<f64>()?;
        let half_norms = self.half_queries.to_vec1::<f64>()?;
        let sums: Vec<Sums> = sums.iter().map(|row| Sums::from_values(row)).collect();
        let retrieved = match self.question.wanted {
            Wanted::Energy => Vec::new(),
            Wanted::Retrieved => self.retrieved.to_vec2::<f32>()?.concat(),
        };
        Ok(Answers::new(self.question, &sums, &half_norms, &retrieved, self.queries.dim(1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hopfield_energy::reference;
    use crate::testing::{SIZES, TYPES, filled, on_devices, there};

    fn question(form: Form, beta: f64) -> Question<'static> {
        Question {
            form,
            inverse_temperature: beta,
            masses: None,
            left_out: None,
            wanted: Wanted::Retrieved,
        }
    }

    /// |a − b| / (1 + |b|), largest over queries, of energy, entropy and retrieved.
    fn error(found: &Answers, [x, xi]: [&Tensor; 2], question: &Question) -> f64 {
        let (rows, xi) = (x.to_vec2::<f64>().unwrap(), xi.flatten_all().unwrap());
        let (xi, d) = (xi.to_vec1::<f64>().unwrap(), x.dim(1).unwrap());
        let mut worst = 0f64;
        let mut see = |a: f64, b: f64| {
            let off = (a - b).abs() / (1. + b.abs());
            worst = if off <= worst { worst } else { off };
        };
        for (i, x) in rows.iter().enumerate() {
            let left_out = question.left_out.and_then(|left_out| left_out[i]);
            let (energy, entropy, retrieved) = reference::energy(x, &xi, left_out, question);
            see(found.energy[i], energy);
            see(found.entropy[i], entropy);
            let own = &found.retrieved[i * d..(i + 1) * d];
            own.iter().zip(&retrieved).for_each(|(a, b)| see(*a, *b));
        }
        worst
    }

    #[test]
    fn answers_are_the_reference_at_every_size_and_in_both_types() {
        on_devices(|device| {
            for (n, m) in SIZES.map(|n| (3, n)).into_iter().chain([(127, 4)]) {
                for (dtype, form) in
                    TYPES.into_iter().flat_map(|(t, _)| [(t, Form::Dot), (t, Form::Distance)])
                {
                    let (x, exact_x) = there(&filled(&[n, 13], 1), dtype, device);
                    let (xi, exact_xi) = there(&filled(&[m, 13], 2), dtype, device);
                    let masses: Vec<f64> = (0..m).map(|mu| 0.5 + (mu % 5) as f64).collect();
                    let out = |i| (i % 2 == 0 && m > 1).then_some(i % m);
                    let left_out: Vec<Option<usize>> = (0..n).map(out).collect();
                    for beta in [1e-3, 3.] {
                        let plain = question(form, beta);
                        let full =
                            Question { masses: Some(&masses), left_out: Some(&left_out), ..plain };
                        for (question, tile) in [(plain, TILE), (full, [7, 10])] {
                            let found = energy_in(&x, &xi, &question, tile, false).unwrap();
                            let error = error(&found, [&exact_x, &exact_xi], &question);
                            assert!(error <= 1e-5, "{n} {m} {dtype:?} {question:?}: {error:e}");
                        }
                    }
                }
            }
        });
    }

    /// Copies, logits of ±10⁴, and one pattern a tile.
    #[test]
    fn extremes_stay_exact() {
        on_devices(|device| {
            let (x, exact_x) = there(&(filled(&[5, 6], 1) + 30.).unwrap(), DType::F32, device);
            let xi = Tensor::cat(&[&x, &(&x + 1e-2).unwrap()], 0).unwrap();
            let exact_xi = there(&xi, DType::F32, device).1;
            for beta in [1e-2, 1., 1e4] {
                let question = question(Form::Distance, beta);
                let found = energy_in(&x, &xi, &question, [2, 1], false).unwrap();
                let error = error(&found, [&exact_x, &exact_xi], &question);
                assert!(error <= 1e-5, "{beta}: {error:e}");
            }
            let poisoned = (&x * f64::NAN).unwrap();
            let found = energy(&poisoned, &xi, &question(Form::Dot, 1.)).unwrap();
            assert!(found.energy.iter().all(|energy| energy.is_nan()));
        });
    }

    /// Products of eleven bits alone are not enough; split in two they are.
    #[test]
    fn split_products_keep_the_accuracy_of_32_bits() {
        on_devices(|device| {
            let (x, exact_x) = there(&filled(&[9, 300], 1), DType::F32, device);
            let (xi, exact_xi) = there(&filled(&[40, 300], 2), DType::F32, device);
            let question = question(Form::Distance, 1.);
            let found = energy_in(&x, &xi, &question, [4, 16], true).unwrap();
            let split_error = error(&found, [&exact_x, &exact_xi], &question);
            assert!(split_error <= 1e-5, "{split_error:e}");
            let [high, low] = split(&x).unwrap();
            let sum = (&high + &low).unwrap().to_vec2::<f32>().unwrap();
            assert!(sum == x.to_vec2::<f32>().unwrap());
            // The control: without the low parts it would show.
            let high_xi = split(&xi).unwrap()[0].clone();
            let found = energy_in(&high, &high_xi, &question, TILE, false).unwrap();
            assert!(error(&found, [&exact_x, &exact_xi], &question) > 1e-4);
        });
    }
}
