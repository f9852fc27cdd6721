//! What is measured: ids and pixels.

use candle_core::{Result, Tensor, bail};
use lethe_diffusion::denoiser::{Condition, Told};

/// Examples as a denoiser sees them.
#[derive(Clone, Debug)]
pub struct Examples {
    ids: Vec<u64>,
    /// [n, height, width, channels], f32: pixels in [−1, 1], or scaled latents.
    pixels: Tensor,
    /// What a conditional denoiser is told of each; the probe does not look at it.
    told: Told,
}

impl Examples {
    /// # Errors
    /// When the counts differ.
    pub fn new(ids: Vec<u64>, pixels: Tensor, told: Told) -> Result<Self> {
        let n = ids.len();
        if pixels.rank() != 4 || pixels.dim(0)? != n || !told.fits(n) {
            bail!("examples: {n} ids do not fit pixels {:?} or their conditions", pixels.dims());
        }
        Ok(Self { ids, pixels, told })
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Their ids.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// [n, height, width, channels].
    pub fn pixels(&self) -> &Tensor {
        &self.pixels
    }

    /// [n, d]: the vectors in which energies live.
    ///
    /// # Errors
    /// Those of candle.
    pub fn vectors(&self) -> Result<Tensor> {
        self.pixels.flatten_from(1)
    }

    /// What a conditional denoiser is told.
    pub fn condition(&self) -> Condition<'_> {
        self.told.condition()
    }

    /// Runs of at most `size` examples, in order.
    ///
    /// # Errors
    /// Those of candle.
    pub fn chunks(&self, size: usize) -> Result<Vec<Self>> {
        let size = size.max(1);
        let starts = (0..self.len()).step_by(size);
        starts
            .map(|start| {
                let end = (start + size).min(self.len());
                Ok(Self {
                    ids: self.ids[start..end].to_vec(),
                    pixels: self.pixels.narrow(0, start, end - start)?.contiguous()?,
                    told: self.told.of(start..end),
                })
            })
            .collect()
    }
}
