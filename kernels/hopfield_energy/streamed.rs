//! The law in blocks: a product of queries and patterns, then running sums with a running maximum.
//!
//! For each query the blocks add to
//! A = Σ a, T = Σ a·e^{l − M}, S = Σ a·(e^{l − M} − 1), U = Σ a·e^{l − M}·(l − M + log a), with M the largest l so far.
//! S keeps log(T/A) exact where all l are nearly equal (small β), T where one pattern outweighs the rest.

use super::{Form, Question, Wanted};
use crate::elementary::exp_and_m1;
use crate::simd::{MulAdd, multiversion};
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a task, and patterns of a block.
const BLOCK: usize = 1024;

/// Half a squared distance below this share of the half norms is their difference after cancellation: it is taken anew.
const NEAR: f64 = 1. / 16.;

/// A precision in which products are taken.
pub(super) trait Precision: Copy + Send + Sync + 'static {
    const ZERO: Self;
    const ONE: Self;
    fn wide(self) -> f64;
    fn narrow(x: f64) -> Self;
}

impl Precision for f32 {
    const ZERO: Self = 0.;
    const ONE: Self = 1.;
    fn wide(self) -> f64 {
        self.into()
    }
    fn narrow(x: f64) -> Self {
        x as Self
    }
}

impl Precision for f64 {
    const ZERO: Self = 0.;
    const ONE: Self = 1.;
    fn wide(self) -> f64 {
        self
    }
    fn narrow(x: f64) -> Self {
        x
    }
}

/// Answers for a run of queries.
pub(super) struct Answers {
    pub energy: Vec<f64>,
    pub entropy: Vec<f64>,
    /// [n, d], empty where it was not wanted.
    pub retrieved: Vec<f64>,
}

/// What every task shares.
struct Patterns<'a, T> {
    values: &'a [T],
    d: usize,
    /// ½‖ξ_μ‖².
    half_norms: Vec<f64>,
    /// log a_μ, where there are masses.
    log_masses: Vec<f64>,
    question: &'a Question<'a>,
}

pub(super) fn energy<T: Precision>(
    queries: &[T],
    patterns: &[T],
    d: usize,
    question: &Question,
) -> Answers {
    let rows = |values: &[T]| values.len() / d.max(1);
    let half_norms = match question.form {
        Form::Dot => Vec::new(),
        Form::Distance => patterns.par_chunks(d.max(1)).map(half_norm).collect(),
    };
    let log_masses = question.masses.unwrap_or_default().iter().map(|mass| mass.ln()).collect();
    let patterns = Patterns { values: patterns, d, half_norms, log_masses, question };
    let blocks: Vec<Range<usize>> = (0..rows(queries))
        .step_by(BLOCK)
        .map(|first| first..(first + BLOCK).min(rows(queries)))
        .collect();
    let parts: Vec<Answers> = blocks
        .into_par_iter()
        .map(|block| patterns.answer(&queries[block.start * d..block.end * d], block))
        .collect();
    let mut answers = Answers { energy: Vec::new(), entropy: Vec::new(), retrieved: Vec::new() };
    for part in parts {
        answers.energy.extend(part.energy);
        answers.entropy.extend(part.entropy);
        answers.retrieved.extend(part.retrieved);
    }
    answers
}

fn half_norm<T: Precision>(x: &[T]) -> f64 {
    0.5 * x.iter().map(|x| x.wide() * x.wide()).sum::<f64>()
}

fn half_square_distance<T: Precision>(x: &[T], xi: &[T]) -> f64 {
    0.5 * x.iter().zip(xi).map(|(x, xi)| (x.wide() - xi.wide()).powi(2)).sum::<f64>()
}

/// Running sums of one query; the letters are those at the top of the file.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    largest: f64,
    masses: f64,
    total: f64,
    excess: f64,
    moment: f64,
}

impl Sums {
    pub(super) const EMPTY: Self =
        Self { largest: f64::NEG_INFINITY, masses: 0., total: 0., excess: 0., moment: 0. };

    /// As a device holds them.
    pub(super) fn values(&self) -> [f64; 5] {
        [self.largest, self.masses, self.total, self.excess, self.moment]
    }

