//! Noise schedules, as 64-bit tables.
//!
//! Law: q(x_t | x_0) = N(√ᾱ_t · x_0, (1 − ᾱ_t) · I), ᾱ_t = Π_{s ≤ t} (1 − β_s), t = 0 … T − 1.
//! Source: Ho et al. 2020, eq. 4; linear ibid. section 4; scaled linear: Rombach et al. 2022;
//! cosine: Nichol & Dhariwal 2021, eq. 17.
//!
//! | symbol | here | unit |
//! |---|---|---|
//! | ᾱ_t | `alpha_bar(t)` | – |
//! | α_t = √ᾱ_t, σ_t = √(1 − ᾱ_t) | `alpha(t)`, `sigma(t)` | data units |
//! | SNR(t) = ᾱ_t / (1 − ᾱ_t) | `snr(t)`; the inverse temperature at which the noised data is a Hopfield energy | 1 / data units² |

use crate::DiffusionError;
use serde::{Deserialize, Serialize};

/// A noise level of a schedule, 0 (least noise) … T − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestep(pub usize);

/// How β_t grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// β_t linear from `beta_start` to `beta_end`.
    Linear,
    /// √β_t linear from √`beta_start` to √`beta_end`: Stable Diffusion.
    ScaledLinear,
    /// ᾱ(u) ∝ cos²((u + 0.008) / 1.008 · π/2), with β_t at most 0.999.
    Cosine,
}

/// A schedule as a protocol writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSpec {
    /// How β_t grows: "linear" (default; Ho et al. 2020), "scaled-linear" or "cosine".
    pub schedule: ScheduleKind,
    /// T, the number of timesteps.
    pub timesteps: usize,
    /// β of the first timestep; not used by "cosine".
    pub beta_start: f64,
    /// β of the last timestep; not used by "cosine".
    pub beta_end: f64,
}

impl Default for ScheduleSpec {
    fn default() -> Self {
        Self { schedule: ScheduleKind::Linear, timesteps: 1000, beta_start: 1e-4, beta_end: 0.02 }
    }
}

impl ScheduleSpec {
    /// The same process in `factor` times as many, smaller timesteps: β / `factor`, exact as β → 0.
    ///
    /// What follows the process as if it were continuous, such as an energy's estimate, is finer on it.
    pub fn refined(&self, factor: usize) -> Self {
        let factor = factor.max(1);
        let (beta_start, beta_end) =
            (self.beta_start / factor as f64, self.beta_end / factor as f64);
        Self { timesteps: self.timesteps * factor, beta_start, beta_end, ..self.clone() }
    }
}

/// ᾱ_t of every timestep.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    alpha_bar: Vec<f64>,
}

impl NoiseSchedule {
    /// # Errors
    /// [`DiffusionError::Schedule`] when there are fewer than two timesteps, β leaves (0, 1), or no signal or no noise is left at the end.
    pub fn new(spec: &ScheduleSpec) -> Result<Self, DiffusionError> {
        let ScheduleSpec { schedule, timesteps, beta_start, beta_end } = *spec;
        const MOST: usize = 1_000_000;
        if !(2..=MOST).contains(&timesteps) {
            return Err(DiffusionError::schedule("timesteps", "2 to 1000000", timesteps));
        }
        if schedule != ScheduleKind::Cosine {
            for (field, beta) in [("beta_start", beta_start), ("beta_end", beta_end)] {
                // A smaller one leaves 1 − ᾱ without a figure in 64 bits.
                if !(1e-12..1.).contains(&beta) {
                    let expected = "a number from 1e-12 to below 1";
                    return Err(DiffusionError::schedule(field, expected, beta));
                }
            }
        }
        let between =
            |from: f64, to: f64, t: usize| from + (to - from) * t as f64 / (timesteps - 1) as f64;
        let beta = |t| match schedule {
            ScheduleKind::Linear => between(beta_start, beta_end, t),
            ScheduleKind::ScaledLinear => between(beta_start.sqrt(), beta_end.sqrt(), t).powi(2),
            ScheduleKind::Cosine => {
                let level = |t: usize| cosine(t as f64 / timesteps as f64);
                (1. - level(t + 1) / level(t)).min(0.999)
            }
        };
        let made = Self::from_betas((0..timesteps).map(beta));
        // Below, x̂₀ = (x − σ·ε̂) / α overflows 32 bits.
        const FAINTEST: f64 = 1e-15;
        // Above, the last timestep holds no noise to speak of, and a walk begins with no data.
        const CLEAREST: f64 = 0.99;
        let last = made.alpha_bar.last().copied().unwrap_or_default();
        if last > CLEAREST {
            let expected = "a larger β: ᾱ stays above 0.99";
            return Err(DiffusionError::schedule("beta_end", expected, beta_end));
        }
        if last < FAINTEST {
            let expected = "a smaller β: ᾱ falls to less than 1e-15";
            return Err(DiffusionError::schedule("beta_end", expected, beta_end));
        }
        Ok(made)
    }

    /// ᾱ from β, one after another.
    pub fn from_betas(betas: impl Iterator<Item = f64>) -> Self {
        let kept = betas.scan(1., |product, beta| {
            *product *= 1. - beta;
            Some(*product)
        });
        Self { alpha_bar: kept.collect() }
    }

    /// T.
    pub fn timesteps(&self) -> usize {
        self.alpha_bar.len()
    }

