//! Finding columns, and refusing what does not belong together.

use super::*;
use crate::synthetic::Plan;
use lethe_ledger::ExampleTable;

const LEVEL: f64 = 0.3;

fn examples() -> ExampleTable {
    let row = |id, task, split| ExampleRow { id, class: task - 1, task, split };
    ExampleTable::new(vec![
        row(10, 1, Split::Train),
        row(11, 1, Split::HeldOut),
        row(12, 2, Split::Train),
    ])
    .unwrap()
}

fn measurement(run: &str, arm: &str, task: u32, step: u64, values: [f64; 3]) -> Measurement {
    Measurement {
        run: run.into(),
        arm: arm.into(),
        learned_through: task,
        step,
        quantity: Quantity::ReconstructionError,
        level: Some(LEVEL),
        examples: vec![12, 10, 11],
        values: values.to_vec(),
    }
}

fn study(measurements: &[Measurement]) -> Result<Study> {
    study_at(None, measurements)
}

fn study_at(stages: Option<&Stages>, measurements: &[Measurement]) -> Result<Study> {
    let plan =
        Plan { n_runs: 2, classes_per_task: 1, arms: vec!["none", "random"], ..Plan::default() };
    Study::new(plan.manifest(), examples(), stages, measurements, Path::new("ledger.jsonl"))
}

#[test]
fn columns_follow_the_table_of_examples_and_the_boundary_is_the_last_step() {
    let study = study(&[
        measurement("seed-1", FIRST, 1, 100, [3.0, 1.0, 2.0]),
        measurement("seed-1", "none", 2, 50, [6.0, 4.0, 5.0]),
        measurement("seed-1", "none", 2, 100, [9.0, 7.0, 8.0]),
        measurement("seed-1", "random", 2, 50, [6.0, 4.0, 5.0]),
    ])
    .unwrap();
    let (run, gauge) = (Scope::Run(0), Gauge::reconstruction(LEVEL));
    assert_eq!(study.after(run, "none", 1, gauge), Some(vec![1.0, 2.0, 3.0]));
    assert_eq!(study.after(run, "none", 2, gauge), Some(vec![7.0, 8.0, 9.0]));
    assert_eq!(study.after(run, "random", 2, gauge), None, "it stopped before the boundary");
    assert_eq!(study.steps(run, "none", 2, gauge), [50, 100]);
    assert_eq!(study.after(run, "none", 2, Gauge::reconstruction(0.1)), None);
    assert_eq!(study.after(Scope::Run(1), "none", 2, gauge), None);
    assert_eq!(study.after(Scope::All, "none", 2, gauge), None, "the second run lacks it");
    assert_eq!(study.boundary(run, 2), Some(100));
}

#[test]
fn a_stage_in_progress_has_points_but_no_boundary() {
    let measurements = [
        measurement("seed-1", FIRST, 1, 100, [3.0, 1.0, 2.0]),
        measurement("seed-1", "none", 2, 100, [9.0, 7.0, 8.0]),
        measurement("seed-1", "random", 2, 100, [6.0, 4.0, 5.0]),
        measurement("seed-1", "random", 2, 120, [6.0, 4.0, 5.0]),
        measurement("seed-2", FIRST, 1, 100, [3.0, 1.0, 2.0]),
        measurement("seed-2", "none", 2, 50, [3.0, 1.0, 2.0]),
    ];
    let stage = |run: &str, arm: &str, task| (run.to_owned(), arm.to_owned(), task);
    let stages = Stages {
        measured: [("seed-1", FIRST, 1), ("seed-1", "none", 2), ("seed-2", FIRST, 1)]
            .map(|(run, arm, task)| stage(run, arm, task))
            .into(),
        planned: 6,
        ..Stages::default()
    };
    let study = study_at(Some(&stages), &measurements).unwrap();
    let (run, gauge) = (Scope::Run(0), Gauge::reconstruction(LEVEL));
    assert_eq!(study.boundary(run, 2), Some(100), "that of the finished arm");
    assert_eq!(study.after(run, "none", 2, gauge), Some(vec![7.0, 8.0, 9.0]));
    assert_eq!(study.after(run, "random", 2, gauge), None, "it is not through, whatever its steps");
    assert_eq!(study.steps(run, "random", 2, gauge), [100, 120]);
    assert_eq!(study.boundary(Scope::Run(1), 2), None);
    assert_eq!(study.runs(Scope::All), [0], "the second is behind");
    assert_eq!(study.after(Scope::All, "none", 2, gauge), Some(vec![7.0, 8.0, 9.0]));
}