    /// Those of a device.
    pub(super) fn from_values(values: &[f64]) -> Self {
        let [largest, masses, total, excess, moment] = [0, 1, 2, 3, 4].map(|k| values[k]);
        Self { largest, masses, total, excess, moment }
    }

    /// Moves the reference point up to `largest`; returns the factor by which earlier weights shrink.
    fn raise(&mut self, largest: f64) -> f64 {
        if largest <= self.largest {
            return 1.;
        }
        if self.masses == 0. {
            self.largest = largest;
            return 0.;
        }
        let (shift, shrink) = (self.largest - largest, (self.largest - largest).exp_m1());
        let factor = 1. + shrink;
        self.moment = factor * (self.moment + self.total * shift);
        self.excess = factor * self.excess + self.masses * shrink;
        self.total *= factor;
        self.largest = largest;
        factor
    }

    /// log Σ a·e^l, and log (Σ a·e^l / Σ a) where `mean`.
    fn log_sum(&self, form: Form) -> f64 {
        match form {
            Form::Dot => self.largest + self.total.ln(),
            Form::Distance if self.excess > -0.5 * self.masses => {
                self.largest + (self.excess / self.masses).ln_1p()
            }
            Form::Distance => self.largest + (self.total / self.masses).ln(),
        }
    }

    /// −Σ p log p = log T − U / T.
    fn entropy(&self) -> f64 {
        (self.total.ln() - self.moment / self.total).max(0.)
    }
}

impl<T: Precision> Patterns<'_, T> {
    fn pattern(&self, mu: usize) -> &[T] {
        &self.values[mu * self.d..(mu + 1) * self.d]
    }

    fn answer(&self, queries: &[T], block: Range<usize>) -> Answers {
        let (n, d, m) = (block.len(), self.d, self.values.len() / self.d);
        let half_norms: Vec<f64> = queries.chunks_exact(d).map(half_norm).collect();
        let mut sums = vec![Sums::EMPTY; n];
        let wants = self.question.wanted == Wanted::Retrieved;
        let mut retrieved = vec![T::ZERO; if wants { n * d } else { 0 }];
        let mut similarities = Vec::new();
        for first in (0..m).step_by(BLOCK) {
            let own = first..(first + BLOCK).min(m);
            let patterns = &self.values[own.start * d..own.end * d];
            similarities.clear();
            similarities.resize(n * own.len(), T::ZERO);
            multiply(
                &mut similarities,
                T::ZERO,
                (queries, d, 1),
                (patterns, 1, d),
                [n, own.len(), d],
            );
            for (row, similarities) in similarities.chunks_exact_mut(own.len()).enumerate() {
                let left_out =
                    self.question.left_out.and_then(|left_out| left_out[block.start + row]);
                let query = (&queries[row * d..(row + 1) * d], half_norms[row]);
                let factor = self.add(&mut sums[row], query, similarities, own.clone(), left_out);
                if wants && factor != 1. {
                    let factor = T::narrow(factor);
                    retrieved[row * d..(row + 1) * d]
                        .iter_mut()
                        .for_each(|x| *x = T::narrow(x.wide() * factor.wide()));
                }
            }
            if wants {
                let weights = (similarities.as_slice(), own.len(), 1);
                multiply(&mut retrieved, T::ONE, weights, (patterns, d, 1), [n, d, own.len()]);
            }
        }
        Answers::new(self.question, &sums, &half_norms, &retrieved, d)
    }

    /// Adds one block of patterns to one query's sums; the similarities become weights a·e^{l − M} where they are wanted.
    ///
    /// Returns the factor by which what was gathered before shrinks.
    fn add(
        &self,
        sums: &mut Sums,
        query: (&[T], f64),
        similarities: &mut [T],
        own: Range<usize>,
        left_out: Option<usize>,
    ) -> f64 {
        let out = left_out.filter(|index| own.contains(index)).map(|index| index - own.start);
        let mut logits = [0.; BLOCK];
        let logits = &mut logits[..own.len()];
        self.logits(query, similarities, own.start, logits);
        if let Some(out) = out {
            logits[out] = f64::NEG_INFINITY;
        }
        let mut largest = f64::NEG_INFINITY;
        find_largest(logits, &mut largest);
        if largest == f64::NEG_INFINITY {
            similarities.fill(T::ZERO);
            return 1.;
        }
        let factor = sums.raise(largest);
        // Around the pattern that is left out, if one is.
        let parts =
            [0..out.unwrap_or(logits.len()), out.map_or(logits.len(), |out| out + 1)..logits.len()];
        for part in parts {
            let logits = &mut logits[part.clone()];
            match self.question.masses {
                None => sums.add_equal(logits),
                Some(masses) => {
                    let part = own.start + part.start..own.start + part.end;
                    sums.add_heavy(logits, &masses[part.clone()], &self.log_masses[part]);
                }
            }
        }
        if self.question.wanted == Wanted::Retrieved {
            // The logits have become weights.
            similarities.iter_mut().zip(&*logits).for_each(|(to, weight)| *to = T::narrow(*weight));
            if let Some(out) = out {
                similarities[out] = T::ZERO;
            }
        }
        factor
    }

    /// l of one query and the patterns from `first` on.
    fn logits(
        &self,
        (query, half_norm): (&[T], f64),
        similarities: &[T],
        first: usize,
        logits: &mut [f64],
    ) {
        let beta = self.question.inverse_temperature;
        if self.question.form == Form::Dot {
            logits.iter_mut().zip(similarities).for_each(|(l, s)| *l = beta * s.wide());
            return;
        }
        let half_norms = &self.half_norms[first..][..logits.len()];
        let mut is_any_near = false;
        for ((l, s), own) in logits.iter_mut().zip(similarities).zip(half_norms) {
            let norms = own + half_norm;
            let similarity = s.wide() - norms;
            // A NaN is not near, and passes.
            is_any_near |= similarity > -NEAR * norms;
            *l = beta * similarity;
        }
        if !is_any_near {
            return;
        }
        for (k, (l, s)) in logits.iter_mut().zip(similarities).enumerate() {
            let norms = half_norms[k] + half_norm;
            if s.wide() - norms > -NEAR * norms {
                *l = -beta * half_square_distance(query, self.pattern(first + k));
            }
        }
    }
}

