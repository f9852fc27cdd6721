//! The law, written as loops: slow, and the definition.

use super::Sizes;

/// Calls `visit(x index, w index, y index)` for every product in the sum.
fn for_each_product(sizes: &Sizes, mut visit: impl FnMut(usize, usize, usize)) {
    let Sizes { batch, input, output, channels_in, channels_out, window } = *sizes;
    let k = window.kernel;
    for b in 0..batch {
        for (i, j) in pairs(output.0, output.1) {
            for (u, v) in pairs(k, k) {
                let Some(row) = inside(i * window.stride + u, window.before, input.0) else {
                    continue;
                };
                let Some(column) = inside(j * window.stride + v, window.before, input.1) else {
                    continue;
                };
                for (o, c) in pairs(channels_out, channels_in) {
                    let x = ((b * input.0 + row) * input.1 + column) * channels_in + c;
                    let w = ((o * channels_in + c) * k + u) * k + v;
                    let y = ((b * output.0 + i) * output.1 + j) * channels_out + o;
                    visit(x, w, y);
                }
            }
        }
    }
}

fn pairs(first: usize, second: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..first).flat_map(move |a| (0..second).map(move |b| (a, b)))
}

fn inside(padded: usize, before: usize, size: usize) -> Option<usize> {
    padded.checked_sub(before).filter(|&position| position < size)
}

pub(super) fn forward(x: &[f64], w: &[f64], bias: Option<&[f64]>, sizes: &Sizes) -> Vec<f64> {
    let pixels = sizes.output.0 * sizes.output.1;
    let mut y = vec![0.; sizes.batch * pixels * sizes.channels_out];
    if let Some(bias) = bias {
        let n = sizes.channels_out;
        for (pixel, row) in y.chunks_exact_mut(n).enumerate() {
            let start = if bias.len() == n { 0 } else { pixel / pixels * n };
            row.copy_from_slice(&bias[start..start + n]);
        }
    }
    for_each_product(sizes, |xi, wi, yi| y[yi] += w[wi] * x[xi]);
    y
}

pub(super) fn input_gradient(dy: &[f64], w: &[f64], sizes: &Sizes) -> Vec<f64> {
    let mut dx = vec![0.; sizes.x_shape().iter().product()];
    for_each_product(sizes, |xi, wi, yi| dx[xi] += w[wi] * dy[yi]);
    dx
}

pub(super) fn weight_gradient(x: &[f64], dy: &[f64], sizes: &Sizes) -> Vec<f64> {
    let mut dw = vec![0.; sizes.w_shape().iter().product()];
    for_each_product(sizes, |xi, wi, yi| dw[wi] += dy[yi] * x[xi]);
    dw
}
