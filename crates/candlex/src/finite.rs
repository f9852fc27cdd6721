//! A number that is not finite is an error where it is born.

use candle_core::{Result, Tensor, bail};

/// # Errors
/// When any element of `x` is NaN or infinite; the error says `name` and the first index.
pub fn ensure_finite(name: &str, x: &Tensor) -> Result<()> {
    // A sum is finite only if every element is; where it overflows, look closer.
    let sum = sum(x)?;
    if sum.is_finite() {
        return Ok(());
    }
    let values = x.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(position) => bail!(
            "{name}: not finite: element {position} of {:?} is {}",
            x.dims(),
            values[position]
        ),
    }
}

fn sum(x: &Tensor) -> Result<f64> {
    x.sum_all()?.to_dtype(candle_core::DType::F64)?.to_scalar()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_first_bad_element_is_named() {
        let x = Tensor::new(&[[1f32, 2.], [f32::INFINITY, f32::NAN]], &Device::Cpu).unwrap();
        let error = ensure_finite("probe.energy", &x).unwrap_err().to_string();
        assert!(error.contains("probe.energy: not finite: element 2 of [2, 2] is inf"), "{error}");
        let large = Tensor::new(&[f32::MAX, f32::MAX], &Device::Cpu).unwrap();
        assert!(ensure_finite("large", &large).is_ok());
    }
}