/// Lanes of the sums below: the same on every processor.
const LANES: usize = 8;

multiversion! {
    /// The largest of `values`, and NaN where one of them is.
    fn find_largest(values: &[f64], largest: &mut f64) = largest_of;
}

#[inline(always)]
fn largest_of<M: MulAdd, const L: usize>(values: &[f64], largest: &mut f64) {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (mut lanes, mut is_nan) = ([f64::NEG_INFINITY; LANES], [false; LANES]);
    let mut take = |l: usize, x: f64| {
        lanes[l] = if x > lanes[l] { x } else { lanes[l] };
        is_nan[l] |= x.is_nan();
    };
    chunks.iter().for_each(|chunk| (0..LANES).for_each(|l| take(l, chunk[l])));
    rest.iter().enumerate().for_each(|(l, x)| take(l, *x));
    let of_lanes = lanes.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    *largest = if is_nan.contains(&true) { f64::NAN } else { of_lanes };
}

/// What a block of patterns adds to A, S, T and U, lane by lane.
#[derive(Default)]
struct Lanes {
    masses: [f64; LANES],
    excess: [f64; LANES],
    total: [f64; LANES],
    moment: [f64; LANES],
}

impl Lanes {
    /// Adds a pattern of mass a whose l − M is `shifted`; returns its weight.
    #[inline(always)]
    fn add(&mut self, l: usize, shifted: f64, mass: f64, log_mass: f64) -> f64 {
        let (weight_of_one, excess) = exp_and_m1(shifted);
        let value = mass * weight_of_one;
        self.masses[l] += mass;
        self.excess[l] += mass * excess;
        self.total[l] += value;
        // Weights that vanished add nothing, and −∞ · 0 must not become NaN.
        self.moment[l] += if value > 0. { value * (shifted + log_mass) } else { 0. };
        value
    }
}

impl Sums {
    fn add_equal(&mut self, logits: &mut [f64]) {
        let mut lanes = Lanes::default();
        weigh_equal(logits, self.largest, &mut lanes);
        self.gather(&lanes);
    }

