//! The faults of candle around which this house is built, each shown to be there still.
//!
//! A failure here is good news: after an upgrade candle has mended something, and the message says what may go.

use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::VarMap;
use std::collections::BTreeSet;

fn var(shape: &[usize]) -> Var {
    let n = shape.iter().product::<usize>() as f32;
    let values = Tensor::arange(0., n, &Device::Cpu).unwrap();
    Var::from_tensor(&(values / f64::from(n)).unwrap().sin().unwrap().reshape(shape).unwrap())
        .unwrap()
}

/// The gradient of Σ f(x), where candle finds one.
fn gradient(x: &Var, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Option<Tensor>> {
    Ok(f(x.as_tensor())?.sum_all()?.backward()?.get(x).cloned())
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the fault itself")]
fn fused_norms_and_softmax_cut_the_gradient() {
    let (x, weight, bias) = (var(&[2, 3]), var(&[3]), var(&[3]));
    let layer =
        candle_nn::LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), 1e-5);
    let gone = "is differentiable: strike it from .clippy.toml and weigh it against our kernel";
    assert!(gradient(&x, |x| layer.forward(x)).unwrap().is_none(), "LayerNorm {gone}");
    assert!(gradient(&weight, |_| layer.forward(&x)).unwrap().is_none(), "LayerNorm {gone}");
    let rms = |x: &Tensor| candle_nn::ops::rms_norm(x, &weight, 1e-5);
    assert!(gradient(&x, rms).unwrap().is_none(), "rms_norm {gone}");
    let softmax = |x: &Tensor| candle_nn::ops::softmax_last_dim(x)?.sqr();
    assert!(gradient(&x, softmax).unwrap().is_none(), "softmax_last_dim {gone}");
    // Without fusion they are differentiable.
    assert!(gradient(&x, |x| candle_nn::ops::softmax(x, D::Minus1)?.sqr()).unwrap().is_some());
}

#[test]
fn upsampling_overwrites_the_gradient_of_its_input() {
    let x = var(&[1, 1, 2, 2]);
    let twice = |x: &Tensor| x.upsample_nearest2d(4, 4)? + x.upsample_nearest2d(4, 4)?;
    assert_eq!(
        values(&gradient(&x, twice).unwrap().unwrap()),
        [4.; 4], // the truth is 8
        "upsample_nearest2d adds up gradients: kernels/upsample may become candle's"
    );
}

#[test]
fn max_pooling_divides_its_gradient() {
    let x = var(&[1, 1, 4, 4]);
    let found = values(&gradient(&x, |x| x.max_pool2d(2)).unwrap().unwrap());
    assert_eq!(
        found.iter().sum::<f32>(),
        1., // the truth is 4: one for each window
        "max_pool2d has its gradient: a network may use it"
    );
}

#[test]
fn average_pooling_of_an_odd_side_has_a_wrong_gradient() {
    let x = var(&[1, 1, 5, 5]);
    // Each of the 4x4 pixels within a window has ¼, the last row and column nothing.
    let truth: Vec<f32> = (0..25).map(|i| if i % 5 < 4 && i / 5 < 4 { 0.25 } else { 0. }).collect();
    let found = gradient(&x, |x| x.avg_pool2d(2));
    let holds = found.is_ok_and(|found| found.is_some_and(|found| values(&found) == truth));
    assert!(
        !holds,
        "avg_pool2d differentiates odd sides: layers::operation::average_pool may use it"
    );
    let even = var(&[1, 1, 4, 4]);
    assert_eq!(values(&gradient(&even, |x| x.avg_pool2d(2)).unwrap().unwrap()), [0.25; 16]);
}

#[test]
fn a_strided_convolution_cannot_go_back_over_sides_of_two_parities() {
    let weight = var(&[1, 1, 3, 3]);
    let strided = |x: &Tensor| x.conv2d(&weight, 1, 2, 1, 1);
    let error = gradient(&var(&[1, 1, 8, 9]), strided);
    assert!(
        error.is_err(),
        "conv2d differentiates 8x9 at stride 2: one reason less for kernels/conv2d"
    );
    gradient(&var(&[1, 1, 8, 8]), strided).unwrap();
}

#[test]
fn the_generator_of_the_cpu_has_no_seed() {
    let found = Device::Cpu.set_seed(1);
    assert!(
        found.is_err(),
        "the CPU's generator can be seeded; candlex::rng still draws by example"
    );
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the fault itself")]
fn the_order_of_variables_changes_from_map_to_map() {
    let order = |_| -> Vec<usize> {
        let map = VarMap::new();
        for size in 1..=8 {
            map.get(
                size,
                &format!("v{size}"),
                candle_nn::Init::Const(0.),
                DType::F32,
                &Device::Cpu,
            )
            .unwrap();
        }
        map.all_vars().iter().map(|var| var.elem_count()).collect()
    };
    let orders: BTreeSet<Vec<usize>> = (0..20).map(order).collect();
    assert!(orders.len() > 1, "VarMap::all_vars has an order: strike it from .clippy.toml");
}

#[test]
fn a_variable_map_ignores_what_it_does_not_know() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("canary-{}.safetensors", std::process::id()));
    let tensors = ["known", "unexpected"].map(|name| (name, var(&[1]).as_tensor().clone()));
    candle_core::safetensors::save(&tensors.into_iter().collect(), &file).unwrap();
    let mut map = VarMap::new();
    map.get(1, "known", candle_nn::Init::Const(0.), DType::F32, &Device::Cpu).unwrap();
    let loaded = map.load(&file);
    std::fs::remove_file(file).unwrap();
    assert!(
        loaded.is_ok(),
        "VarMap::load refuses unexpected tensors: one reason less for candlex::weights"
    );
}

#[test]
fn what_wants_no_gradient_gets_one() {
    let (x, frozen) = (var(&[2]), Tensor::ones(2, DType::F32, &Device::Cpu).unwrap());
    let product = (x.as_tensor() * &frozen).unwrap();
    let gradients = product.sum_all().unwrap().backward().unwrap();
    assert!(
        gradients.get(&frozen).is_some(),
        "frozen operands cost nothing: one reason less for candlex::tape"
    );
}

#[test]
fn a_gradient_keeps_a_graph_alive() {
    let (x, y) = (var(&[2]), var(&[2]));
    let found = gradient(&x, |x| x * y.as_tensor()).unwrap().unwrap();
    assert!(
        found.track_op(),
        "gradients carry no graph of their own: one reason less for candlex::tape"
    );
}
