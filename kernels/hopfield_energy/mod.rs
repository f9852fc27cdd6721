//! Hopfield energies of queries under a set of stored patterns, streamed: the matrix of similarities never exists.
//!
//! Law, with l_μ = β x·ξ_μ (dot) or −β/2 ‖x − ξ_μ‖² (distance) and masses a_μ:
//! E_dot(x) = ½‖x‖² − (1/β) log Σ_μ a_μ e^{l_μ}, E_distance(x) = −(1/β) log (Σ_μ a_μ e^{l_μ} / Σ_μ a_μ),
//! p_μ = softmax_μ(l_μ + log a_μ), retrieved(x) = Σ_μ p_μ ξ_μ, ∇E = x − retrieved(x).
//! Source: Ramsauer et al. 2020, eq. 1 to 3 (dot, without their constants); the distance form is −(1/β) log of the
//! patterns' Gaussian mixture up to a constant.
//!
//! | operand | shape |
//! |---|---|
//! | `queries` x | [n, d] |
//! | `patterns` ξ | [m, d] |
//! | energy | [n], in the unit of ‖x‖² |
//!
//! Operations: 2·n·m·d for the energy, as many again for retrieval: the matrix product is the limit.
//! Memory: a block of 1024 x 1024 similarities a thread, on CUDA one tile of 2048 x 8192, whatever n and m.
//! Products are taken in the operands' precision (bfloat16 summed in 32 bits), the sums over patterns in 64 bits.
//! Where a query and a pattern are far nearer to each other than to the origin, the product cancels and their distance
//! is taken anew in 64 bits: few pairs of real data are so near, mostly an example and its own copy.

mod device;
mod reference;
mod streamed;
#[cfg(test)]
mod tests;

use crate::view::{Route, View, route};
use candle_core::{DType, Device, Result, Tensor, bail};
use streamed::Answers;

/// Similarity of a query and a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// x·ξ: the modern Hopfield network.
    Dot,
    /// −½‖x − ξ‖²: the smoothed empirical density, for patterns of any norm.
    Distance,
}

/// What is asked of a set of patterns.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The similarity.
    pub form: Form,
    /// β > 0, in the inverse unit of ‖x‖².
    pub inverse_temperature: f64,
    /// a_μ > 0, one for each pattern; all 1 by default.
    pub masses: Option<&'a [f64]>,
    /// For each query the pattern that it leaves out, if any.
    pub left_out: Option<&'a [Option<usize>]>,
    /// What is wanted besides the energies.
    pub wanted: Wanted,
}

/// What is wanted besides the energies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Energy,
    /// Σ_μ p_μ ξ_μ as well, at the price of a second product.
    Retrieved,
}

/// The answer.
#[derive(Debug)]
pub struct Answer {
    /// E of each query, [n].
    pub energy: Vec<f64>,
    /// Entropy of p for each query, in nats, [n]: its exponential is the number of patterns that matter.
    pub entropy: Vec<f64>,
    /// Σ_μ p_μ ξ_μ, [n, d], 64-bit, where it was wanted.
    pub retrieved: Option<Tensor>,
}

/// Answers `question` for every query.
///
/// # Errors
/// When shapes do not fit, β or a mass is not a positive number, or a query leaves out the only pattern.
pub fn energy(queries: &Tensor, patterns: &Tensor, question: &Question) -> Result<Answer> {
    check(queries, patterns, question)?;
    let route = route("hopfield energy", &[queries, patterns])?;
    let (n, d) = queries.dims2()?;
    let answers = match route {
        Route::Cuda => device::energy(queries, patterns, question)?,
        // Half precision and other devices: the products are taken in 32 bits on the host.
        Route::Composed => on_host(&host(queries)?, &host(patterns)?, question)?,
        Route::Fast | Route::Reference => on_host(queries, patterns, question)?,
    };
    let retrieved = match question.wanted {
        Wanted::Energy => None,
        Wanted::Retrieved => Some(Tensor::from_vec(answers.retrieved, (n, d), &Device::Cpu)?),
    };
    Ok(Answer { energy: answers.energy, entropy: answers.entropy, retrieved })
}

fn on_host(queries: &Tensor, patterns: &Tensor, question: &Question) -> Result<Answers> {
    let d = queries.dim(1)?;
    let (x, xi) = (View::of("queries", queries)?, View::of("patterns", patterns)?);
    Ok(match queries.dtype() {
        DType::F32 => streamed::energy(x.f32()?, xi.f32()?, d, question),
        _ => streamed::energy(x.f64()?, xi.f64()?, d, question),
    })
}

fn host(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()
}

fn check(queries: &Tensor, patterns: &Tensor, question: &Question) -> Result<()> {
    let ((n, d), (m, depth)) = (queries.dims2()?, patterns.dims2()?);
    if d != depth || m == 0 {
        bail!(
            "hopfield energy: queries {:?} do not fit patterns {:?}",
            queries.dims(),
            patterns.dims()
        );
    }
    let beta = question.inverse_temperature;
    if !(beta > 0. && beta.is_finite()) {
        bail!("hopfield energy: expected a positive, finite inverse temperature, got {beta}");
    }
    if let Some(masses) = question.masses {
        if masses.len() != m {
            bail!(
                "hopfield energy: expected {m} masses, one for each pattern, got {}",
                masses.len()
            );
        }
        if let Some((index, mass)) =
            masses.iter().enumerate().find(|(_, mass)| !(**mass > 0. && mass.is_finite()))
        {
            bail!(
                "hopfield energy: expected positive, finite masses, got {mass} for pattern {index}"
            );
        }
    }
    let Some(left_out) = question.left_out else { return Ok(()) };
    if left_out.len() != n {
        bail!(
            "hopfield energy: expected for each of {n} queries what it leaves out, got {}",
            left_out.len()
        );
    }
    if let Some(index) = left_out.iter().flatten().find(|&&index| index >= m) {
        bail!("hopfield energy: a query leaves out pattern {index} of {m}");
    }
    if m == 1 && left_out.iter().any(Option::is_some) {
        bail!("hopfield energy: a query leaves out the only pattern; give at least two");
    }
    Ok(())
}
