//! The law on a device by products of matrices: windows unfolded into rows, a chunk of pixels at a time.
//!
//! | pass | product | around it |
//! |---|---|---|
//! | forward | unfolded x · w | the bias is there first, the product adds onto it |
//! | input gradient, stride 1 | unfolded dy, windows reversed · w | – |
//! | input gradient, other strides | dy · w, in 32 bits | rows folded back, image by image |
//! | weight gradient | dyᵀ · unfolded x, in 32 bits over all chunks | – |
//!
//! 1x1 windows of stride 1 are products alone.
//! Memory: [`UNFOLDED`] bytes of rows (where rows are folded, one image's at least), and the weights once more.

use super::{Sizes, Window};
use crate::gpu::product::{Matrix, Product};
use crate::gpu::{
    Argument::*, Grid, Source, Unit, WARP, dense, fresh, launch, launch_units, source,
};
use candle_core::{DType, Result, Tensor, bail};

const KERNEL: Source = source!("conv2d");

/// Bytes of unfolded windows that exist at once.
const UNFOLDED: usize = 256 << 20;

/// Windows over an image, as they become rows.
#[derive(Clone, Copy)]
struct Windows {
    /// (height, width) of what is read, and of the pixels whose windows they are.
    input: (usize, usize),
    output: (usize, usize),
    channels: usize,
    window: Window,
    /// From the last pixel of a window to the first.
    is_reversed: bool,
}

impl Windows {
    /// Numbers of one row.
    fn depth(&self) -> usize {
        self.window.kernel * self.window.kernel * self.channels
    }

    /// Rows of so many bytes; at least one.
    fn rows_in(&self, bytes: usize, dtype: DType) -> usize {
        (bytes / (self.depth() * dtype.size_in_bytes()).max(1)).max(1)
    }

    /// The windows of `count` pixels from `first` on: [count, depth].
    fn unfold(&self, x: &Tensor, first: usize, count: usize) -> Result<Tensor> {
        let rows = fresh(&[count, self.depth()], x.dtype(), x.device())?;
        let unit = Unit::of(&[x, &rows], &[self.channels]);
        let grid = Grid::of_rows(count, unit.count(self.depth()));
        let arguments = [
            Read(x),
            Write(&rows),
            Length(first),
            Count(self.input.0),
            Count(self.input.1),
            Count(self.output.0),
            Count(self.output.1),
            Count(unit.count(self.channels)),
            Count(self.window.kernel),
            Count(self.window.stride),
            Count(self.window.before),
            Count(self.is_reversed.into()),
        ];
        launch_units(&KERNEL, "unfold", unit, grid, &arguments)?;
        Ok(rows)
    }

    /// y [pixels, n] ← unfolded x · wᵀ (+ y), w [n, depth].
    fn correlate(
        &self,
        x: &Tensor,
        w: &Tensor,
        y: &Tensor,
        pixels: usize,
        keeps: bool,
        bytes: usize,
    ) -> Result<()> {
        let (n, depth) = (y.dim(3)?, self.depth());
        let each = self.rows_in(bytes, x.dtype());
        for first in (0..pixels).step_by(each) {
            let count = each.min(pixels - first);
            let rows = self.unfold(x, first, count)?;
            let to = Matrix::of(y, n).from(first * n);
            let w = Matrix::of(w, depth).transposed();
            Product::new(to, Matrix::of(&rows, depth), w, [count, n, depth]).onto(keeps).run()?;
        }
        Ok(())
    }
}

impl Sizes {
    fn is_linear(&self) -> bool {
        self.window == Window::same(1)
    }

    /// The windows of the forward pass.
    fn windows(&self) -> Windows {
        Windows {
            input: self.input,
            output: self.output,
            channels: self.channels_in,
            window: self.window,
            is_reversed: false,
        }
    }

    fn pixels_in(&self) -> usize {
        self.batch * self.input.0 * self.input.1
    }

    fn pixels_out(&self) -> usize {
        self.batch * self.output.0 * self.output.1
    }
}

/// The short side of what is turned, at most; and numbers of a tile, as kernel.cu has it.
const SHORT: usize = 64;
const TILE: usize = 4096;

