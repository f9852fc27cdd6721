//! Dropout whose masks are a pure function of (seed, layer, task, step, example).

use crate::operation;
use candle_core::{Device, Result, Tensor};
use lethe_candlex::rng::StepKey;
use lethe_candlex::tape::{Tape, Value};

/// `torch.nn.Dropout`: keeps with probability 1 − rate and scales what it keeps.
#[derive(Clone, Debug)]
pub struct Dropout {
    rate: f64,
    layer: String,
}

impl Dropout {
    /// `layer` tells this layer's masks from others'.
    pub fn new(rate: f64, layer: impl Into<String>) -> Self {
        Self { rate, layer: layer.into() }
    }

    /// x, or with a key x under this step's masks.
    ///
    /// # Errors
    /// When the batch has another size than the key.
    pub fn forward(&self, tape: &Tape, x: &Value, key: Option<StepKey>) -> Result<Value> {
        let (Some(key), true) = (key, self.rate > 0.) else { return Ok(x.clone()) };
        operation::mask(tape, x, &self.mask(key, x.tensor())?)
    }

    fn mask(&self, key: StepKey, x: &Tensor) -> Result<Tensor> {
        let each = x.elem_count() / x.dim(0)?;
        let stream = key.seed.task_stream(&format!("dropout {}", self.layer), key.task);
        let threshold = (self.rate * 2f64.powi(32)) as u32;
        let kept = 1. / (1. - self.rate);
        let mut values = Vec::with_capacity(x.elem_count());
        for &example in key.examples {
            let mut draws = stream.at(key.step, example);
            values.extend(
                (0..each).map(|_| if draws.bits32() < threshold { 0. } else { kept as f32 }),
            );
        }
        Tensor::from_vec(values, x.dims(), &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_candlex::params::{Declarations, ParamStore};
    use lethe_candlex::rng::Seed;

    #[test]
    fn masks_keep_the_mean_and_follow_the_example() {
        let store = ParamStore::initialised(
            &Declarations::default(),
            Seed(1),
            candle_core::DType::F32,
            &Device::Cpu,
        )
        .unwrap();
        let tape = Tape::inference(&store);
        let x = Value::constant(
            Tensor::ones((2, 100, 100), candle_core::DType::F32, &Device::Cpu).unwrap(),
        );
        let dropout = Dropout::new(0.25, "a");
        let key = |examples| StepKey { seed: Seed(1), task: 1, step: 1, examples };
        let rows = |examples| {
            let y = dropout.forward(&tape, &x, Some(key(examples))).unwrap();
            y.tensor().flatten_from(1).unwrap().to_vec2::<f32>().unwrap()
        };
        let (first, second) = (rows(&[3, 4]), rows(&[4, 3]));
        assert_eq!(first[0], second[1]);
        assert_ne!(first[0], first[1]);
        let mean = first[0].iter().sum::<f32>() / 10_000.;
        assert!((mean - 1.).abs() <= 4. * (0.25f32 / 0.75 / 10_000.).sqrt(), "{mean}");
        let untouched = dropout.forward(&tape, &x, None).unwrap();
        assert_eq!(untouched.tensor().sum_all().unwrap().to_scalar::<f32>().unwrap(), 20_000.);
    }
}
