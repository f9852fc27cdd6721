//! The emulated device itself: what is wrong shows, and what is right does not.

use super::*;
use crate::testing::{distance, f32, filled};

const CONTROL: Source = source!("control");

const N: usize = 64;

fn run(function: &str, order: Order) -> Vec<f32> {
    let x = f32(&filled(&[N], 1));
    let y = fresh(&[N], DType::F32, &Device::Cpu).unwrap();
    let arguments = [Read(&x), Write(&y), Count(N)];
    let grid = Grid { blocks: [1, 1], threads: N };
    in_order(order, || launch(&CONTROL, function, DType::F32, grid, &arguments)).unwrap();
    y.to_vec1().unwrap()
}

use Argument::*;

#[test]
fn a_missing_barrier_shows_in_some_order() {
    let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    let [first, second] = [Order::Forward, Order::Backward].map(|order| run("race", order));
    assert!(!same(&first, &second));
    // What was not yet written is a NaN, not what an earlier block left.
    assert!(first.iter().any(|y| y.is_nan()));
    for order in [Order::Backward, Order::Scattered] {
        assert!(same(&run("barrier", Order::Forward), &run("barrier", order)));
    }
    assert!(run("barrier", Order::Scattered).iter().all(|y| y.is_finite()));
}

#[test]
fn what_nobody_wrote_is_not_near_anything() {
    let x = f32(&filled(&[N], 1));
    let y = Tensor::new(run("forgets", Order::Forward), &Device::Cpu).unwrap();
    let is_near = distance(&y, &x) <= 1.;
    assert!(!is_near);
}

#[test]
fn other_parameters_and_unknown_names_are_refused() {
    let x = f32(&filled(&[N], 1));
    let grid = Grid { blocks: [1, 1], threads: N };
    let error = |function: &str, arguments: &[Argument]| {
        launch(&CONTROL, function, DType::F32, grid, arguments).unwrap_err().to_string()
    };
    assert!(error("race", &[Read(&x), Write(&x), Float(1.)]).contains("kinds rwf"));
    assert!(error("race", &[Read(&x), Read(&x), Count(1)]).contains("kinds rru"));
    assert!(error("nothing", &[Read(&x)]).contains("no such kernel"));
    assert!(error("race", &[Read(&x), Write(&x), Count(1 << 32)]).contains("too many"));
    let x = x.to_dtype(DType::F16).unwrap();
    let found = launch(&CONTROL, "race", DType::F16, grid, &[Read(&x)]).unwrap_err();
    assert!(found.to_string().contains("expected f32 or bf16"));
}

#[test]
fn grids_that_no_device_takes_are_refused() {
    let tall = Grid { blocks: [1, 65_536], threads: 32 };
    assert!(tall.check("f").unwrap_err().to_string().contains("more than a device takes"));
    assert!(Grid { blocks: [1, 1], threads: 33 }.check("f").is_err());
    assert!(Grid { blocks: [1, 1], threads: 2048 }.check("f").is_err());
    for n in [1, 31, 32, 33, 1000, 100_000] {
        assert!(Grid::of_elements(n).check("f").is_ok() && Grid::of_rows(n, n).check("f").is_ok());
        assert!(Grid::of_elements(n).blocks[0] * Grid::of_elements(n).threads >= n);
    }
}

#[test]
fn products_stay_inside_their_tensors() {
    use super::product::{Matrix, Product};
    let (a, to) = (f32(&filled(&[6, 4], 1)), fresh(&[6, 6], DType::F32, &Device::Cpu).unwrap());
    let product = |sizes| {
        Product::new(Matrix::of(&to, 6), Matrix::of(&a, 4), Matrix::of(&a, 4).transposed(), sizes)
    };
    product([6, 6, 4]).run().unwrap();
    let exact = a.matmul(&a.t().unwrap()).unwrap();
    assert!(distance(&to, &exact) <= 1e-6);
    product([6, 6, 4]).scaled(2.).onto(true).run().unwrap();
    assert!(distance(&to, &(exact * 3.).unwrap()) <= 1e-6);
    assert!(product([7, 6, 4]).run().is_err() && product([6, 6, 5]).run().is_err());
}
