//! What a network learns from; and, where that is pixels, from 8-bit images to tensors.

use crate::TrainError;
use candle_core::{Device, Tensor};
use lethe_candlex::rng::Stream;
use lethe_data::ImageSet;
use lethe_diffusion::denoiser::Told;
use std::collections::BTreeMap;

/// What a network learns from: clean data, and what it is told of them, by id.
pub trait Inputs: std::fmt::Debug {
    /// Clean data of `ids`, [n, height, width, channels], f32; `mirrored` ones have left and right exchanged.
    ///
    /// # Errors
    /// [`TrainError::NoExample`] for an id that the data do not hold.
    fn clean(&self, ids: &[u64], mirrored: &[bool]) -> Result<Tensor, TrainError>;

    /// Standard deviation of the clean data, shaped as they are, where they are drawn anew each time: latents of an
    /// encoder that is not sure.
    ///
    /// # Errors
    /// As [`Inputs::clean`].
    fn deviation(&self, _ids: &[u64]) -> Result<Option<Tensor>, TrainError> {
        Ok(None)
    }

    /// What the network is told of each.
    ///
    /// # Errors
    /// As [`Inputs::clean`].
    fn told(&self, ids: &[u64]) -> Result<Told, TrainError>;
}

/// The pixels themselves.
#[derive(Debug)]
pub struct Pixels<'a> {
    /// The data.
    pub images: &'a ImageSet,
    /// Whether the network is told classes.
    pub is_conditional: bool,
    /// Where tensors live.
    pub device: &'a Device,
}

impl Inputs for Pixels<'_> {
    fn clean(&self, ids: &[u64], mirrored: &[bool]) -> Result<Tensor, TrainError> {
        to_tensor(self.images, ids, mirrored, self.device)
    }

    fn told(&self, ids: &[u64]) -> Result<Told, TrainError> {
        if !self.is_conditional {
            return Ok(Told::Nothing);
        }
        let class = |&id: &u64| {
            let index = self.images.index_of(id).ok_or(TrainError::NoExample { id })?;
            Ok(self.images.label(index))
        };
        Ok(Told::Classes(ids.iter().map(class).collect::<Result<_, TrainError>>()?))
    }
}

/// Images of `ids`, [n, height, width, channels], f32 in [−1, 1]; `mirrored` ones have left and right exchanged.
///
/// # Errors
/// [`TrainError::NoExample`] for an id that the data do not hold.
pub fn to_tensor(
    images: &ImageSet,
    ids: &[u64],
    mirrored: &[bool],
    device: &Device,
) -> Result<Tensor, TrainError> {
    let shape = images.shape();
    let (width, channels) = (shape.width, shape.channels);
    let mut values = Vec::with_capacity(ids.len() * shape.height * width * channels);
    for (i, &id) in ids.iter().enumerate() {
        let index = images.index_of(id).ok_or(TrainError::NoExample { id })?;
        for row in images.image(index).chunks_exact(width * channels) {
            if mirrored.get(i).copied().unwrap_or(false) {
                values.extend(row.rchunks_exact(channels).flatten().map(|&byte| to_unit(byte)));
            } else {
                values.extend(row.iter().map(|&byte| to_unit(byte)));
            }
        }
    }
    Ok(Tensor::from_vec(values, (ids.len(), shape.height, width, channels), device)?)
}

/// 0 … 255 to −1 … 1.
fn to_unit(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.
}

/// A key for each place of a batch from which its noise and timestep are drawn: the example's id,
/// told apart where an example stands twice.
pub fn sample_keys(ids: &[u64]) -> Vec<u64> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    ids.iter()
        .map(|&id| {
            let times = seen.entry(id).or_default();
            *times += 1;
            id | (*times - 1) << 48
        })
        .collect()
}

/// Which of a batch's images are mirrored.
pub(crate) fn mirrored(stream: Stream, step: u32, keys: &[u64]) -> Vec<bool> {
    keys.iter().map(|&key| stream.at(step, key).bits32() & 1 == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_data::Shape;

    fn images() -> ImageSet {
        let shape = Shape { width: 2, height: 1, channels: 3 };
        let pixels = vec![0, 51, 102, 153, 204, 255, 255, 0, 0, 0, 0, 255];
        ImageSet::new(shape, vec!["a".into()], vec![5, 9], vec![0, 0], pixels).unwrap()
    }

    #[test]
    fn bytes_become_units_and_mirrors_keep_channels_together() {
        let tensor = to_tensor(&images(), &[9, 5], &[false, true], &Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [2, 1, 2, 3]);
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = [1., -1., -1., -1., -1., 1., 0.2, 0.6, 1., -1., -0.6, -0.2];
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6), "{values:?}");
        assert!(matches!(
            to_tensor(&images(), &[7], &[], &Device::Cpu),
            Err(TrainError::NoExample { id: 7 })
        ));
    }

    #[test]
    fn an_example_that_stands_twice_gets_two_keys() {
        let keys = sample_keys(&[3, 4, 3, 3]);
        assert_eq!((keys[0], keys[1]), (3, 4));
        assert!(keys[2] != keys[3] && keys[2] != 3);
    }
}