/// [outer, rows, columns] → [outer, columns, rows], of which one is short.
fn turned(from: &Tensor, sizes: [usize; 3], dtype: DType) -> Result<Tensor> {
    let [outer, rows, columns] = sizes;
    let to = fresh(&[outer, columns, rows], dtype, from.device())?;
    let (short, long) = (rows.min(columns), rows.max(columns));
    if short > SHORT {
        bail!("conv2d: {rows} by {columns} numbers are turned in tiles of {SHORT} at most");
    }
    let each = TILE / short.max(1);
    let grid = Grid { blocks: [long.div_ceil(each), outer], ..Grid::of_elements(1) };
    let function = if from.dtype() == dtype { "turn" } else { "turn_sums" };
    let arguments = [Read(from), Write(&to), Count(rows), Count(columns), Count(each)];
    launch(&KERNEL, function, dtype, grid, &arguments)?;
    Ok(to)
}

/// [rows, columns] → [columns, rows].
fn transposed(from: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
    let to = fresh(&[columns, rows], from.dtype(), from.device())?;
    let blocks = [columns, rows].map(|n| n.div_ceil(WARP));
    let arguments = [Read(from), Write(&to), Count(rows), Count(columns)];
    let grid = Grid { blocks, ..Grid::of_elements(1) };
    launch(&KERNEL, "transpose", from.dtype(), grid, &arguments)?;
    Ok(to)
}

/// [out, in, kernel, kernel] → [out, kernel · kernel, in], as rows of windows meet it.
pub(super) fn channels_last(w: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    turned(w, [sizes.channels_out, sizes.channels_in, sizes.taps()], w.dtype())
}

/// y where only the bias has been added; nothing yet where there is none.
pub(super) fn biased(x: &Tensor, bias: Option<&Tensor>, sizes: &Sizes) -> Result<Tensor> {
    let y = fresh(&sizes.y_shape(), x.dtype(), x.device())?;
    if let Some(bias) = bias {
        dense("conv2d bias", bias)?;
        let (pixels, per_example) = (sizes.output.0 * sizes.output.1, bias.rank() == 2);
        let unit = Unit::of(&[bias, &y], &[sizes.channels_out]);
        let (all, units) = (unit.count(y.elem_count()), unit.count(sizes.channels_out));
        let counts = [all, pixels, units, per_example.into()].map(Count);
        let arguments = [&[Read(bias), Write(&y)][..], &counts].concat();
        launch_units(&KERNEL, "bias", unit, Grid::of_elements(all), &arguments)?;
    }
    Ok(y)
}

pub(super) fn forward(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    sizes: &Sizes,
) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if let Some(found) = super::cudnn::forward(x, w, bias, sizes)? {
        return Ok(found);
    }
    forward_in(x, w, bias, sizes, UNFOLDED)
}

fn forward_in(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    sizes: &Sizes,
    bytes: usize,
) -> Result<Tensor> {
    dense("conv2d x", x)?;
    dense("conv2d w", w)?;
    let (y, keeps) = (biased(x, bias, sizes)?, bias.is_some());
    let (n, depth, pixels) = (sizes.channels_out, sizes.channels_in, sizes.pixels_out());
    if sizes.is_linear() {
        let w = Matrix::of(w, depth).transposed();
        Product::new(Matrix::of(&y, n), Matrix::of(x, depth), w, [pixels, n, depth])
            .onto(keeps)
            .run()?;
    } else {
        let w = channels_last(w, sizes)?;
        sizes.windows().correlate(x, &w, &y, pixels, keeps, bytes)?;
    }
    Ok(y)
}

pub(super) fn input_gradient(dy: &Tensor, w: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if let Some(found) = super::cudnn::input_gradient(dy, w, sizes)? {
        return Ok(found);
    }
    input_gradient_in(dy, w, sizes, UNFOLDED)
}

fn input_gradient_in(dy: &Tensor, w: &Tensor, sizes: &Sizes, bytes: usize) -> Result<Tensor> {
    dense("conv2d dy", dy)?;
    dense("conv2d w", w)?;
    let dx = fresh(&sizes.x_shape(), dy.dtype(), dy.device())?;
    let (n, depth, window) = (sizes.channels_out, sizes.channels_in, sizes.window);
    if sizes.is_linear() {
        let (to, dy, w) = (Matrix::of(&dx, depth), Matrix::of(dy, n), Matrix::of(w, depth));
        Product::new(to, dy, w, [sizes.pixels_in(), depth, n]).run()?;
    } else if window.stride == 1 && window.before < window.kernel {
        // dx is dy correlated with the weights from the other side.
        let w = transposed(w, n, depth * sizes.taps())?; // [in, kernel², out]
        let windows = Windows {
            input: sizes.output,
            output: sizes.input,
            channels: n,
            window: Window { before: window.kernel - 1 - window.before, ..window },
            is_reversed: true,
        };
        windows.correlate(dy, &w, &dx, sizes.pixels_in(), false, bytes)?;
    } else {
        folded(dy, &channels_last(w, sizes)?, &dx, sizes, bytes)?;
    }
    Ok(dx)
}

