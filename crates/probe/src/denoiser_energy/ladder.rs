//! The levels from where an energy is read to where the density is known.

use candle_core::{Result, Tensor, bail};
use lethe_candlex::finite::ensure_finite;
use lethe_diffusion::schedule::{NoiseSchedule, Timestep};

/// How a level is left for the last one.
#[derive(Clone, Debug)]
pub struct Ascent {
    /// Steps from level to level, about even in log v; no more than the schedule has timesteps.
    pub stages: usize,
    /// The density at the last level.
    pub end: FinalDensity,
}

/// The density of y at the last level, of variance V: N(mean, (variance + V)·I).
#[derive(Clone, Debug, PartialEq)]
pub struct FinalDensity {
    /// Of the data, [d]; `None` is 0.
    pub mean: Option<Vec<f64>>,
    /// Of the data, in each dimension.
    pub variance: f64,
}

impl FinalDensity {
    /// x ~ N(0, I) at the last level, whatever the data: since α² = 1/(1 + V), that is y ~ N(0, (1 + V)·I).
    pub fn standard() -> Self {
        Self { mean: None, variance: 1. }
    }

    /// The moments of `data` [n, ..], the variance pooled over dimensions: closer than [`FinalDensity::standard`].
    ///
    /// # Errors
    /// When there are no data, or a number is not finite.
    pub fn of_data(data: &Tensor) -> Result<Self> {
        let data = data.flatten_from(1)?.to_dtype(candle_core::DType::F64)?;
        if data.elem_count() == 0 {
            bail!("final density: expected data to take moments of, got {:?}", data.dims());
        }
        ensure_finite("final density: the data", &data)?;
        let mean = data.mean_keepdim(0)?;
        let variance = data.broadcast_sub(&mean)?.sqr()?.mean_all()?.to_scalar()?;
        Ok(Self { mean: Some(mean.flatten_all()?.to_vec1()?), variance })
    }

    /// log density of y at the last level, for each row of [rows, d].
    pub(super) fn log(&self, y: &Tensor, last: f64) -> Result<Vec<f64>> {
        self.expected_log(y, 0., last)
    }

    /// E log density of y + √spread·ε at the last level, for each row of [rows, d].
    pub(super) fn expected_log(&self, y: &Tensor, spread: f64, last: f64) -> Result<Vec<f64>> {
        let d = y.dim(1)?;
        if let Some(mean) = self.mean.as_ref().filter(|mean| mean.len() != d) {
            bail!("final density: the mean has {} dimensions, the points {d}", mean.len());
        }
        let variance = self.variance + last;
        let mean = |k: usize| self.mean.as_ref().map_or(0., |mean| mean[k]);
        let log = |row: Vec<f64>| {
            let squares: f64 = row.iter().enumerate().map(|(k, y)| (y - mean(k)).powi(2)).sum();
            let d = d as f64;
            -0.5 * (d * (std::f64::consts::TAU * variance).ln() + (squares + d * spread) / variance)
        };
        Ok(y.to_vec2::<f64>()?.into_iter().map(log).collect())
    }
}

/// A level of the ladder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// t.
    pub timestep: Timestep,
    /// v = 1/SNR(t), in the unit of ‖y‖².
    pub variance: f64,
}

impl Level {
    /// σ = √(v / (1 + v)).
    pub(super) fn sigma(self) -> f64 {
        (self.variance / (1. + self.variance)).sqrt()
    }
}

/// Rising levels, from the one where an energy is read to the schedule's last.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder(Vec<Level>);

impl Ladder {
    /// `stages` + 1 levels, about even in log v, each on a timestep of its own.
    ///
    /// # Errors
    /// When no timestep lies above `start`.
    pub fn new(schedule: &NoiseSchedule, start: Timestep, stages: usize) -> Result<Self> {
        let last = schedule.timesteps() - 1;
        if start.0 >= last {
            bail!("energy: expected a starting timestep below the last, {last}, got {}", start.0);
        }
        let level =
            |t: usize| Level { timestep: Timestep(t), variance: 1. / schedule.snr(Timestep(t)) };
        let above: Vec<Level> = (start.0..=last).map(level).collect();
        let stages = stages.clamp(1, above.len() - 1);
        let (bottom, top) = (above[0].variance.ln(), above[above.len() - 1].variance.ln());
        let mut places = vec![0];
        for stage in 1..=stages {
            let height = bottom + (top - bottom) * stage as f64 / stages as f64;
            let reached = above.partition_point(|level| level.variance.ln() < height);
            let left = stages - stage; // every later stage needs a timestep of its own
            places.push(reached.clamp(places[stage - 1] + 1, above.len() - 1 - left));
        }
        Ok(Self(places.into_iter().map(|place| above[place]).collect()))
    }

    /// All levels, rising.
    pub fn levels(&self) -> &[Level] {
        &self.0
    }

    /// Where the energy is read.
    pub fn first(&self) -> Level {
        self.0[0]
    }

    /// The noisiest level.
    pub fn last(&self) -> Level {
        self.0[self.0.len() - 1]
    }

    /// From level to level.
    pub(super) fn stages(&self) -> impl Iterator<Item = (Level, Level)> {
        self.0.windows(2).map(|pair| (pair[0], pair[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_diffusion::schedule::ScheduleSpec;

    #[test]
    fn ladders_rise_evenly_and_end_at_the_top() {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        for (start, stages) in [(0, 1), (100, 50), (100, 5000), (997, 2)] {
            let ladder = Ladder::new(&schedule, Timestep(start), stages).unwrap();
            let levels = ladder.levels();
            assert_eq!(levels.len(), stages.min(999 - start) + 1);
            assert_eq!((levels[0].timestep.0, ladder.last().timestep.0), (start, 999));
            assert!(levels.windows(2).all(|pair| pair[0].timestep < pair[1].timestep));
        }
        let ladder = Ladder::new(&schedule, Timestep(100), 50).unwrap();
        let steps: Vec<f64> =
            ladder.stages().map(|(a, b)| (b.variance / a.variance).ln()).collect();
        let mean = steps.iter().sum::<f64>() / 50.;
        assert!(steps.iter().all(|step| (step / mean - 1.).abs() <= 0.2), "{steps:?}");
        let error = Ladder::new(&schedule, Timestep(999), 3).unwrap_err().to_string();
        assert!(error.contains("below the last, 999"), "{error}");
    }

    #[test]
    fn the_standard_end_is_a_standard_normal_of_x() {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        let level = Ladder::new(&schedule, Timestep(500), 3).unwrap().last();
        let (y, alpha) = ([3., -40.], schedule.alpha(level.timestep));
        let rows = Tensor::new(&[y], &candle_core::Device::Cpu).unwrap();
        let found = FinalDensity::standard().log(&rows, level.variance).unwrap()[0];
        let squares: f64 = y.iter().map(|y| (alpha * y).powi(2)).sum();
        // The density of y = x/α is α^d times that of x.
        let expected = -0.5 * squares - std::f64::consts::TAU.ln() + 2. * alpha.ln();
        assert!((found - expected).abs() <= 1e-9, "{found} {expected}");
    }
}
