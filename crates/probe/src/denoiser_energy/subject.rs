//! A denoiser and the points of a question, as estimators see them: rows of 64-bit numbers in y, and never a NaN.

use super::Question;
use candle_core::{DType, Result, Tensor, bail};
use lethe_candlex::finite::ensure_finite;
use lethe_candlex::rng::Stream;
use lethe_diffusion::denoiser::{Condition, Denoiser, DifferentiableDenoiser};
use lethe_diffusion::schedule::Timestep;

/// What is asked of which denoiser; rows are [rows, d] in 64 bits.
pub(super) struct Subject<'a, D: ?Sized> {
    denoiser: &'a D,
    question: Question<'a>,
    /// [n, d].
    points: Tensor,
}

impl<'a, D: Denoiser + ?Sized> Subject<'a, D> {
    /// # Errors
    /// When there are no points, or one is not finite.
    pub(super) fn new(denoiser: &'a D, question: &Question<'a>) -> Result<Self> {
        let points = question.points;
        if points.rank() < 2 || points.elem_count() == 0 {
            bail!("energy: expected points [n, ..data], at least one, got {:?}", points.dims());
        }
        ensure_finite("energy: the points", points)?;
        let points = points.flatten_from(1)?.to_dtype(DType::F64)?;
        Ok(Self { denoiser, question: *question, points })
    }

    /// The points, [n, d].
    pub(super) fn points(&self) -> &Tensor {
        &self.points
    }

    /// n.
    pub(super) fn count(&self) -> usize {
        self.points.dims()[0]
    }

    /// d.
    pub(super) fn dimensions(&self) -> usize {
        self.points.dims()[1]
    }

    /// √v at level `t`.
    pub(super) fn deviation(&self, t: Timestep) -> f64 {
        self.denoiser.schedule().snr(t).sqrt().recip()
    }

    /// Standard normal noise, draw by draw and point by point, [draws·n, d].
    pub(super) fn normal(
        &self,
        draws: usize,
        step: usize,
        stream: impl Fn(usize) -> Stream,
    ) -> Result<Tensor> {
        let places: Vec<u64> = (0..self.count() as u64).collect();
        let (shape, device) = ([self.dimensions()], self.points.device());
        let noises =
            (0..draws).map(|draw| stream(draw).normal(step as u32, &places, &shape, device));
        Tensor::cat(&noises.collect::<Result<Vec<_>>>()?, 0)?.to_dtype(DType::F64)
    }

    /// ε̂ at rows of y, all at level `t`.
    pub(super) fn noise(&self, y: &Tensor, t: Timestep) -> Result<Tensor> {
        let noises = self.chunks(y.dim(0)?).map(|(start, rows)| {
            let x = self.noisy(y, start, rows, t)?;
            self.flat(&self.denoiser.noise(&x, &vec![t; rows], Condition::Unconditional)?)
        });
        let noise = Tensor::cat(&noises.collect::<Result<Vec<_>>>()?, 0)?;
        ensure_finite("energy: the predicted noise", &noise)?;
        Ok(noise)
    }

    /// (start, length) of runs of at most `batch` rows.
    fn chunks(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        let batch = self.question.batch.max(1);
        (0..rows).step_by(batch).map(move |start| (start, batch.min(rows - start)))
    }

    /// Some rows of y as the denoiser takes them: x = α·y.
    fn noisy(&self, y: &Tensor, start: usize, rows: usize, t: Timestep) -> Result<Tensor> {
        let y = y.narrow(0, start, rows)?;
        self.shaped(&(y * self.denoiser.schedule().alpha(t))?)
    }

    fn shaped(&self, rows: &Tensor) -> Result<Tensor> {
        let points = self.question.points;
        let shape = [&[rows.dim(0)?], &points.dims()[1..]].concat();
        rows.contiguous()?.reshape(shape)?.to_dtype(points.dtype())
    }

    fn flat(&self, x: &Tensor) -> Result<Tensor> {
        x.flatten_from(1)?.to_dtype(DType::F64)
    }
}

impl<D: DifferentiableDenoiser + ?Sized> Subject<'_, D> {
    /// ε̂ and Jᵀ·cotangent with J = ∂ε̂/∂x, at rows of y, all at level `t`; `cotangent` is one row for each.
    pub(super) fn noise_and_pullback(
        &self,
        y: &Tensor,
        t: Timestep,
        cotangent: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (mut noises, mut pullbacks) = (Vec::new(), Vec::new());
        for (start, rows) in self.chunks(y.dim(0)?) {
            let x = self.noisy(y, start, rows, t)?;
            let cotangent = self.shaped(&cotangent.narrow(0, start, rows)?)?;
            let times = vec![t; rows];
            let found = self.denoiser.noise_and_pullback(
                &x,
                &times,
                Condition::Unconditional,
                &cotangent,
            )?;
            noises.push(self.flat(&found.0)?);
            pullbacks.push(self.flat(&found.1)?);
        }
        let (noise, pullback) = (Tensor::cat(&noises, 0)?, Tensor::cat(&pullbacks, 0)?);
        ensure_finite("energy: the predicted noise", &noise)?;
        ensure_finite("energy: the derivative of the predicted noise", &pullback)?;
        Ok((noise, pullback))
    }
}

/// Σ_d a·b of each row of [rows, d].
pub(super) fn dots(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    (a * b)?.sum(1)?.to_vec1()
}

/// `times` copies of [n, d] one after another: [times·n, d].
pub(super) fn repeated(rows: &Tensor, times: usize) -> Result<Tensor> {
    rows.repeat((times, 1))
}