/// dx ← dy · w folded back, as many images at a time as fit.
fn folded(dy: &Tensor, w: &Tensor, dx: &Tensor, sizes: &Sizes, bytes: usize) -> Result<()> {
    let (windows, n) = (sizes.windows(), sizes.channels_out);
    let (pixels, depth) = (sizes.output.0 * sizes.output.1, windows.depth());
    let each = (windows.rows_in(bytes, DType::F32) / pixels.max(1)).max(1);
    for first in (0..sizes.batch).step_by(each) {
        let images = each.min(sizes.batch - first);
        let count = images * pixels;
        let rows = fresh(&[count, depth], DType::F32, dy.device())?;
        let dy = Matrix::of(dy, n).from(first * pixels * n);
        Product::new(Matrix::of(&rows, depth), dy, Matrix::of(w, depth), [count, depth, n])
            .run()?;
        let arguments = [
            Read(&rows),
            Write(dx),
            Count(first),
            Count(sizes.input.0),
            Count(sizes.input.1),
            Count(sizes.output.0),
            Count(sizes.output.1),
            Count(sizes.channels_in),
            Count(sizes.window.kernel),
            Count(sizes.window.stride),
            Count(sizes.window.before),
        ];
        let grid = Grid::of_rows(images * sizes.input.0 * sizes.input.1, sizes.channels_in);
        launch(&KERNEL, "fold", dx.dtype(), grid, &arguments)?;
    }
    Ok(())
}

pub(super) fn weight_gradient(x: &Tensor, dy: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if let Some(found) = super::cudnn::weight_gradient(x, dy, sizes)? {
        return Ok(found);
    }
    weight_gradient_in(x, dy, sizes, UNFOLDED)
}

fn weight_gradient_in(x: &Tensor, dy: &Tensor, sizes: &Sizes, bytes: usize) -> Result<Tensor> {
    dense("conv2d x", x)?;
    dense("conv2d dy", dy)?;
    let (n, pixels, windows) = (sizes.channels_out, sizes.pixels_out(), sizes.windows());
    let depth = windows.depth();
    let turned_dy = |first: usize| Matrix::of(dy, n).from(first * n).transposed();
    if sizes.is_linear() {
        let dw = fresh(&sizes.w_shape(), x.dtype(), x.device())?;
        let (to, x) = (Matrix::of(&dw, depth), Matrix::of(x, depth));
        Product::new(to, turned_dy(0), x, [n, depth, pixels]).run()?;
        return Ok(dw);
    }
    let sums = fresh(&[n, depth], DType::F32, x.device())?;
    let each = windows.rows_in(bytes, x.dtype());
    for first in (0..pixels).step_by(each) {
        let count = each.min(pixels - first);
        let rows = windows.unfold(x, first, count)?;
        let (to, rows) = (Matrix::of(&sums, depth), Matrix::of(&rows, depth));
        Product::new(to, turned_dy(first), rows, [n, depth, count]).onto(first > 0).run()?;
    }
    weights_first(&sums, sizes, x.dtype())
}

