//! The variational bound of examples under the exact denoiser of a Gaussian mixture, term by term.

use crate::golden::{self, largest, relative};
use candle_core::{DType, Device, Result, Tensor};
use lethe::diffusion::denoiser::{Condition, Denoiser};
use lethe::diffusion::objective::mean_squares;
use lethe::diffusion::parameterization::perturb;
use lethe::diffusion::schedule::{NoiseSchedule, ScheduleKind, ScheduleSpec, Timestep};
use lethe::diffusion::variational::{BoundGrid, prior_term, term_weight};
use serde::Deserialize;

type Rows = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Golden {
    schedule: Constants,
    mixture: Mixture,
    examples: Rows,
    /// [T, d], one vector a timestep.
    noise: Rows,
    prior: Vec<f64>,
    draws: Vec<Draw>,
}

#[derive(Deserialize)]
struct Constants {
    num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
}

#[derive(Clone, Deserialize)]
struct Mixture {
    weights: Vec<f64>,
    means: Rows,
    standard_deviations: Vec<f64>,
}

#[derive(Deserialize)]
struct Draw {
    noise_sign: f64,
    /// [example, t − 1, d].
    predicted_epsilon: Vec<Rows>,
    /// [example, t − 1].
    epsilon_form: Rows,
    clean_form: Rows,
    bound: Vec<f64>,
}

fn golden() -> (Golden, NoiseSchedule) {
    let golden: Golden = golden::json("vlb.json");
    assert_eq!((golden.examples.len(), golden.draws.len()), (4, 2));
    let Constants { num_train_timesteps: timesteps, beta_start, beta_end } = golden.schedule;
    let spec = ScheduleSpec { schedule: ScheduleKind::Linear, timesteps, beta_start, beta_end };
    (golden, NoiseSchedule::new(&spec).unwrap())
}

/// ε̂ = −σ·∇ log p_t of a mixture of spheres: component k at x_t is N(α·m_k, α²·s_k² + σ²).
struct MixtureDenoiser {
    mixture: Mixture,
    schedule: NoiseSchedule,
}

impl MixtureDenoiser {
    fn row(&self, x: &[f64], t: Timestep) -> Vec<f64> {
        let (alpha, sigma) = (self.schedule.alpha(t), self.schedule.sigma(t));
        let Mixture { weights, means, standard_deviations } = &self.mixture;
        let variance = |k: usize| (alpha * standard_deviations[k]).powi(2) + sigma * sigma;
        let logs: Vec<f64> = (0..weights.len())
            .map(|k| {
                let square: f64 =
                    x.iter().zip(&means[k]).map(|(x, m)| (x - alpha * m).powi(2)).sum();
                weights[k].ln()
                    - 0.5 * x.len() as f64 * variance(k).ln()
                    - square / (2. * variance(k))
            })
            .collect();
        let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logs.iter().map(|log| (log - highest).exp()).sum();
        let pull = |i: usize| -> f64 {
            let share = |k: usize| (logs[k] - highest).exp() / total;
            (0..weights.len()).map(|k| share(k) * (x[i] - alpha * means[k][i]) / variance(k)).sum()
        };
        (0..x.len()).map(|i| sigma * pull(i)).collect()
    }
}

impl Denoiser for MixtureDenoiser {
    fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    fn noise(&self, x: &Tensor, timesteps: &[Timestep], _: Condition) -> Result<Tensor> {
        let rows = x.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let noise: Rows = rows.iter().zip(timesteps).map(|(x, &t)| self.row(x, t)).collect();
        tensor(&noise, x.dtype())
    }
}

fn tensor(rows: &[Vec<f64>], dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu)?.to_dtype(dtype)
}

/// ½·w_t·‖ε − ε̂‖² of every example, from tensors of `dtype`; with the worst distance of ε̂ from the golden one.
fn terms(
    denoiser: &MixtureDenoiser,
    golden: &Golden,
    draw: &Draw,
    t: usize,
    dtype: DType,
) -> (Vec<f64>, f64) {
    let n = golden.examples.len();
    let examples = tensor(&golden.examples, dtype).unwrap();
    let noise: Vec<f64> = golden.noise[t].iter().map(|x| draw.noise_sign * x).collect();
    let noise = tensor(&vec![noise; n], dtype).unwrap();
    let times = vec![Timestep(t); n];
    let x = perturb(&denoiser.schedule, &examples, &noise, &times).unwrap();
    let predicted = denoiser.noise(&x, &times, Condition::Unconditional).unwrap();
    let expected: Rows =
        draw.predicted_epsilon.iter().map(|example| example[t - 1].clone()).collect();
    let off = golden::absolute(&predicted, &tensor(&expected, DType::F64).unwrap());
    let depth = golden.examples[0].len() as f64;
    let weight = 0.5 * depth * term_weight(&denoiser.schedule, Timestep(t));
    let losses = mean_squares(&(predicted - noise).unwrap()).unwrap();
    (losses.into_iter().map(|loss| weight * loss).collect(), off)
}

