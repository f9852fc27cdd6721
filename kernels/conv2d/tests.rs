//! Value and gradients of the three voices against one another.

use super::*;
use crate::testing::{distance, f32, filled, inner};

/// (batch, height, width, in, out, window), chosen at the edges of tiles, blocks, slabs and panels.
pub(super) fn cases() -> Vec<(usize, usize, usize, usize, usize, Window)> {
    let odd = Window { kernel: 3, stride: 2, before: 0, after: 1 };
    let halving = Window { kernel: 3, stride: 2, before: 1, after: 1 };
    vec![
        (1, 1, 1, 1, 1, Window::same(1)),
        (1, 1, 1, 3, 2, Window::same(3)),
        (2, 4, 4, 5, 7, Window::same(3)),
        (7, 4, 4, 33, 31, Window::same(3)),
        (3, 7, 5, 6, 32, Window::same(3)),
        (2, 9, 8, 16, 33, halving),
        (2, 8, 8, 13, 64, odd),
        (3, 7, 7, 12, 17, odd),
        (1, 33, 31, 3, 65, Window::same(3)),
        (5, 16, 16, 24, 8, Window::same(1)),
        (1, 6, 40, 4, 40, Window::same(5)),
        (2, 70, 64, 2, 3, Window::same(3)),
        (1, 12, 12, 3, 4, Window { kernel: 4, stride: 3, before: 1, after: 2 }),
        (1, 11, 11, 1, 2, Window::same(9)),
        // Few multiplications: odd sides, panels that are not full, patches that do not fill a tile.
        (3, 15, 16, 16, 48, Window::same(3)),
        (2, 13, 11, 32, 16, Window::same(3)),
        (9, 4, 4, 64, 32, Window::same(3)),
        // Few pixels: sides that fill no panel, channels that fill no tile, one pixel, a stride, a linear layer.
        (2, 5, 3, 33, 47, Window::same(3)),
        (1, 1, 1, 64, 70, Window::same(3)),
        (2, 8, 8, 40, 34, halving),
        (1, 7, 7, 32, 37, odd),
        (1, 1, 77, 600, 130, Window::same(1)),
        (1, 16, 16, 64, 256, Window::same(3)),
    ]
}

#[test]
fn fast_passes_equal_the_reference() {
    for (batch, height, width, channels_in, channels_out, window) in cases() {
        let x = filled(&[batch, height, width, channels_in], 1);
        let w = filled(&[channels_out, channels_in, window.kernel, window.kernel], 2);
        let label = format!("{:?} {:?} {window:?}", x.dims(), w.dims());
        for bias in
            [None, Some(filled(&[channels_out], 3)), Some(filled(&[batch, channels_out], 4))]
        {
            let y = forward(&x, &w, bias.as_ref(), window).unwrap();
            let fast =
                forward(&f32(&x), &f32(&w), bias.as_ref().map(f32).as_ref(), window).unwrap();
            assert!(distance(&fast, &y) <= 3e-6, "forward {label}: {}", distance(&fast, &y));
        }
        let dy = filled(forward(&x, &w, None, window).unwrap().dims(), 5);
        let dx = input_gradient(&dy, &w, x.dims(), window).unwrap();
        let fast = input_gradient(&f32(&dy), &f32(&w), x.dims(), window).unwrap();
        assert!(distance(&fast, &dx) <= 3e-6, "input gradient {label}: {}", distance(&fast, &dx));
        let dw = weight_gradient(&x, &dy, window).unwrap();
        let fast = weight_gradient(&f32(&x), &f32(&dy), window).unwrap();
        assert!(distance(&fast, &dw) <= 3e-6, "weight gradient {label}: {}", distance(&fast, &dw));
    }
}

/// Adding before multiplying loses a little: within three times the direct sum's error.
#[test]
fn fewer_multiplications_cost_little_precision() {
    for (batch, side, channels_in, channels_out) in [(1, 12, 64, 64), (3, 8, 256, 32)] {
        let x = filled(&[batch, side, side, channels_in], 1);
        let w = filled(&[channels_out, channels_in, 3, 3], 2);
        let sizes = Sizes::new(x.dims(), w.dims(), Window::same(3)).unwrap();
        assert!(winograd::applies(&sizes));
        let exact = forward(&x, &w, None, Window::same(3)).unwrap();
        let values = |t: &Tensor| f32(t).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let error = |y: Vec<f32>| distance(&tensor(y, exact.dims()).unwrap(), &exact);
        let direct = error(fast::forward(&values(&x), &values(&w), None, &sizes));
        let winograd = error(winograd::forward(&values(&x), &values(&w), None, &sizes));
        assert!(winograd <= 3. * direct, "{winograd:e} against {direct:e}");
        let exact = weight_gradient(&x, &exact, Window::same(3)).unwrap();
        let dy = values(&forward(&x, &w, None, Window::same(3)).unwrap());
        let error = |dw: Vec<f32>| distance(&tensor(dw, exact.dims()).unwrap(), &exact);
        let direct = error(weight_gradient::weight_gradient(&values(&x), &dy, &sizes));
        let winograd = error(winograd_weight::weight_gradient(&values(&x), &dy, &sizes));
        assert!(winograd <= 3. * direct, "weights: {winograd:e} against {direct:e}");
    }
}

