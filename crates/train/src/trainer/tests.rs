//! A tiny network learns, goes on where it stood, stops at a NaN, and refuses to train what gets no gradient.

use super::*;
use crate::pixels::Pixels;
use candle_core::{DType, Device, Result as CandleResult};
use lethe_candlex::params::{Declarations, Init};
use lethe_continual::ExampleId;
use lethe_data::{ImageSet, Shape};
use lethe_diffusion::schedule::ScheduleSpec;

/// output = x · (a + b·t) + c, pixel by pixel; `d` is never used.
struct Tiny {
    indices: [usize; 3],
    poison: Option<f64>,
}

impl Network for Tiny {
    fn forward(&self, tape: &Tape, x: &Value, timesteps: &[f64], _: &Pass) -> CandleResult<Value> {
        let parameters = self.indices.map(|index| tape.parameter(index));
        let [a, b, c] = &parameters;
        let times: Vec<f32> = timesteps.iter().map(|t| *t as f32 / 1000.).collect();
        let times = Tensor::from_vec(times, (timesteps.len(), 1, 1, 1), &Device::Cpu)?;
        let poison = self.poison.filter(|poison| timesteps[0] >= *poison).map_or(1., |_| f64::NAN);
        tape.composed(&[x, a, b, c], move |t| {
            let slope = times.broadcast_mul(&t[2])?.broadcast_add(&t[1])?;
            t[0].broadcast_mul(&slope)?.broadcast_add(&t[3])? * poison
        })
    }
}

fn images() -> ImageSet {
    let pixels: Vec<u8> = (0..20 * 16u32).map(|i| (i * 37 % 251) as u8).collect();
    let shape = Shape { width: 4, height: 4, channels: 1 };
    ImageSet::new(shape, vec!["a".into()], (0..20).collect(), vec![0; 20], pixels).unwrap()
}

fn process() -> Process {
    let schedule = NoiseSchedule::new(&ScheduleSpec::default()).unwrap();
    Process { schedule, parameterization: Parameterization::Epsilon, weighting: Weighting::Uniform }
}

fn declarations(unused: bool) -> Declarations {
    let mut declarations = Declarations::default();
    for name in ["a", "b", "c"] {
        declarations.declare(name, &[1], Init::Normal { deviation: 0.3 });
    }
    if unused {
        declarations.declare("d", &[1], Init::Constant(1.));
    }
    declarations
}

fn store(unused: bool) -> ParamStore {
    ParamStore::initialised(&declarations(unused), Seed(1), DType::F32, &Device::Cpu).unwrap()
}

fn batch(step: u64) -> Batch {
    Batch {
        new: (0..8).map(|i| ExampleId((step * 8 + i) % 20)).collect(),
        replayed: vec![ExampleId(3); 2],
    }
}

fn spec() -> TrainingSpec {
    TrainingSpec {
        steps: 60,
        learning_rate: 0.05,
        warm_up: 3,
        flip: true,
        ema_half_life: 100.,
        log_every: 20,
        validate_every: 30,
        ..Default::default()
    }
}

