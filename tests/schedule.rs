//! Noise schedules, timestep lists, weights and conversions against golden tables of diffusers' definitions in float64.

use crate::golden::{self, absolute, relative};
use candle_core::{DType, Device, Tensor};
use lethe::diffusion::objective::Weighting;
use lethe::diffusion::parameterization::{Parameterization, perturb};
use lethe::diffusion::sampler::Spacing;
use lethe::diffusion::schedule::{NoiseSchedule, ScheduleKind, ScheduleSpec, Timestep};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    num_train_timesteps: usize,
    schedules: BTreeMap<String, Table>,
    timesteps: Vec<List>,
    min_snr: MinSnr,
    conversions: Conversions,
}

#[derive(Deserialize)]
struct Table {
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    t: Vec<usize>,
    alphas_cumprod: Vec<f64>,
}

#[derive(Deserialize)]
struct List {
    spacing: String,
    steps_offset: usize,
    n: usize,
    timesteps: Vec<usize>,
}

#[derive(Deserialize)]
struct MinSnr {
    gamma: f64,
    t: Vec<usize>,
    snr: Vec<f64>,
    epsilon: Vec<f64>,
    v_prediction: Vec<f64>,
    sample: Vec<f64>,
}

type Rows = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Conversions {
    t: Vec<usize>,
    x0: Rows,
    epsilon: Rows,
    v: Rows,
    xt: Rows,
    from_epsilon: BTreeMap<String, Rows>,
    from_v_prediction: BTreeMap<String, Rows>,
    from_sample: BTreeMap<String, Rows>,
}

fn golden() -> Golden {
    golden::json("schedules.json")
}

fn linear() -> NoiseSchedule {
    NoiseSchedule::new(&ScheduleSpec::default()).unwrap()
}

#[test]
fn tables_equal_diffusers_definitions() {
    let golden = golden();
    assert_eq!(golden.schedules.len(), 3);
    for (name, table) in golden.schedules {
        let schedule = match name.as_str() {
            "linear" => ScheduleKind::Linear,
            "scaled_linear" => ScheduleKind::ScaledLinear,
            "squaredcos_cap_v2" => ScheduleKind::Cosine,
            other => panic!("{other}: a schedule that this law does not know"),
        };
        let unused = ScheduleSpec::default();
        let found = NoiseSchedule::new(&ScheduleSpec {
            schedule,
            timesteps: golden.num_train_timesteps,
            beta_start: table.beta_start.unwrap_or(unused.beta_start),
            beta_end: table.beta_end.unwrap_or(unused.beta_end),
        })
        .unwrap();
        let signal: Vec<f64> = table.t.iter().map(|&t| found.alpha_bar(Timestep(t))).collect();
        let rest = |signal: &[f64]| -> Vec<f64> { signal.iter().map(|a| 1. - a).collect() };
        let expected = table.alphas_cumprod;
        assert!(
            relative(&signal, &expected) <= 1e-12,
            "{name}: {:e}",
            relative(&signal, &expected)
        );
        let off = relative(&rest(&signal), &rest(&expected));
        assert!(off <= 1e-11, "{name}: 1 - alpha_bar is off by {off:e}");
    }
}

#[test]
fn timestep_lists_equal_diffusers() {
    let golden = golden();
    assert_eq!(golden.timesteps.len(), 18);
    for List { spacing, steps_offset, n, timesteps } in golden.timesteps {
        let found = match spacing.as_str() {
            "leading" => Spacing::Leading,
            "linspace" => Spacing::Linspace,
            "trailing" => Spacing::Trailing,
            other => panic!("{other}: a spacing that this law does not know"),
        };
        let found = found.timesteps(golden.num_train_timesteps, n, steps_offset);
        let found: Vec<usize> = found.into_iter().map(|t| t.0).collect();
        assert_eq!(found, timesteps, "{spacing}, offset {steps_offset}, {n} of them");
    }
}

