//! A plan of a tiny run.

use super::*;
use crate::protocol::load;

fn tiny(more: &[&str]) -> ProtocolSpec {
    let set = [
        "data.per_class=20",
        "data.resolution=8",
        "model.channels=[8]",
        "model.norm_groups=4",
        "training.steps=4",
        "training.later_steps=2",
        "training.batch=4",
        "probe.train_examples=10",
        "probe.held_out_examples=5",
        "probe.samples=2",
    ];
    let set: Vec<String> =
        set.iter().chain(more).map(|assignment| assignment.to_string()).collect();
    load("fashion", &set).unwrap()
}

fn planned(spec: ProtocolSpec) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let plan = plan(spec, Device::Cpu, &out, &Interrupt::default()).unwrap();
    assert!(!out.exists(), "a plan writes nothing");
    plan
}

#[test]
fn a_tiny_run_fits_and_says_where_its_time_goes() {
    let mut plan = planned(tiny(&[]));
    let text = plan.to_string();
    assert!(text.ends_with("\nfits"), "{text}");
    let all = plan.seconds.unwrap();
    assert!(all > 0. && all < 600. && plan.uncertainty >= LEAST_SPREAD, "{text}");
    assert!((plan.time.iter().map(|stage| stage.seconds).sum::<f64>() - all).abs() <= 1e-9 * all);
    assert!(sum(&plan.disk) > 0 && plan.time.iter().all(|stage| stage.stage != "encoding images"));
    // What is too large is named with what to do.
    plan.disk_available = 10;
    plan.memory_available = Some(10);
    let study = Study::sketch(tiny(&[]), Device::Cpu, None).unwrap();
    plan.judge(&study, None);
    let verdict = plan.verdict();
    assert!(verdict.starts_with("does not fit: memory: "), "{verdict}");
    assert!(verdict.contains("training.batch") && verdict.contains("disk: "), "{verdict}");
}

#[test]
fn more_arms_and_seeds_take_more_time_and_disk_and_no_more_memory() {
    let few = planned(tiny(&["replay.arms=[\"none\"]"]));
    let many = planned(tiny(&["seeds=[1, 2, 3]"]));
    assert!(sum(&many.disk) > 4 * few.disk[0].bytes);
    let exact = |plan: &Plan| sum(&plan.memory[..5]);
    assert_eq!(exact(&few), exact(&many));
}

#[test]
fn bytes_read_well() {
    let words = [10, 100 << 10, 1023 << 10, 5 << 30].map(bytes);
    assert_eq!(words, ["0.0 KiB", "100 KiB", "1.0 MiB", "5.0 GiB"]);
}

#[test]
fn what_takes_days_names_the_longest_stage_and_its_fields() {
    let time = |seconds| [stage(FIRST, 1., "images", 1e4), stage(BOUNDARIES, 1., "x", seconds)];
    let note = longest(&time(3e5)).unwrap();
    assert!(note.starts_with("97 % of the time: boundaries, by probe.train_examples"), "{note}");
    assert_eq!(longest(&time(3e4)), None);
}
