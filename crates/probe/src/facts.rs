//! What an example is, whatever any network knows of it: the controls of every correlation.

use crate::{Examples, Reading};
use candle_core::Result;
use lethe_ledger::Quantity;

/// Total variation, contrast and norm of each example, pixels in [−1, 1].
///
/// # Errors
/// Those of candle.
pub fn facts(examples: &Examples) -> Result<Vec<Reading>> {
    let (_, height, width, channels) = examples.pixels().dims4()?;
    let rows = examples.vectors()?.to_vec2::<f32>()?;
    let reading = |quantity, fact: &dyn Fn(&[f32]) -> f64| Reading {
        quantity,
        level: None,
        examples: examples.ids().to_vec(),
        values: rows.iter().map(|row| fact(row)).collect(),
    };
    Ok(vec![
        reading(Quantity::TotalVariation, &|row| total_variation(row, height, width, channels)),
        reading(Quantity::Contrast, &contrast),
        reading(Quantity::Norm, &|row| {
            row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
        }),
    ])
}

/// Σ |x − its right neighbour| + |x − its lower neighbour|.
fn total_variation(row: &[f32], height: usize, width: usize, channels: usize) -> f64 {
    let at = |i: usize, j: usize, c: usize| f64::from(row[(i * width + j) * channels + c]);
    let mut sum = 0.;
    for i in 0..height {
        for j in 0..width {
            for c in 0..channels {
                sum += if j + 1 < width { (at(i, j, c) - at(i, j + 1, c)).abs() } else { 0. };
                sum += if i + 1 < height { (at(i, j, c) - at(i + 1, j, c)).abs() } else { 0. };
            }
        }
    }
    sum
}

/// Standard deviation over the pixels.
fn contrast(row: &[f32]) -> f64 {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    (row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use lethe_diffusion::denoiser::Told;

    #[test]
    fn facts_of_a_small_image_by_hand() {
        let pixels = Tensor::new(&[[[[1f32], [0.]], [[-1.], [0.]]]], &Device::Cpu).unwrap();
        let examples = Examples::new(vec![5], pixels, Told::Nothing).unwrap();
        let values: Vec<f64> =
            facts(&examples).unwrap().into_iter().map(|reading| reading.values[0]).collect();
        assert_eq!(values, [4., 0.5f64.sqrt(), 2f64.sqrt()]);
    }
}