#[test]
fn min_snr_weights_equal_the_published_law() {
    let (golden, schedule) = (golden().min_snr, linear());
    let each = |f: &dyn Fn(Timestep) -> f64| -> Vec<f64> {
        golden.t.iter().map(|&t| f(Timestep(t))).collect()
    };
    assert!(relative(&each(&|t| schedule.snr(t)), &golden.snr) <= 1e-11);
    let weighting = Weighting::MinSnr(golden.gamma);
    for (parameterization, expected) in [
        (Parameterization::Epsilon, &golden.epsilon),
        (Parameterization::Velocity, &golden.v_prediction),
        (Parameterization::Clean, &golden.sample),
    ] {
        let found = each(&|t| weighting.weight(&schedule, parameterization, t));
        assert!(relative(&found, expected) <= 1e-11, "{parameterization:?}");
    }
}

fn tensor(rows: &Rows, dtype: DType) -> Tensor {
    let shape = (rows.len(), rows[0].len());
    Tensor::from_vec(rows.concat(), shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// What may be lost in float32 at timestep `t`: a division by σ at the first timesteps, by α at the last, magnifies it.
fn tolerance(source: Parameterization, t: usize, dtype: DType) -> f64 {
    match (dtype, source, t) {
        (DType::F64, ..) => 1e-11,
        (_, Parameterization::Clean, 0) => 5e-5,
        (_, Parameterization::Epsilon, 999) => 1e-4,
        (_, Parameterization::Clean, 10) | (_, Parameterization::Epsilon, 500) => 5e-6,
        _ => 1e-6,
    }
}

#[test]
fn noised_data_and_velocities_equal_diffusers() {
    let (golden, schedule) = (golden().conversions, linear());
    let times: Vec<Timestep> = golden.t.iter().copied().map(Timestep).collect();
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 1e-6)] {
        let tensor = |rows| tensor(rows, dtype);
        let (clean, noise) = (tensor(&golden.x0), tensor(&golden.epsilon));
        let x = perturb(&schedule, &clean, &noise, &times).unwrap();
        assert!(absolute(&x, &tensor(&golden.xt)) <= tolerance);
        let v = Parameterization::Velocity.target(&schedule, &clean, &noise, &times).unwrap();
        assert!(absolute(&v, &tensor(&golden.v)) <= tolerance);
    }
}

#[test]
fn predictions_turn_into_each_other_as_in_diffusers() {
    use Parameterization::{Clean, Epsilon, Velocity};
    let (golden, schedule) = (golden().conversions, linear());
    let times: Vec<Timestep> = golden.t.iter().copied().map(Timestep).collect();
    for (source, output, expected) in [
        (Epsilon, &golden.epsilon, &golden.from_epsilon),
        (Velocity, &golden.v, &golden.from_v_prediction),
        (Clean, &golden.x0, &golden.from_sample),
    ] {
        assert_eq!(expected.len(), 2);
        for dtype in [DType::F64, DType::F32] {
            let (x, output) = (tensor(&golden.xt, dtype), tensor(output, dtype));
            let clean = source.clean(&schedule, &x, &output, &times).unwrap();
            let noise = source.noise(&schedule, &x, &output, &times).unwrap();
            for (target, rows) in expected {
                let found = match target.as_str() {
                    "x0" => clean.clone(),
                    "epsilon" => noise.clone(),
                    "v" => Velocity.target(&schedule, &clean, &noise, &times).unwrap(),
                    other => panic!("{other}: a prediction that this law does not know"),
                };
                for (row, &t) in golden.t.iter().enumerate() {
                    let row = |rows: &Tensor| rows.narrow(0, row, 1).unwrap();
                    let off = absolute(&row(&found), &row(&tensor(rows, DType::F64)));
                    assert!(
                        off <= tolerance(source, t, dtype),
                        "{target} from {source:?} at {t} in {dtype:?} is off by {off:e}"
                    );
                }
            }
        }
    }
}
