//! Products of matrices that lie inside tensors: cuBLAS on a device, the `gemm` crate under emulation.
//!
//! Law: to ← scale · a · b + keep · to, `count` times side by side, each matrix `step` elements behind the last.
//! Operands are f32 or bf16, sums are taken in 32 bits; `to` may be f32 where the operands are bf16.
//! f32 products are true 32-bit ones unless `candle_core::cuda::set_gemm_reduced_precision_f32(true)` allows TF32.

use candle_core::{Result, Tensor, bail};

/// A matrix inside a contiguous tensor, its columns side by side.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub tensor: &'a Tensor,
    /// Its first element, from the tensor's own.
    pub start: usize,
    /// Elements from one row to the next, as it lies.
    pub row: usize,
    /// Elements from one matrix to the next.
    pub step: usize,
    /// Whether its transpose is meant.
    pub is_transposed: bool,
}

impl<'a> Matrix<'a> {
    /// The rows of `tensor`, each `row` elements.
    pub fn of(tensor: &'a Tensor, row: usize) -> Self {
        Self { tensor, start: 0, row, step: 0, is_transposed: false }
    }

    /// The same from element `start`.
    pub fn from(self, start: usize) -> Self {
        Self { start: self.start + start, ..self }
    }

    /// One of several, each `step` elements behind the last.
    pub fn every(self, step: usize) -> Self {
        Self { step, ..self }
    }

    /// Its transpose.
    pub fn transposed(self) -> Self {
        Self { is_transposed: !self.is_transposed, ..self }
    }

    /// Whether `count` of them, [rows, columns] after transposition, lie inside the tensor.
    fn fits(&self, rows: usize, columns: usize, count: usize) -> bool {
        let (rows, columns) = if self.is_transposed { (columns, rows) } else { (rows, columns) };
        let last = self.start + (count - 1) * self.step + (rows - 1) * self.row + columns - 1;
        self.row >= columns && last < self.tensor.elem_count()
    }
}

/// One product, or several of the same sizes.
#[cfg_attr(
    not(any(feature = "cuda", feature = "emulated")),
    expect(dead_code, reason = "no device reads it")
)]
pub(crate) struct Product<'a> {
    pub to: Matrix<'a>,
    pub a: Matrix<'a>,
    pub b: Matrix<'a>,
    /// [m, n, depth]: to [m, n], a [m, depth], b [depth, n].
    pub sizes: [usize; 3],
    pub count: usize,
    pub scale: f64,
    pub keep: f64,
    /// Whether operands of 32 bits may be read in TF32, eleven bits of each.
    pub is_short: bool,
}

/// Whether candle was told that 32-bit products may be TF32.
pub(crate) fn allows_short() -> bool {
    // Without CUDA candle says yes, of nothing.
    cfg!(feature = "cuda") && candle_core::cuda::gemm_reduced_precision_f32()
}

impl<'a> Product<'a> {
    /// to = a · b.
    pub fn new(to: Matrix<'a>, a: Matrix<'a>, b: Matrix<'a>, sizes: [usize; 3]) -> Self {
        Self { to, a, b, sizes, count: 1, scale: 1., keep: 0., is_short: allows_short() }
    }

    /// So many side by side.
    pub fn times(self, count: usize) -> Self {
        Self { count, ..self }
    }

    /// scale · a · b.
    pub fn scaled(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// Added to what is there, if `keeps`.
    pub fn onto(self, keeps: bool) -> Self {
        Self { keep: f64::from(u8::from(keeps)), ..self }
    }

    /// In TF32 or not, whatever candle was told.
    pub fn in_tf32(self, is_short: bool) -> Self {
        Self { is_short, ..self }
    }

    /// # Errors
    /// When a matrix does not lie inside its tensor, or dtypes do not fit.
    pub fn run(self) -> Result<()> {
        let [m, n, depth] = self.sizes;
        if m == 0 || n == 0 || self.count == 0 {
            return Ok(());
        }
        let fits = depth > 0
            && self.to.fits(m, n, self.count)
            && self.a.fits(m, depth, self.count)
            && self.b.fits(depth, n, self.count)
            && !self.to.is_transposed
            && self.a.tensor.dtype() == self.b.tensor.dtype()
            && [m, n, depth, self.count].into_iter().all(|n| n <= i32::MAX as usize);
        if !fits {
            bail!(
                "product: {} of [{m}, {depth}] · [{depth}, {n}] do not lie in {:?} {:?} and {:?} {:?}, or their result in {:?}",
                self.count,
                self.a.tensor.dtype(),
                self.a.tensor.dims(),
                self.b.tensor.dtype(),
                self.b.tensor.dims(),
                self.to.tensor.dims()
            );
        }
        match self.to.tensor.device() {
            #[cfg(feature = "cuda")]
            candle_core::Device::Cuda(_) => super::cuda::multiply(&self),
            #[cfg(feature = "emulated")]
            candle_core::Device::Cpu => super::emulated::multiply(&self),
            other => bail!(
                "product: expected tensors on a CUDA device in a build with `--features cuda`, got {:?}",
                other.location()
            ),
        }
    }
}