fn prior(golden: &Golden, schedule: &NoiseSchedule) -> Vec<f64> {
    let term = |row: &Vec<f64>| {
        let row: Vec<f32> = row.iter().map(|&x| x as f32).collect();
        prior_term(schedule, &row)
    };
    golden.examples.iter().map(term).collect()
}

#[test]
fn every_term_of_the_bound_is_exact() {
    let (golden, schedule) = golden();
    let denoiser = MixtureDenoiser { mixture: golden.mixture.clone(), schedule };
    for (dtype, per_term, per_bound) in [(DType::F64, 1e-10, 1e-10), (DType::F32, 1e-4, 1e-6)] {
        for draw in &golden.draws {
            let mut bound = prior(&golden, &denoiser.schedule);
            for t in 1..golden.schedule.num_train_timesteps {
                let (terms, off) = terms(&denoiser, &golden, draw, t, dtype);
                assert!(dtype != DType::F64 || off <= 1e-12, "{t}: the noise is off by {off:e}");
                let expected: Vec<f64> =
                    draw.epsilon_form.iter().map(|example| example[t - 1]).collect();
                let off = relative(&terms, &expected);
                assert!(off <= per_term, "term {t} in {dtype:?} is off by {off:e}");
                bound.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
            }
            let off = relative(&bound, &draw.bound);
            assert!(off <= per_bound, "the bound in {dtype:?} is off by {off:e}");
        }
    }
}

#[test]
fn the_prior_term_is_exact() {
    let (golden, schedule) = golden();
    let off = relative(&prior(&golden, &schedule), &golden.prior);
    assert!(off <= 1e-10, "{off:e}");
}

/// L_t = ½ (SNR(t−1) − SNR(t)) ‖x − x̂₀‖²: what the weights of the ε form stand for.
#[test]
fn the_form_in_clean_data_gives_the_same_terms() {
    let (golden, schedule) = golden();
    let denoiser = MixtureDenoiser { mixture: golden.mixture.clone(), schedule };
    let n = golden.examples.len();
    let examples = tensor(&golden.examples, DType::F64).unwrap();
    for draw in &golden.draws {
        for t in 1..golden.schedule.num_train_timesteps {
            let noise: Vec<f64> = golden.noise[t].iter().map(|x| draw.noise_sign * x).collect();
            let (noise, times) =
                (tensor(&vec![noise; n], DType::F64).unwrap(), vec![Timestep(t); n]);
            let x = perturb(&denoiser.schedule, &examples, &noise, &times).unwrap();
            let clean = denoiser.clean(&x, &times, Condition::Unconditional).unwrap();
            let snr = |t| denoiser.schedule.snr(Timestep(t));
            let weight = 0.5 * golden.examples[0].len() as f64 * (snr(t - 1) - snr(t));
            let losses = mean_squares(&(clean - &examples).unwrap()).unwrap();
            let terms: Vec<f64> = losses.iter().map(|loss| weight * loss).collect();
            let expected: Vec<f64> = draw.clean_form.iter().map(|example| example[t - 1]).collect();
            let off = relative(&terms, &expected);
            assert!(off <= 1e-10, "term {t} is off by {off:e}");
        }
    }
}

#[test]
fn a_grid_of_all_timesteps_is_the_bound_itself() {
    let (golden, schedule) = golden();
    let last = golden.schedule.num_train_timesteps - 1;
    let grid = BoundGrid::new(&schedule, last);
    assert_eq!(grid.timesteps, (1..=last).map(Timestep).collect::<Vec<_>>());
    for draw in &golden.draws {
        let bounds: Vec<f64> = (0..golden.examples.len())
            .map(|example| {
                let square = |t: Timestep| -> f64 {
                    let pairs =
                        golden.noise[t.0].iter().zip(&draw.predicted_epsilon[example][t.0 - 1]);
                    pairs
                        .map(|(noise, predicted)| (draw.noise_sign * noise - predicted).powi(2))
                        .sum()
                };
                let terms =
                    grid.timesteps.iter().zip(&grid.weights).map(|(&t, w)| 0.5 * w * square(t));
                prior(&golden, &schedule)[example] + terms.sum::<f64>()
            })
            .collect();
        assert!(relative(&bounds, &draw.bound) <= 1e-10);
    }
    // A coarse grid is another number: the law above can fail.
    let coarse = BoundGrid::new(&schedule, 5);
    assert!(largest(coarse.weights.iter().zip(&grid.weights).map(|(a, b)| (a - b).abs())) >= 1e-3);
}