/// Runs `check` on a trainer of the tiny network.
fn with_trainer<R>(network: Tiny, unused: bool, check: impl FnOnce(Trainer<'_, Tiny>) -> R) -> R {
    trained_by(spec(), network, unused, check)
}

fn trained_by<R>(
    spec: TrainingSpec,
    network: Tiny,
    unused: bool,
    check: impl FnOnce(Trainer<'_, Tiny>) -> R,
) -> R {
    let (images, process) = (images(), process());
    let inputs = Pixels { images: &images, is_conditional: false, device: &Device::Cpu };
    let job = Job {
        network: &network,
        process: &process,
        inputs: &inputs,
        spec: &spec,
        seed: Seed(1),
        task: 1,
    };
    check(Trainer::start(job, store(unused)).unwrap())
}

const TINY: Tiny = Tiny { indices: [0, 1, 2], poison: None };

fn bits(store: &ParamStore) -> Vec<u32> {
    store.flat().to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn it_learns_and_its_log_says_so() {
    with_trainer(TINY, false, |mut trainer| {
        let (mut records, mut validations) = (Vec::new(), Vec::new());
        validations.push(trainer.validate(&[0, 1, 2, 3]).unwrap().unwrap());
        for step in 0..60 {
            let report = trainer.step(&batch(step)).unwrap();
            records.extend(trainer.due_record("seed-1", "task-1", &report));
            if trainer.is_validation_due() {
                validations.push(trainer.validate(&[0, 1, 2, 3]).unwrap().unwrap());
            }
        }
        assert_eq!(records.iter().map(|r| r.step).collect::<Vec<_>>(), [20, 30, 40, 60]);
        assert!(records[3].loss < 0.8 * records[0].loss, "{records:?}");
        assert!(
            validations[2] < validations[1] && validations[1] < validations[0],
            "{validations:?}"
        );
        assert_eq!((trainer.position().step, trainer.position().images_seen), (60, 600));
        assert_ne!(bits(trainer.weights()), bits(trainer.result()));
    });
}

#[test]
fn resuming_changes_no_bit() {
    let unbroken = with_trainer(TINY, false, |mut trainer| {
        (0..20).for_each(|step| _ = trainer.step(&batch(step)).unwrap());
        (bits(trainer.weights()), bits(trainer.result()), trainer.position().clone())
    });
    let resumed = with_trainer(TINY, false, |mut trainer| {
        (0..11).for_each(|step| _ = trainer.step(&batch(step)).unwrap());
        let text = serde_json::to_string(trainer.position()).unwrap();
        let moments = trainer.optimizer.named(&trainer.store).unwrap();
        let flat: Vec<&Tensor> = moments.iter().map(|(_, moment)| moment).collect();
        let declared = Optimizer::declarations(&declarations(false));
        assert!(
            declared
                .as_slice()
                .iter()
                .zip(&moments)
                .all(|(declared, (name, _))| declared.name == *name)
        );
        let moments = ParamStore::from_flat(&declared, Tensor::cat(&flat, 0).unwrap()).unwrap();
        let optimizer = Optimizer::restored(&moments, 11).unwrap();
        let position = serde_json::from_str(&text).unwrap();
        let Trainer { job, store, average, .. } = trainer;
        let mut trainer = Trainer::resumed(job, store, average, optimizer, position).unwrap();
        (11..20).for_each(|step| _ = trainer.step(&batch(step)).unwrap());
        (bits(trainer.weights()), bits(trainer.result()), trainer.position().clone())
    });
    assert_eq!(unbroken, resumed);
}

/// The batch of the last step but one is announced wrongly, and drawn anew.
#[test]
fn what_is_made_ready_ahead_changes_no_bit() {
    let trained = |is_ahead: bool| {
        with_trainer(TINY, false, |mut trainer| {
            for step in 0..20 {
                let next = batch(if step == 18 { 3 } else { step + 1 });
                let report = trainer.step_before(&batch(step), is_ahead.then_some(&next)).unwrap();
                assert_eq!(trainer.ahead.is_some(), is_ahead);
                assert!(report.loss.is_finite());
            }
            (bits(trainer.weights()), bits(trainer.result()), trainer.position().clone())
        })
    };
    assert_eq!(trained(false), trained(true));
}

/// On one device both places hold the same numbers, and the average has storage of its own.
#[test]
fn an_average_on_the_host_is_the_same_average() {
    let trained = |ema_on| {
        trained_by(TrainingSpec { ema_on, ..spec() }, TINY, false, |mut trainer| {
            (0..20).for_each(|step| _ = trainer.step(&batch(step)).unwrap());
            assert!(trainer.result().flat().device().is_cpu());
            assert_ne!(bits(trainer.weights()), bits(trainer.result()));
            let evaluated = trainer.with_result(bits).unwrap();
            assert_eq!(evaluated, bits(trainer.result()));
            (evaluated, trainer.validate(&[0, 1, 2, 3]).unwrap().unwrap().to_bits())
        })
    };
    assert_eq!(trained(Keeping::Device), trained(Keeping::Host));
}

/// Ten images in parts of one, of three and of four, of which the last are smaller.
#[test]
fn a_batch_in_parts_takes_the_same_steps() {
    let trained = |parts| {
        trained_by(TrainingSpec { parts, ..spec() }, TINY, false, |mut trainer| {
            let reports: Vec<_> = (0..20).map(|step| trainer.step(&batch(step)).unwrap()).collect();
            let weights = trainer.result().flat().to_vec1::<f32>().unwrap();
            (reports, weights, trainer.position().clone())
        })
    };
    let (reports, whole, _) = trained(1);
    for parts in [2, 3, 4, 10, 99] {
        let (found, weights, position) = trained(parts);
        for (a, b) in reports.iter().zip(&found) {
            assert!((a.loss - b.loss).abs() <= 1e-6 * a.loss, "{parts}: {a:?} {b:?}");
            assert!((a.gradient_norm - b.gradient_norm).abs() <= 1e-5 * a.gradient_norm);
        }
        for (a, b) in whole.iter().zip(&weights) {
            assert!((a - b).abs() <= 1e-5, "{parts}: {a} {b}");
        }
        assert_eq!((position.step, position.images_seen), (20, 200));
    }
}

#[test]
fn a_nan_in_a_later_part_names_its_own_examples() {
    let spec = TrainingSpec { parts: 10, ..spec() };
    trained_by(spec, Tiny { poison: Some(700.), ..TINY }, false, |mut trainer| {
        let error = trainer.step(&batch(0)).unwrap_err();
        let TrainError::Diverged { what: "the loss", examples, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(examples.len(), 1, "{error}");
        assert!(examples[0].1 >= 700, "{error}");
        assert_eq!(trainer.position().step, 0);
    });
}

#[test]
fn a_nan_stops_in_its_step_and_moves_nothing() {
    with_trainer(Tiny { poison: Some(0.), ..TINY }, false, |mut trainer| {
        let before = bits(trainer.weights());
        let error = trainer.step(&batch(0)).unwrap_err();
        let TrainError::Diverged { task: 1, step: 0, what: "the loss", examples } = &error else {
            panic!("{error}")
        };
        assert_eq!(examples.len(), 10);
        assert!(error.to_string().contains("task 1 at step 0"), "{error}");
        assert_eq!((bits(trainer.weights()), trainer.position().step), (before, 0));
    });
}

/// No step follows the last one that would find out.
#[test]
fn what_a_step_left_is_looked_at_before_it_is_kept() {
    let culprits = |trainer: &Trainer<'_, Tiny>, expected: &str| {
        let error = trainer.expect_sound(&[1, 2]).unwrap_err();
        let TrainError::Diverged { task: 1, step: 0, what, examples } = error else {
            panic!("{error}")
        };
        assert_eq!(what, expected);
        examples.len()
    };
    with_trainer(Tiny { poison: Some(0.), ..TINY }, false, |trainer| {
        assert_eq!(culprits(&trainer, "the validation loss"), 2);
    });
    with_trainer(TINY, false, |mut trainer| {
        trainer.step(&batch(0)).unwrap();
        trainer.expect_sound(&[1, 2]).unwrap();
        trainer.expect_sound(&[]).unwrap();
        let spoilt = (trainer.average.flat() * f64::NAN).unwrap();
        lerp(trainer.average.flat(), &spoilt, 1., 1.).unwrap();
        assert_eq!(culprits(&trainer, "a weight that it left"), 0);
    });
}

#[test]
fn a_parameter_without_a_gradient_is_named() {
    with_trainer(TINY, true, |mut trainer| {
        let error = trainer.step(&batch(0)).unwrap_err().to_string();
        assert!(error.contains("1 of 4") && error.contains("`d`"), "{error}");
    });
}