/// [out, kernel · kernel, in] of any type → [out, in, kernel, kernel] in `dtype`.
pub(super) fn weights_first(sums: &Tensor, sizes: &Sizes, dtype: DType) -> Result<Tensor> {
    let dw = turned(sums, [sizes.channels_out, sizes.taps(), sizes.channels_in], dtype)?;
    dw.reshape(&sizes.w_shape()[..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv2d::tests::cases;
    use crate::testing::{TYPES, distance, filled, on_devices, same_in_any_order, there};

    /// Rows at once: all, and so few that every case is cut.
    const BYTES: [usize; 2] = [UNFOLDED, 3000];

    #[test]
    fn three_passes_are_the_reference_however_they_are_cut() {
        on_devices(|device| {
            for (batch, height, width, channels_in, channels_out, window) in cases() {
                for (dtype, tolerance) in TYPES {
                    let tensor = |shape: &[usize], salt| there(&filled(shape, salt), dtype, device);
                    let (x, exact_x) = tensor(&[batch, height, width, channels_in], 1);
                    let shape = [channels_out, channels_in, window.kernel, window.kernel];
                    let (w, exact_w) = tensor(&shape, 2);
                    let sizes = Sizes::new(x.dims(), &shape, window).unwrap();
                    let (dy, exact_dy) = tensor(&sizes.y_shape(), 3);
                    let biases = [tensor(&[channels_out], 4), tensor(&[batch, channels_out], 5)];
                    let exact_y = crate::conv2d::forward(&exact_x, &exact_w, None, window).unwrap();
                    let exact_dx =
                        crate::conv2d::input_gradient(&exact_dy, &exact_w, x.dims(), window);
                    let exact_dw = crate::conv2d::weight_gradient(&exact_x, &exact_dy, window);
                    let (exact_dx, exact_dw) = (exact_dx.unwrap(), exact_dw.unwrap());
                    for bytes in BYTES {
                        let label = format!("{sizes:?} {dtype:?} {bytes}");
                        let y = forward_in(&x, &w, None, &sizes, bytes).unwrap();
                        assert!(distance(&y, &exact_y) <= tolerance, "forward {label}");
                        let dx = input_gradient_in(&dy, &w, &sizes, bytes).unwrap();
                        assert!(distance(&dx, &exact_dx) <= tolerance, "input {label}");
                        let dw = weight_gradient_in(&x, &dy, &sizes, bytes).unwrap();
                        assert!(distance(&dw, &exact_dw) <= tolerance, "weights {label}");
                    }
                    if cfg!(feature = "cudnn") {
                        let label = format!("cuDNN {sizes:?} {dtype:?}");
                        let y = forward(&x, &w, None, &sizes).unwrap();
                        assert!(distance(&y, &exact_y) <= tolerance, "forward {label}");
                        let dx = input_gradient(&dy, &w, &sizes).unwrap();
                        assert!(distance(&dx, &exact_dx) <= tolerance, "input {label}");
                        let dw = weight_gradient(&x, &dy, &sizes).unwrap();
                        assert!(distance(&dw, &exact_dw) <= tolerance, "weights {label}");
                    }
                    for (bias, exact_bias) in &biases {
                        let y = forward(&x, &w, Some(bias), &sizes).unwrap();
                        let exact =
                            crate::conv2d::forward(&exact_x, &exact_w, Some(exact_bias), window);
                        // Sums in cuBLAS begin with the bias.
                        assert!(distance(&y, &exact.unwrap()) <= tolerance, "bias {sizes:?}");
                    }
                }
            }
        });
    }

    #[test]
    fn what_is_turned_lies_the_other_way() {
        on_devices(|device| {
            for (dtype, _) in TYPES {
                for [outer, rows, columns] in
                    [[1, 1, 1], [3, 1000, 9], [2, 9, 1000], [2, 64, 64], [4, 33, 31], [1, 5, 9000]]
                {
                    let (x, _) = there(&filled(&[outer, rows, columns], 1), dtype, device);
                    let found = turned(&x, [outer, rows, columns], dtype).unwrap();
                    let expected = x.transpose(1, 2).unwrap().contiguous().unwrap();
                    assert!(distance(&found, &expected) <= 0., "{outer} {rows} {columns}");
                }
                for [rows, columns] in [[1, 1], [31, 33], [127, 1000], [70, 64]] {
                    let (x, _) = there(&filled(&[rows, columns], 1), dtype, device);
                    let found = transposed(&x, rows, columns).unwrap();
                    let expected = x.t().unwrap().contiguous().unwrap();
                    assert!(distance(&found, &expected) <= 0., "{rows} {columns}");
                }
            }
        });
    }

    #[test]
    fn nan_and_the_order_stay() {
        on_devices(|device| {
            let window = Window { kernel: 3, stride: 2, before: 0, after: 1 };
            let x = there(&filled(&[2, 9, 8, 40], 1), DType::F32, device).0;
            let w = there(&filled(&[33, 40, 3, 3], 2), DType::F32, device).0;
            let sizes = Sizes::new(x.dims(), w.dims(), window).unwrap();
            let dy = there(&filled(&sizes.y_shape(), 3), DType::F32, device).0;
            same_in_any_order(|| {
                let y = forward(&x, &w, None, &sizes).unwrap();
                let dx = input_gradient(&dy, &w, &sizes).unwrap();
                vec![y, dx, weight_gradient(&x, &dy, &sizes).unwrap()]
            });
            let poisoned = (&dy * f64::NAN).unwrap();
            let dw = weight_gradient(&x, &poisoned, &sizes).unwrap();
            let dw = dw.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(dw.iter().all(|dw| dw.is_nan()));
        });
    }
}
