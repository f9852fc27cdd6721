//! Nearest-neighbour upsampling by two, channels last, and its gradient.
//!
//! Law: y[b, i, j, c] = x[b, ⌊i/2⌋, ⌊j/2⌋, c]; dx[b, i, j, c] = Σ_{u, v ∈ {0, 1}} dy[b, 2i + u, 2j + v, c].
//! Source: `torch.nn.functional.interpolate(scale_factor=2, mode="nearest")`.
//! Bandwidth is the limit: 5 elements moved for each element of x.
//!
//! candle's own upsampling overwrites a gradient that another consumer left (see its canary in tests/).

mod device;

use crate::view::{Route, View, copied, route, tensor, written};
use candle_core::{Result, Tensor, WithDType, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// [batch, height, width, channels] → [batch, 2·height, 2·width, channels].
///
/// # Errors
/// When `x` is not of that rank or not contiguous.
pub fn forward(x: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let shape = [batch, 2 * height, 2 * width, channels];
    let route = route("upsample", &[x])?;
    if route == Route::Cuda {
        return device::forward(x, &shape);
    }
    if route == Route::Composed {
        let x = x.reshape((batch, height, 1, width, 1, channels))?;
        return x
            .broadcast_as((batch, height, 2, width, 2, channels))?
            .contiguous()?
            .reshape(&shape);
    }
    let x = View::of("upsample x", x)?;
    match route {
        Route::Fast => tensor(spread(x.f32()?, width, channels), &shape),
        _ => tensor(spread(x.f64()?, width, channels), &shape),
    }
}

/// [batch, 2·height, 2·width, channels] → [batch, height, width, channels].
///
/// # Errors
/// When `dy` is not of even height and width, or not contiguous.
pub fn gradient(dy: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = dy.dims4()?;
    if height % 2 != 0 || width % 2 != 0 {
        bail!("upsample: expected a gradient of even height and width, got {:?}", dy.dims());
    }
    let shape = [batch, height / 2, width / 2, channels];
    let route = route("upsample", &[dy])?;
    if route == Route::Cuda {
        return device::gradient(dy, &shape);
    }
    if route == Route::Composed {
        return dy.reshape((batch, height / 2, 2, width / 2, 2, channels))?.sum(4)?.sum(2);
    }
    let dy = View::of("upsample dy", dy)?;
    match route {
        Route::Fast => tensor(gather(dy.f32()?, width, channels), &shape),
        _ => tensor(gather(dy.f64()?, width, channels), &shape),
    }
}

/// Each row of pixels becomes two rows in which each pixel stands twice.
fn spread<T: WithDType>(x: &[T], width: usize, channels: usize) -> Vec<T> {
    let row = (width * channels).max(1);
    let twice = |y: &mut [MaybeUninit<T>], x: &[T]| {
        let pairs = y.chunks_exact_mut(2 * channels.max(1));
        for (pair, pixel) in pairs.zip(x.chunks_exact(channels.max(1))) {
            copied(&mut pair[..channels], pixel);
            copied(&mut pair[channels..], pixel);
        }
    };
    let rows = |y: &mut [MaybeUninit<T>]| {
        y.par_chunks_mut(4 * row).zip(x.par_chunks(row)).for_each(|(y, x)| {
            let (first, second) = y.split_at_mut(2 * row);
            twice(first, x);
            twice(second, x);
        });
    };
    // SAFETY: x is rows of `row` numbers, each of which becomes two of twice as many.
    unsafe { written(4 * x.len(), rows) }
}

/// Each pixel is the sum of the four that it became.
fn gather<T: WithDType>(dy: &[T], width: usize, channels: usize) -> Vec<T> {
    let row = (width * channels).max(1); // of dy; dx's rows are half as long
    let of_row = |(dx, dy): (&mut [MaybeUninit<T>], &[T])| {
        let (first, second) = dy.split_at(row);
        let pairs = first.chunks_exact(2 * channels).zip(second.chunks_exact(2 * channels));
        for (pixel, (upper, lower)) in dx.chunks_exact_mut(channels).zip(pairs) {
            for c in 0..channels {
                let upper = upper[c] + upper[channels + c];
                pixel[c].write(upper + (lower[c] + lower[channels + c]));
            }
        }
    };
    let rows = |dx: &mut [MaybeUninit<T>]| {
        dx.par_chunks_mut((row / 2).max(1)).zip(dy.par_chunks(2 * row)).for_each(of_row);
    };
    // SAFETY: two rows of dy, of even width and height, become one of dx.
    unsafe { written(dy.len() / 4, rows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, f32, filled, inner};

    #[test]
    fn value_equals_candle_and_the_gradient_is_its_transpose() {
        for shape in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 8, 4, 33]] {
            let x = filled(&shape, 1);
            let y = forward(&x).unwrap();
            let channels_first = x.permute((0, 3, 1, 2)).unwrap();
            let candle = channels_first.upsample_nearest2d(2 * shape[1], 2 * shape[2]).unwrap();
            assert!(distance(&candle.permute((0, 2, 3, 1)).unwrap(), &y) <= 0.);
            let dy = filled(y.dims(), 2);
            let dx = gradient(&dy).unwrap();
            assert!(
                (inner(&dy, &y) - inner(&dx, &x)).abs() <= 1e-12 * inner(&dy, &y).abs().max(1.)
            );
            assert!(distance(&forward(&f32(&x)).unwrap(), &y) <= 1e-7);
            assert!(distance(&gradient(&f32(&dy)).unwrap(), &dx) <= 1e-6);
        }
        assert!(gradient(&filled(&[1, 3, 2, 1], 1)).is_err());
    }
}
