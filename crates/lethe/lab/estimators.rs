//! The four ways to read an energy from a denoiser, side by side at the same points.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::DifferentiableDenoiser;
use lethe_diffusion::schedule::Timestep;
use lethe_hopfield::Vectors;
use lethe_probe::denoiser_energy::{
    Ascent, BoundEnergy, Divergence, FinalDensity, FlowEnergy, ItoEnergy, LineEnergy, Question,
};
use lethe_report::figure::Ink;

/// Levels climbed, pairs of noise, paths, probes, nodes: each estimator's own error is far below what is compared.
const STAGES: usize = 100;
const PAIRS: usize = 32;
const PATHS: usize = 64;
const PROBES: usize = 16;
const NODES: usize = 24;

/// Dimensions up to which divergences are taken exactly: sixteen probes would leave a noise as large as what is compared.
const EXACT: usize = 64;

/// Rows denoised at once.
const BATCH: usize = 4096;

/// How an energy is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// Denoising errors: from above.
    Bound,
    /// The probability flow with Hutchinson's divergence.
    Flow,
    /// Noising paths read backwards: from above.
    Ito,
    /// The score's work from the origin, straight.
    Line,
    /// The same on a bow.
    Bow,
}

impl Estimator {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Bound, Self::Flow, Self::Ito, Self::Line, Self::Bow];

    /// Its name on pages and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Flow => "probability flow",
            Self::Ito => "Ito",
            Self::Line => "line",
            Self::Bow => "line, bowed",
        }
    }

    /// Its look.
    pub fn ink(self) -> Ink {
        match self {
            Self::Bound => Ink::BLUE,
            Self::Flow => Ink::RED,
            Self::Ito => Ink::GREEN,
            Self::Line => Ink::PLUM,
            Self::Bow => Ink::OCHRE,
        }
    }
}

/// Where and how all are asked.
pub struct Reader {
    /// y [n, d], the points.
    pub points: Vectors,
    /// The level.
    pub start: Timestep,
    /// The density at the last level.
    pub end: FinalDensity,
    /// Of all noise: every denoiser is asked the same question.
    pub seed: Seed,
}

impl Reader {
    /// E of every point by every estimator, in the order of [`Estimator::ALL`]; `at_origin` is what the lines start from.
    ///
    /// # Errors
    /// When the denoiser gives a number that is not finite.
    pub fn read(
        &self,
        denoiser: &dyn DifferentiableDenoiser,
        at_origin: f64,
    ) -> Result<Vec<Vec<f64>>> {
        let points = tensor(&self.points)?;
        let question = Question { points: &points, start: self.start, batch: BATCH };
        let (seed, ascent) = (self.seed, Ascent { stages: STAGES, end: self.end.clone() });
        let d = self.points.d();
        let divergence = if d <= EXACT {
            Divergence::Exact
        } else {
            Divergence::Hutchinson { probes: PROBES, seed }
        };
        let bound = BoundEnergy { ascent: ascent.clone(), pairs: PAIRS, seed };
        let flow = FlowEnergy { ascent: ascent.clone(), divergence };
        let ito = ItoEnergy { ascent, paths: PATHS, seed };
        let origin = Tensor::zeros(d, DType::F32, &Device::Cpu)?;
        let lines =
            LineEnergy { nodes: NODES, bow: 0.5, seed }.measure(denoiser, &question, &origin)?;
        let lifted =
            |energies: Vec<f64>| energies.into_iter().map(|energy| energy + at_origin).collect();
        Ok(vec![
            bound.measure(denoiser, &question)?.values,
            flow.measure(denoiser, &question)?.values,
            ito.measure(denoiser, &question)?.values,
            lifted(lines.straight),
            lifted(lines.bowed),
        ])
    }
}

/// Vectors as the networks take them, [n, d] in 32 bits.
///
/// # Errors
/// When the tensor cannot be made.
pub fn tensor(x: &Vectors) -> Result<Tensor> {
    let values: Vec<f32> = x.values().iter().map(|&x| x as f32).collect();
    Ok(Tensor::from_vec(values, (x.len(), x.d()), &Device::Cpu)?)
}