/// What takes each way, so that the cases above are known to try them all.
#[test]
fn every_way_is_taken_by_some_case() {
    let mut taken = [0; 3];
    for (batch, height, width, channels_in, channels_out, window) in cases() {
        let w = [channels_out, channels_in, window.kernel, window.kernel];
        let sizes = Sizes::new(&[batch, height, width, channels_in], &w, window).unwrap();
        taken[Way::of(&sizes) as usize] += 1;
    }
    assert!(taken.iter().all(|&n| n >= 3), "{taken:?}");
}

#[test]
fn the_reference_equals_candle() {
    for (batch, height, width, channels_in, channels_out, window) in cases() {
        // candle's backward pass does not know unequal output paddings under a stride.
        if window.stride > 1 && (height != width || window.before != window.after) {
            continue;
        }
        let x = filled(&[batch, height, width, channels_in], 1);
        let w = filled(&[channels_out, channels_in, window.kernel, window.kernel], 2);
        let sizes = Sizes::new(x.dims(), w.dims(), window).unwrap();
        let bias = filled(&[batch, channels_out], 3);
        let y = forward(&x, &w, Some(&bias), window).unwrap();
        assert!(distance(&composed::forward(&x, &w, Some(&bias), &sizes).unwrap(), &y) <= 1e-12);
        let dy = filled(y.dims(), 5);
        let dx = input_gradient(&dy, &w, x.dims(), window).unwrap();
        assert!(distance(&composed::input_gradient(&dy, &w, &sizes).unwrap(), &dx) <= 1e-12);
        let dw = weight_gradient(&x, &dy, window).unwrap();
        assert!(distance(&composed::weight_gradient(&x, &dy, &sizes).unwrap(), &dw) <= 1e-12);
    }
}

/// The gradients are those of the value: y is linear in x and in w, so a difference quotient is exact.
#[test]
fn the_gradients_are_the_transpose_of_the_value() {
    for (batch, height, width, channels_in, channels_out, window) in cases() {
        let x = filled(&[batch, height, width, channels_in], 1);
        let w = filled(&[channels_out, channels_in, window.kernel, window.kernel], 2);
        let y = forward(&x, &w, None, window).unwrap();
        let dy = filled(y.dims(), 5);
        let value = inner(&dy, &y);
        let through_x = inner(&input_gradient(&dy, &w, x.dims(), window).unwrap(), &x);
        let through_w = inner(&weight_gradient(&x, &dy, window).unwrap(), &w);
        assert!((value - through_x).abs() <= 1e-10 * value.abs().max(1.));
        assert!((value - through_w).abs() <= 1e-10 * value.abs().max(1.));
    }
}

#[test]
fn bias_gradients_are_sums_over_pixels() {
    for shape in [[1, 1, 1, 1], [3, 5, 7, 9], [2, 40, 13, 33]] {
        let dy = filled(&shape, 1);
        let channels = shape[3];
        for bias in [vec![channels], vec![shape[0], channels]] {
            let exact = dy
                .reshape((bias.iter().product::<usize>() / channels, (), channels))
                .unwrap()
                .sum(1)
                .unwrap();
            let exact = exact.reshape(bias.as_slice()).unwrap();
            assert!(distance(&bias_gradient(&dy, &bias).unwrap(), &exact) <= 1e-13);
            assert!(distance(&bias_gradient(&f32(&dy), &bias).unwrap(), &exact) <= 2e-6);
        }
        assert!(bias_gradient(&dy, &[channels + 1]).is_err());
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let window = Window::same(3);
    let (x, dy) = (f32(&filled(&[6, 32, 32, 32], 1)), f32(&filled(&[6, 32, 32, 48], 2)));
    let w = f32(&filled(&[48, 32, 3, 3], 3));
    let all = || {
        let bits = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (
            bits(forward(&x, &w, None, window).unwrap()),
            bits(input_gradient(&dy, &w, x.dims(), window).unwrap()),
            bits(weight_gradient(&x, &dy, window).unwrap()),
        )
    };
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    assert!(pool(1).install(all) == pool(5).install(all));
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    let (x, w) = (filled(&[1, 4, 4, 3], 1), filled(&[2, 4, 3, 3], 2));
    let error = forward(&x, &w, None, Window::same(3)).unwrap_err().to_string();
    assert!(error.contains("[2, 4, 3, 3]") && error.contains("[1, 4, 4, 3]"), "{error}");
    let strided = x.permute((0, 2, 1, 3)).unwrap();
    let w = filled(&[2, 3, 3, 3], 2);
    assert!(
        forward(&strided, &w, None, Window::same(3)).unwrap_err().to_string().contains("conv2d x")
    );
    let window = Window { kernel: 9, stride: 1, before: 0, after: 0 };
    assert!(
        forward(&x, &filled(&[2, 3, 9, 9], 2), None, window)
            .unwrap_err()
            .to_string()
            .contains("smaller")
    );
}
