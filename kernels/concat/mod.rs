//! Joining two tensors along their channels, which come last, and the cut that is its gradient.
//!
//! Law: y[…, :n] = a, y[…, n:] = b, with n the channels of a.
//! Bandwidth is the limit: each element is read and written once.

mod device;

use crate::view::{Route, View, copied, route, tensor, written};
use candle_core::{D, Result, Tensor, WithDType, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Pixels moved by one task.
const BLOCK: usize = 1024;

/// [.., n] and [.., m] → [.., n + m].
///
/// # Errors
/// When the other dimensions differ, or an operand is not contiguous.
pub fn forward(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (n, m) = (a.dim(D::Minus1)?, b.dim(D::Minus1)?);
    let (last, outer) = (a.rank() - 1, &a.dims()[..a.rank() - 1]);
    if b.rank() != a.rank() || &b.dims()[..last] != outer {
        bail!("concat: {:?} and {:?} differ before their channels", a.dims(), b.dims());
    }
    if n == 0 || m == 0 {
        bail!("concat: expected channels on both sides, got {:?} and {:?}", a.dims(), b.dims());
    }
    let shape = [outer, &[n + m]].concat();
    let route = route("concat", &[a, b])?;
    if route == Route::Cuda {
        return device::forward(a, b, &shape);
    }
    if route == Route::Composed {
        return Tensor::cat(&[a, b], D::Minus1)?.contiguous();
    }
    let (a, b) = (View::of("concat a", a)?, View::of("concat b", b)?);
    match route {
        Route::Fast => tensor(join(a.f32()?, b.f32()?, n, m), &shape),
        _ => tensor(join(a.f64()?, b.f64()?, n, m), &shape),
    }
}

/// [.., n + m] → [.., n] and [.., m].
///
/// # Errors
/// When there are fewer than `n` channels, or `y` is not contiguous.
pub fn split(y: &Tensor, n: usize) -> Result<(Tensor, Tensor)> {
    let channels = y.dim(D::Minus1)?;
    let Some(m) = channels.checked_sub(n) else {
        bail!("split: expected at least {n} channels, got {:?}", y.dims());
    };
    let outer = &y.dims()[..y.rank() - 1];
    let (first, second) = ([outer, &[n]].concat(), [outer, &[m]].concat());
    let route = route("split", &[y])?;
    if route == Route::Cuda {
        return Ok((device::cut(y, 0, n, &first)?, device::cut(y, n, m, &second)?));
    }
    if route == Route::Composed {
        return Ok((
            y.narrow(D::Minus1, 0, n)?.contiguous()?,
            y.narrow(D::Minus1, n, m)?.contiguous()?,
        ));
    }
    let y = View::of("split y", y)?;
    Ok(match route {
        Route::Fast => {
            let (a, b) = (cut(y.f32()?, channels, 0, n), cut(y.f32()?, channels, n, m));
            (tensor(a, &first)?, tensor(b, &second)?)
        }
        _ => {
            let (a, b) = (cut(y.f64()?, channels, 0, n), cut(y.f64()?, channels, n, m));
            (tensor(a, &first)?, tensor(b, &second)?)
        }
    })
}

fn join<T: WithDType>(a: &[T], b: &[T], n: usize, m: usize) -> Vec<T> {
    let rows = |y: &mut [MaybeUninit<T>], (a, b): (&[T], &[T])| {
        for (y, (a, b)) in y.chunks_exact_mut(n + m).zip(a.chunks_exact(n).zip(b.chunks_exact(m))) {
            copied(&mut y[..n], a);
            copied(&mut y[n..], b);
        }
    };
    let blocks = |y: &mut [MaybeUninit<T>]| {
        let parts = a.par_chunks((BLOCK * n).max(1)).zip(b.par_chunks((BLOCK * m).max(1)));
        y.par_chunks_mut((BLOCK * (n + m)).max(1)).zip(parts).for_each(|(y, own)| rows(y, own));
    };
    // SAFETY: a and b are as many rows, each of which becomes one of y.
    unsafe { written(a.len() + b.len(), blocks) }
}

fn cut<T: WithDType>(y: &[T], channels: usize, from: usize, count: usize) -> Vec<T> {
    let rows = |(part, y): (&mut [MaybeUninit<T>], &[T])| {
        for (part, y) in part.chunks_exact_mut(count.max(1)).zip(y.chunks_exact(channels)) {
            copied(part, &y[from..from + count]);
        }
    };
    let blocks = |part: &mut [MaybeUninit<T>]| {
        let parts = part.par_chunks_mut((BLOCK * count).max(1));
        parts.zip(y.par_chunks((BLOCK * channels).max(1))).for_each(rows);
    };
    // SAFETY: y is rows of `channels`, each of which gives the part one of `count`.
    unsafe { written(y.len() / channels.max(1) * count, blocks) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, f32, filled};

    #[test]
    fn joined_equals_candle_and_the_cut_undoes_it() {
        for (outer, n, m) in [(vec![1], 1, 1), (vec![3, 50, 21], 5, 2), (vec![2, 4], 33, 64)] {
            let (a, b) =
                (filled(&[&outer[..], &[n]].concat(), 1), filled(&[&outer[..], &[m]].concat(), 2));
            let y = forward(&a, &b).unwrap();
            assert!(distance(&Tensor::cat(&[&a, &b], D::Minus1).unwrap(), &y) <= 0.);
            let (first, second) = split(&y, n).unwrap();
            assert!(distance(&first, &a) <= 0. && distance(&second, &b) <= 0.);
            let (first, second) = split(&forward(&f32(&a), &f32(&b)).unwrap(), n).unwrap();
            assert!(distance(&first, &a) <= 1e-7 && distance(&second, &b) <= 1e-7);
        }
        assert!(forward(&filled(&[2, 3], 1), &filled(&[3, 3], 1)).is_err());
        assert!(split(&filled(&[2, 3], 1), 4).is_err());
    }
}
