//! Vectors of one dimension, 64-bit, one after another: what the theory is written in.

use crate::error::{Result, refuse};

/// n vectors of ℝᵈ, [n, d]; at least one, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    d: usize,
    values: Vec<f64>,
}

impl Vectors {
    /// `values`: [n, d], one vector after another.
    ///
    /// # Errors
    /// When there is no vector, d is 0 or does not divide the count, or a number or its square is not finite.
    pub fn new(values: Vec<f64>, d: usize) -> Result<Self> {
        if d == 0 || values.is_empty() || !values.len().is_multiple_of(d) {
            let got = format!("{} numbers", values.len());
            return refuse("vectors", format!("at least one vector of {d} numbers, d ≥ 1"), got);
        }
        let vectors = Self { d, values };
        for (i, row) in vectors.rows().enumerate() {
            if !dot(row, row).is_finite() {
                let got = format!("{row:?} in vector {i}");
                return refuse("vectors", "numbers whose squares are finite", shortened(got));
            }
        }
        Ok(vectors)
    }

    /// Dimension of the vectors.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Number of vectors.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.values.len() / self.d
    }

    /// Vector `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.d..(i + 1) * self.d]
    }

    /// All vectors, in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.d)
    }

    /// All numbers, [n, d].
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// These vectors and one more.
    ///
    /// # Errors
    /// When it has another dimension or is not finite.
    pub fn with(&self, vector: &[f64]) -> Result<Self> {
        check_dimension("vector", self.d, vector)?;
        Self::new([self.values.as_slice(), vector].concat(), self.d)
    }
}

/// Refuses a vector of another dimension, or one whose square is not finite.
pub(crate) fn check_dimension(field: &'static str, d: usize, x: &[f64]) -> Result<()> {
    if x.len() != d {
        return refuse(field, format!("{d} numbers"), x.len());
    }
    if !dot(x, x).is_finite() {
        return refuse(field, "numbers whose squares are finite", shortened(format!("{x:?}")));
    }
    Ok(())
}

fn shortened(text: String) -> String {
    if text.chars().count() <= 80 { text } else { text.chars().take(79).chain(['…']).collect() }
}

/// a·b, in eight running sums that the processor keeps in one register.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.; 8];
    for (a, b) in a_eights.iter().zip(b_eights) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// y ← y + s·x.
pub(crate) fn add_scaled(y: &mut [f64], s: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += s * x);
}

/// out ← a·bᵀ with a [m, k], b [n, k], out [m, n].
pub(crate) fn product_with_transposed(a: &[f64], b: &[f64], k: usize, out: &mut [f64]) {
    let (m, n) = (a.len() / k, b.len() / k);
    assert!(a.len() == m * k && b.len() == n * k && out.len() == m * n, "operands do not fit");
    // SAFETY: the lengths were just checked; all three are dense and row by row.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            k as isize,
            1,
            0.,
            1.,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_set_of_vectors_is_refused() {
        for (values, d) in [
            (vec![], 2),
            (vec![1.], 0),
            (vec![1., 2., 3.], 2),
            (vec![1., f64::NAN], 2),
            (vec![f64::INFINITY], 1),
            (vec![1e200, 0.], 2),
        ] {
            let error = Vectors::new(values, d).unwrap_err().to_string();
            assert!(error.starts_with("vectors: expected"), "{error}");
        }
        assert!(Vectors::new(vec![0.; 4], 2).unwrap().with(&[1.]).is_err());
    }

    #[test]
    fn products_take_every_number() {
        for d in [1, 7, 8, 9, 50] {
            let a: Vec<f64> = (0..d).map(|i| i as f64 + 1.).collect();
            let naive: f64 = a.iter().map(|x| x * x).sum();
            assert_eq!(dot(&a, &a), naive);
            let mut out = [0.; 4];
            product_with_transposed(
                &[a.clone(), a.clone()].concat(),
                &[a.clone(), a].concat(),
                d,
                &mut out,
            );
            assert_eq!(out, [naive; 4]);
        }
    }
}
