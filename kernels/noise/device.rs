//! The law on a device: nothing is uploaded but the examples' names.

use crate::gpu::{Argument::*, Grid, Source, fresh, launch, source};
use candle_core::{DType, Device, Result, Tensor};

const KERNEL: Source = source!("noise");

/// Words of a block of Philox, and numbers made of them.
const BLOCK: usize = 4;

pub(super) fn normal(
    key: [u32; 2],
    step: u32,
    examples: &[u64],
    each: usize,
    device: &Device,
) -> Result<Tensor> {
    let rows = examples.len();
    let z = fresh(&[rows, each], DType::F32, device)?;
    let halves = examples.iter().flat_map(|&example| [example as u32, (example >> 32) as u32]);
    let halves = Tensor::from_vec(halves.collect(), (rows, 2), device)?;
    let [first, second] = key.map(|word| Count(word as usize));
    let arguments =
        [Write(&z), Read(&halves), first, second, Count(step as usize), Count(rows), Count(each)];
    let grid = Grid::of_elements(rows * each.div_ceil(BLOCK));
    launch(&KERNEL, "normal", DType::F32, grid, &arguments)?;
    Ok(z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, on_devices};

    #[test]
    fn numbers_are_those_of_the_processor_to_the_last_bit_of_nearly_all() {
        on_devices(|device| {
            let (key, step) = ([0x243f_6a88, 0xa409_3822], 9);
            let examples: Vec<u64> = (0..40).map(|i| i * 0x1234_5678_9abc).collect();
            for each in SIZES.into_iter().chain([2, 3, 4, 5, 6, 3072]) {
                let values =
                    |z: Tensor| -> Vec<f32> { z.flatten_all().unwrap().to_vec1().unwrap() };
                let found = values(normal(key, step, &examples, each, device).unwrap());
                let expected = crate::noise::normal(key, step, &examples, each, &Device::Cpu);
                let expected = values(expected.unwrap());
                let differ = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
                assert!(differ <= 1 + found.len() / 1_000_000, "{each}: {differ}");
                let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 2. * f32::EPSILON * b.abs();
                assert!(found.iter().zip(&expected).all(is_near), "{each}");
            }
        });
    }

    #[test]
    fn nothing_is_made_of_no_examples() {
        on_devices(|device| {
            assert_eq!(normal([1, 2], 3, &[], 5, device).unwrap().dims(), [0, 5]);
            assert_eq!(normal([1, 2], 3, &[4], 0, device).unwrap().dims(), [1, 0]);
        });
    }
}
