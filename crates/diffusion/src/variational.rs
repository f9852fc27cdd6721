//! The variational bound of one example, term by term.
//!
//! Law: −log p(x₀) ≤ KL(q(x_T | x₀) ‖ N(0, I)) + Σ_{t ≥ 1} L_t + L_0, in nats, with
//! L_t = ½ (SNR(t−1) / SNR(t) − 1) · E ‖ε − ε̂‖² and L_0 the discretised decoder of 8-bit data.
//! Source: Ho et al. 2020, eq. 5, 8 and 13; Kingma et al. 2021, eq. 14.

use crate::schedule::{NoiseSchedule, Timestep};

/// w_t with L_t = ½·w_t·E‖ε − ε̂‖²: SNR(t−1) / SNR(t) − 1, for t ≥ 1.
pub fn term_weight(schedule: &NoiseSchedule, t: Timestep) -> f64 {
    // SNR(t−1)/SNR(t) − 1 = β_t / (ᾱ_{t−1}-weighted remainder); written so that nothing cancels.
    let (here, before) = (schedule.alpha_bar(t), schedule.alpha_bar_before(t));
    (before - here) / (here * (1. - before))
}

/// A grid of timesteps that stands for all of Σ_{t ≥ 1} L_t.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundGrid {
    /// One timestep for each stretch of the schedule.
    pub timesteps: Vec<Timestep>,
    /// Σ of w_t over the stretch: the bound is Σ_k ½·weights[k]·‖ε − ε̂‖² at timesteps[k].
    pub weights: Vec<f64>,
}

impl BoundGrid {
    /// Cuts 1 … T − 1 into `points` stretches of equal Σ log SNR: where the bound's integrand lives.
    ///
    /// Each stretch is represented by its middle timestep.
    pub fn new(schedule: &NoiseSchedule, points: usize) -> Self {
        let last = schedule.timesteps() - 1;
        let depth = |t: usize| -schedule.snr(Timestep(t)).ln();
        let (top, bottom) = (depth(0), depth(last));
        let points = points.clamp(1, last);
        let (mut timesteps, mut weights, mut start) = (Vec::new(), Vec::new(), 1);
        for k in 1..=points {
            let end_depth = top + (bottom - top) * k as f64 / points as f64;
            let left = points - k; // every later stretch needs a timestep of its own
            let end =
                (start..=last - left).take_while(|&t| t == start || depth(t) <= end_depth).last();
            let end = if k == points { last } else { end.unwrap_or(start) };
            timesteps.push(Timestep((start + end) / 2));
            weights.push((start..=end).map(|t| term_weight(schedule, Timestep(t))).sum());
            start = end + 1;
        }
        Self { timesteps, weights }
    }
}

/// KL(q(x_T | x₀) ‖ N(0, I)) in nats: ½ Σ_d (σ² + α²·x₀² − 1 − ln σ²) at the last timestep.
///
/// `x`: all pixels of one example, in [−1, 1].
pub fn prior_term(schedule: &NoiseSchedule, x: &[f32]) -> f64 {
    let last = Timestep(schedule.timesteps() - 1);
    let alpha_bar = schedule.alpha_bar(last);
    let variance = 1. - alpha_bar;
    let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
    0.5 * (alpha_bar * squares + x.len() as f64 * (variance - 1. - (-alpha_bar).ln_1p()))
}

/// L_0 in nats: −log Π_d ∫ N(mean_d, variance) over the pixel's bin of width 2/255, the outermost bins open.
///
/// `x` and `mean` in [−1, 1].
pub fn decoder_term(x: &[f32], mean: &[f32], variance: f64) -> f64 {
    let deviation = variance.sqrt();
    let below = |edge: f64| 0.5 * libm::erfc(-edge / deviation / std::f64::consts::SQRT_2);
    let pixel = |(&x, &mean): (&f32, &f32)| {
        let (distance, half) = (f64::from(x) - f64::from(mean), 1. / 255.);
        // By symmetry the tails are taken on the side where nothing cancels.
        let mass = match x {
            x if x > 0.999 => below(-(distance - half)),
            x if x < -0.999 => below(distance + half),
            _ if distance > 0. => below(-(distance - half)) - below(-(distance + half)),
            _ => below(distance + half) - below(distance - half),
        };
        -mass.max(1e-300).ln()
    };
    x.iter().zip(mean).map(pixel).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScheduleSpec;

    #[test]
    fn the_grid_keeps_every_weight() {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        let total: f64 = (1..1000).map(|t| term_weight(&schedule, Timestep(t))).sum();
        for points in [1, 8, 32, 999, 5000] {
            let grid = BoundGrid::new(&schedule, points);
            assert_eq!(grid.timesteps.len(), points.min(999));
            assert!((grid.weights.iter().sum::<f64>() - total).abs() <= 1e-9 * total);
            assert!(grid.timesteps.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn weights_are_ratios_of_signal_to_noise() {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        for t in [1, 10, 500, 999] {
            let direct = schedule.snr(Timestep(t - 1)) / schedule.snr(Timestep(t)) - 1.;
            assert!((term_weight(&schedule, Timestep(t)) - direct).abs() <= 1e-9 * direct);
        }
    }

    #[test]
    fn the_decoder_shares_out_all_probability() {
        let mean = [0.3f32];
        let total: f64 = (0..256)
            .map(|level| (-decoder_term(&[level as f32 / 127.5 - 1.], &mean, 0.01)).exp())
            .sum();
        assert!((total - 1.).abs() <= 1e-5, "{total}");
    }

    #[test]
    fn the_prior_term_vanishes_for_pure_noise() {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
        let small = prior_term(&schedule, &[1., -1., 0.5]);
        assert!(small > 0. && small < 1e-3, "{small}");
    }
}
