//! What vectors are drawn from.

use crate::VectorError;
use candle_core::{DType, Tensor};

/// A distribution of vectors, as a function of where in [0, 1) one looks: u uniform, x(u) is a sample.
pub trait Source: Sync {
    /// d.
    fn dimensions(&self) -> usize;

    /// Writes x(`place`) into `row` [d].
    fn draw(&self, place: f64, row: &mut [f32]);
}

/// The empirical distribution of a set of patterns.
#[derive(Clone, Debug, PartialEq)]
pub struct Patterns {
    rows: Vec<Vec<f32>>,
}

impl Patterns {
    /// `patterns`: [n, d].
    ///
    /// # Errors
    /// [`VectorError::Spec`] when there is none, or a number is not finite.
    pub fn new(patterns: &Tensor) -> Result<Self, VectorError> {
        let rows = patterns.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let expected = "at least one pattern of finite numbers";
        if rows.iter().all(Vec::is_empty) {
            return Err(VectorError::spec("patterns", expected, patterns.dims()));
        }
        match rows.iter().flatten().find(|x| !x.is_finite()) {
            Some(x) => Err(VectorError::spec("patterns", expected, x)),
            None => Ok(Self { rows }),
        }
    }
}

impl Source for Patterns {
    fn dimensions(&self) -> usize {
        self.rows[0].len()
    }

    fn draw(&self, place: f64, row: &mut [f32]) {
        let n = self.rows.len();
        row.copy_from_slice(&self.rows[((place * n as f64) as usize).min(n - 1)]);
    }
}

/// The uniform distribution on a circle about the origin of the plane.
///
/// Source: Pham et al. 2025, the toy of "Memorization to generalization" (arXiv 2505.21777).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circle {
    /// R.
    pub radius: f64,
}

impl Circle {
    /// The energy in distance form at the norm `norm` of y, in closed form:
    /// E = ½(‖y‖² + R²) − (1/β)·log I₀(β·R·‖y‖) = −(1/β)·log ∫ exp(−β/2·‖y − R·e^{iφ}‖²) dφ/2π.
    pub fn energy(&self, norm: f64, inverse_temperature: f64) -> f64 {
        // Trapezoids over a period converge geometrically: 64 more nodes than β·R·‖y‖ and its root ask for.
        let reach = inverse_temperature * self.radius * norm;
        let nodes = 64 + (reach + 16. * reach.sqrt()) as usize;
        let angle = |k: usize| std::f64::consts::TAU * k as f64 / nodes as f64;
        let mean = (0..nodes).map(|k| libm::exp(reach * (libm::cos(angle(k)) - 1.))).sum::<f64>()
            / nodes as f64;
        0.5 * (norm - self.radius).powi(2) - libm::log(mean) / inverse_temperature
    }
}

impl Source for Circle {
    fn dimensions(&self) -> usize {
        2
    }

    fn draw(&self, place: f64, row: &mut [f32]) {
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * place);
        row[0] = (self.radius * cosine) as f32;
        row[1] = (self.radius * sine) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn patterns_are_drawn_evenly() {
        let patterns = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu).unwrap();
        let patterns = Patterns::new(&patterns).unwrap();
        let drawn = |place| {
            let mut row = [0.; 2];
            patterns.draw(place, &mut row);
            row
        };
        assert_eq!([drawn(0.), drawn(0.5), drawn(0.999_999)], [[1., 2.], [3., 4.], [5., 6.]]);
        assert_eq!(drawn(1.), [5., 6.]);
        let bad = Tensor::new(&[[1f32, f32::NAN]], &Device::Cpu).unwrap();
        assert!(Patterns::new(&bad).unwrap_err().to_string().contains("NaN"));
        assert!(Patterns::new(&bad.narrow(0, 0, 0).unwrap()).is_err());
    }

    /// Abramowitz & Stegun, table 9.8: I₀(1) and e^{−10}·I₀(10).
    #[test]
    fn the_circles_energy_has_the_tabulated_bessel_function() {
        let circle = Circle { radius: 1. };
        let bessel = |beta: f64| ((1. - circle.energy(1., beta)) * beta).exp();
        assert!((bessel(1.) - 1.266_065_877_752_008).abs() <= 1e-12);
        assert!((bessel(10.) / 10f64.exp() - 0.127_833_337_163_428).abs() <= 1e-12);
        // At the centre every point of the circle is equally far.
        assert!((Circle { radius: 3. }.energy(0., 2.) - 4.5).abs() <= 1e-12);
        assert!(circle.energy(1e3, 1e4).is_finite());
    }
}