    /// ᾱ_t. A timestep beyond the last is held at the last.
    pub fn alpha_bar(&self, t: Timestep) -> f64 {
        self.alpha_bar[t.0.min(self.alpha_bar.len() - 1)]
    }

    /// √ᾱ_t: what is left of the data.
    pub fn alpha(&self, t: Timestep) -> f64 {
        self.alpha_bar(t).sqrt()
    }

    /// √(1 − ᾱ_t): the noise.
    pub fn sigma(&self, t: Timestep) -> f64 {
        (1. - self.alpha_bar(t)).sqrt()
    }

    /// ᾱ_t / (1 − ᾱ_t).
    pub fn snr(&self, t: Timestep) -> f64 {
        self.alpha_bar(t) / (1. - self.alpha_bar(t))
    }

    /// ᾱ_{t−1}, which is 1 before the first timestep.
    pub fn alpha_bar_before(&self, t: Timestep) -> f64 {
        t.0.checked_sub(1).map_or(1., |before| self.alpha_bar(Timestep(before)))
    }

    /// β_t = 1 − ᾱ_t / ᾱ_{t−1}.
    pub fn beta(&self, t: Timestep) -> f64 {
        1. - self.alpha_bar(t) / self.alpha_bar_before(t)
    }

    /// The timestep whose SNR is nearest to `snr` on a logarithmic scale: β_t = SNR(t) read backwards.
    pub fn timestep_at_snr(&self, snr: f64) -> Timestep {
        let distance = |t: usize| (self.snr(Timestep(t)).ln() - snr.ln()).abs();
        let nearest = (0..self.timesteps()).min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        Timestep(nearest.unwrap_or(0))
    }

    /// The timestep at `fraction` of T, such as 0.3.
    pub fn timestep_at(&self, fraction: f64) -> Timestep {
        Timestep(((fraction * self.timesteps() as f64).round() as usize).min(self.timesteps() - 1))
    }
}

fn cosine(u: f64) -> f64 {
    ((u + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, beta_start: f64, beta_end: f64) -> NoiseSchedule {
        NoiseSchedule::new(&ScheduleSpec { schedule: kind, timesteps: 1000, beta_start, beta_end })
            .unwrap()
    }

    #[test]
    fn linear_has_the_published_signal_to_noise_ratios() {
        let linear = schedule(ScheduleKind::Linear, 1e-4, 0.02);
        for (t, alpha_bar) in [(0, 0.9999), (50, 0.970), (100, 0.895), (300, 0.394), (500, 0.078)] {
            assert!((linear.alpha_bar(Timestep(t)) - alpha_bar).abs() <= 6e-4, "{t}");
        }
        assert_eq!(linear.timestep_at_snr(1.), Timestep(258));
        assert_eq!(linear.timestep_at_snr(0.1), Timestep(484));
        let scaled = schedule(ScheduleKind::ScaledLinear, 0.00085, 0.012);
        assert_eq!(scaled.timestep_at_snr(1.), Timestep(354));
        assert_eq!(scaled.timestep_at_snr(0.03), Timestep(826));
    }

    #[test]
    fn cosine_equals_its_closed_form_until_the_cap() {
        let table = schedule(ScheduleKind::Cosine, 0., 0.);
        for t in (0..990).step_by(30) {
            let closed = cosine((t + 1) as f64 / 1000.) / cosine(0.);
            assert!((table.alpha_bar(Timestep(t)) - closed).abs() <= 1e-12, "{t}");
        }
        assert!((table.beta(Timestep(999)) - 0.999).abs() <= 1e-9);
    }

    #[test]
    fn every_schedule_only_loses_signal() {
        for kind in [ScheduleKind::Linear, ScheduleKind::ScaledLinear, ScheduleKind::Cosine] {
            let table = schedule(kind, 1e-4, 0.02);
            assert!(
                (1..1000).all(|t| table.alpha_bar(Timestep(t)) < table.alpha_bar(Timestep(t - 1)))
            );
        }
    }

    #[test]
    fn a_refined_schedule_is_the_same_process() {
        for schedule in [ScheduleKind::Linear, ScheduleKind::ScaledLinear, ScheduleKind::Cosine] {
            let spec = ScheduleSpec { schedule, ..Default::default() };
            let (coarse, fine) =
                (NoiseSchedule::new(&spec).unwrap(), NoiseSchedule::new(&spec.refined(4)).unwrap());
            for t in [10, 100, 500, 900] {
                // What t + 1 coarse steps do, 4·(t + 1) fine ones do.
                let ratio = fine.snr(Timestep(4 * t + 3)) / coarse.snr(Timestep(t));
                assert!((ratio.ln()).abs() <= 0.1, "{schedule:?} {t}: {ratio}");
            }
        }
    }

    #[test]
    fn impossible_schedules_name_their_field() {
        let fault = |spec: ScheduleSpec| NoiseSchedule::new(&spec).unwrap_err().to_string();
        assert!(
            fault(ScheduleSpec { timesteps: 1, ..Default::default() })
                .contains("diffusion.timesteps")
        );
        assert!(
            fault(ScheduleSpec { beta_end: 1.5, ..Default::default() })
                .contains("diffusion.beta_end")
        );
        assert!(
            fault(ScheduleSpec { beta_start: f64::NAN, ..Default::default() })
                .contains("beta_start")
        );
    }
}