    fn add_heavy(&mut self, logits: &mut [f64], masses: &[f64], log_masses: &[f64]) {
        let mut lanes = Lanes::default();
        weigh_heavy(logits, self.largest, masses, log_masses, &mut lanes);
        self.gather(&lanes);
    }

    fn gather(&mut self, lanes: &Lanes) {
        let sum = |lanes: &[f64; LANES]| lanes.iter().sum::<f64>();
        self.masses += sum(&lanes.masses);
        self.excess += sum(&lanes.excess);
        self.total += sum(&lanes.total);
        self.moment += sum(&lanes.moment);
    }
}

multiversion! {
    /// Turns logits into weights e^{l − M}.
    fn weigh_equal(logits: &mut [f64], largest: f64, lanes: &mut Lanes) = weigh_equal_in;
}

multiversion! {
    /// Turns logits into weights a·e^{l − M}.
    fn weigh_heavy(
        logits: &mut [f64],
        largest: f64,
        masses: &[f64],
        log_masses: &[f64],
        lanes: &mut Lanes,
    ) = weigh_heavy_in;
}

#[inline(always)]
fn weigh_equal_in<M: MulAdd, const L: usize>(logits: &mut [f64], largest: f64, lanes: &mut Lanes) {
    let (chunks, rest) = logits.as_chunks_mut::<LANES>();
    let mut own = std::mem::take(lanes);
    for chunk in chunks {
        for (l, logit) in chunk.iter_mut().enumerate() {
            *logit = own.add(l, *logit - largest, 1., 0.);
        }
    }
    for (l, logit) in rest.iter_mut().enumerate() {
        *logit = own.add(l, *logit - largest, 1., 0.);
    }
    *lanes = own;
}

#[inline(always)]
fn weigh_heavy_in<M: MulAdd, const L: usize>(
    logits: &mut [f64],
    largest: f64,
    masses: &[f64],
    log_masses: &[f64],
    lanes: &mut Lanes,
) {
    let mut own = std::mem::take(lanes);
    for (k, ((logit, mass), log_mass)) in logits.iter_mut().zip(masses).zip(log_masses).enumerate()
    {
        *logit = own.add(k % LANES, *logit - largest, *mass, *log_mass);
    }
    *lanes = own;
}

impl Answers {
    /// What the sums of all queries say; `retrieved` [n, d] is not yet divided by them, or empty.
    pub(super) fn new<T: Precision>(
        question: &Question,
        sums: &[Sums],
        half_norms: &[f64],
        retrieved: &[T],
        d: usize,
    ) -> Self {
        let beta = question.inverse_temperature;
        let energy = |(sums, half_norm): (&Sums, &f64)| match question.form {
            Form::Dot => half_norm - sums.log_sum(Form::Dot) / beta,
            Form::Distance => -sums.log_sum(Form::Distance) / beta,
        };
        let rows = retrieved.chunks_exact(d).zip(sums);
        Self {
            energy: sums.iter().zip(half_norms).map(energy).collect(),
            entropy: sums.iter().map(Sums::entropy).collect(),
            retrieved: rows
                .flat_map(|(row, sums)| row.iter().map(|x| x.wide() / sums.total))
                .collect(),
        }
    }
}

/// to = keep·to + a·b with `to` [m, n] dense, a and b as (values, row stride, column stride).
fn multiply<T: Precision>(
    to: &mut [T],
    keep: T,
    a: (&[T], usize, usize),
    b: (&[T], usize, usize),
    [m, n, depth]: [usize; 3],
) {
    let reach = |(values, row, column): (&[T], usize, usize), rows: usize, columns: usize| {
        assert!(values.len() > (rows - 1) * row + (columns - 1) * column);
    };
    if m == 0 || n == 0 || depth == 0 {
        return;
    }
    reach(a, m, depth);
    reach(b, depth, n);
    assert!(to.len() >= m * n);
    // SAFETY: the furthest element of each matrix lies inside its slice, as asserted.
    unsafe {
        gemm::gemm(
            m,
            n,
            depth,
            to.as_mut_ptr(),
            1,
            n as isize,
            keep.wide() != 0.,
            a.0.as_ptr(),
            a.2 as isize,
            a.1 as isize,
            b.0.as_ptr(),
            b.2 as isize,
            b.1 as isize,
            keep,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