#[test]
fn all_runs_are_averaged_example_by_example() {
    let study = study(&[
        measurement("seed-1", "none", 2, 100, [3.0, 1.0, 2.0]),
        measurement("seed-2", "none", 2, 100, [5.0, 2.0, 2.0]),
        measurement("seed-2", "none", 2, 40, [5.0, 2.0, 2.0]),
    ])
    .unwrap();
    let gauge = Gauge::reconstruction(LEVEL);
    assert_eq!(study.after(Scope::All, "none", 2, gauge), Some(vec![1.5, 2.0, 4.0]));
    assert_eq!(study.steps(Scope::All, "none", 2, gauge), [100], "only shared steps");
}

#[test]
fn energies_are_against_the_own_task_and_leave_one_out_comes_first() {
    let level = Some(0.125);
    let energy = |quantity, task, examples: &[u64], values: &[f64]| Measurement {
        run: "seed-1".into(),
        arm: DATA.into(),
        learned_through: task,
        step: 0,
        quantity,
        level,
        examples: examples.to_vec(),
        values: values.to_vec(),
    };
    let study = study(&[
        energy(Quantity::EnergyDistance, 1, &[10, 11, 12], &[1.0, 2.0, 3.0]),
        energy(Quantity::EnergyDistance, 2, &[10, 11, 12], &[4.0, 5.0, 6.0]),
        energy(Quantity::EnergyDistanceLoo, 1, &[10], &[7.0]),
    ])
    .unwrap();
    let energies = study.energy(Scope::Run(1), EnergyForm::Distance);
    assert_eq!(energies, Some(vec![7.0, 2.0, 6.0]), "facts of the data serve every run");
    assert_eq!(study.energy(Scope::Run(0), EnergyForm::Unit), None);
}

#[test]
fn what_belongs_to_another_run_is_refused() {
    let good = || measurement("seed-1", "none", 2, 100, [1.0, 2.0, 3.0]);
    let twice = [good(), good()];
    let cases: [(&str, Vec<Measurement>); 7] = [
        ("run: expected a run of run.json", vec![Measurement { run: "seed-9".into(), ..good() }]),
        ("arm: expected an arm of run.json", vec![Measurement { arm: "magic".into(), ..good() }]),
        (
            "learned_through: expected a task up to 2",
            vec![Measurement { learned_through: 3, ..good() }],
        ),
        ("learned_through: expected a task", vec![Measurement { learned_through: 1, ..good() }]),
        ("learned_through: expected a task", vec![Measurement { arm: FIRST.into(), ..good() }]),
        (
            "examples: expected ids of examples.json",
            vec![Measurement { examples: vec![10, 11, 99], ..good() }],
        ),
        ("reconstruction_error: expected one value", twice.to_vec()),
    ];
    for (expected, measurements) in cases {
        let message = study(&measurements).unwrap_err().to_string();
        assert!(message.contains(&format!("ledger.jsonl: {expected}")), "{message}");
    }
}

#[test]
fn complete_keeps_what_every_column_has() {
    let (kept, columns) = complete(&[0, 1, 2], &[&[1.0, f64::NAN, 3.0], &[4.0, 5.0, 6.0]]);
    assert_eq!((kept, columns), (vec![0, 2], vec![vec![1.0, 3.0], vec![4.0, 6.0]]));
}
