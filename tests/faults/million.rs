//! A ledger of a million rows, written by the program's own writer: read and reported on in time and memory.

use crate::names::inert;
use crate::process::{Rule, lethe, run};
use crate::tally::{Place, Suite, Tally};
use lethe::ledger::{
    ChosenTemperature, DataProvenance, ExampleRow, ExampleTable, FORMAT, InverseTemperatures,
    Ledger, Measurement, Quantity, Repetition, RunManifest, Split, SpriteLayout, digest,
    write_parquet,
};
use lethe::progress::{Contents, Offsets, Progress, Work};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

const TASKS: u32 = 50;
const LEVELS: [f64; 3] = [0.1, 0.3, 0.5];
const ARMS: [&str; 4] = ["none", "control", "random", "joint"];

const FOLDER: &str = "LETHE_MANY_ROWS";
const EXAMPLES: &str = "LETHE_MANY_EXAMPLES";

/// Fifty tasks, four arms: in the long part a million rows and more.
pub fn ledger(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let folder = place.path("run");
    fs::create_dir(&folder).unwrap();
    // A process of its own, so that what it holds is not counted as the report's.
    let mut writer = Command::new(std::env::current_exe().unwrap());
    writer.env(FOLDER, &folder).env(EXAMPLES, suite.tries(12, 72).to_string());
    let ended = run(&mut writer, Duration::from_secs(120));
    assert_eq!(ended.code(), 0, "{}{}", ended.out, ended.err);
    let rows = ended.out.trim().to_string();
    let mut report = lethe();
    report.arg("report").arg(&folder);
    let rule = Rule::codes(&[0]).within(30).memory(1024);
    let ended = rule.try_on(tally, &format!("lethe report on {rows} rows"), &mut report);
    tally.saw(format!("{rows} rows in {:.1} s", ended.wall.as_secs_f64()), ended.wall, ended.peak);
    let page = fs::read_to_string(folder.join("report.html")).unwrap_or_default();
    tally.count(|| "its page".into(), inert(&page));
    let megabytes = page.len() as f64 / 1e6;
    let verdict = if megabytes < 20. { Ok(()) } else { Err(format!("{megabytes:.1} MB")) };
    tally.count(|| "the size of its page".into(), verdict);
}

/// In the process of the writer.
#[expect(clippy::print_stdout, reason = "the parent process reads it")]
pub fn as_a_child() -> Option<ExitCode> {
    let folder = std::env::var_os(FOLDER)?;
    let examples: u32 = std::env::var(EXAMPLES).ok()?.parse().ok()?;
    println!("{}", write(Path::new(&folder), examples));
    Some(ExitCode::SUCCESS)
}

/// `per_task` examples of each task, a quarter of them held out.
fn table(per_task: u32) -> Vec<ExampleRow> {
    let row = |id: u32| {
        let task = id / per_task + 1;
        let split = if id % 4 == 3 { Split::HeldOut } else { Split::Train };
        ExampleRow { id: u64::from(id), class: task - 1, task, split }
    };
    (0..TASKS * per_task).map(row).collect()
}

/// Writes a run folder; the number of its ledger's rows.
fn write(folder: &Path, per_task: u32) -> usize {
    let table = table(per_task);
    let (manifest, examples) = (manifest(&table), ExampleTable::new(table.clone()).unwrap());
    manifest.save(folder.join("run.json")).unwrap();
    examples.save(folder.join("examples.json")).unwrap();
    let mut ledger = Ledger::open(folder.join("ledger.jsonl")).unwrap();
    let all = measurements(&table);
    for measurement in &all {
        ledger.append(measurement).unwrap();
    }
    ledger.sync().unwrap();
    write_parquet(folder.join("ledger.parquet"), &manifest, &examples, &all).unwrap();
    commit(folder, &manifest);
    all.iter().map(|measurement| measurement.values.len()).sum()
}

/// What a run says that it has written.
fn commit(folder: &Path, manifest: &RunManifest) {
    fs::write(folder.join("protocol.toml"), &manifest.protocol).unwrap();
    let ledger = fs::metadata(folder.join("ledger.jsonl")).unwrap().len();
    let journals = Offsets { ledger, training: 0 };
    let first = std::iter::once(("task-1", 1));
    let later = ARMS.into_iter().flat_map(|arm| (2..=TASKS).map(move |task| (arm, task)));
    let stages = first.chain(later).flat_map(|(arm, task)| {
        ["train", "measure"].map(|stage| format!("seed-1/{arm}/task-{task}/{stage}"))
    });
    let progress = Progress {
        format: lethe::progress::FORMAT,
        work: Work::run(),
        protocol: manifest.protocol_digest.clone(),
        data: manifest.data.digest.clone(),
        model: None,
        examples: None,
        edits: Vec::new(),
        done: std::iter::once("seed-1/data".to_string()).chain(stages).collect(),
        journals,
        contents: Contents::of(folder, journals).unwrap(),
        checkpoints: Default::default(),
        images: Default::default(),
    };
    progress.save(folder).unwrap();
}

fn measurements(table: &[ExampleRow]) -> Vec<Measurement> {
    let value = |row: &ExampleRow, words: [u64; 3]| {
        let mixed = words
            .iter()
            .fold(row.id, |state, word| (state ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        0.02 + (mixed >> 40) as f64 / f64::from(1 << 24) * 0.02
    };
    let column = |arm: &str, task: u32, quantity: Quantity, level: Option<f64>, through: u32| {
        let rows: Vec<&ExampleRow> = table.iter().filter(|row| row.task <= through).collect();
        let words = [arm.len() as u64, u64::from(task), level.unwrap_or_default().to_bits()];
        Measurement {
            run: "seed-1".into(),
            arm: arm.into(),
            learned_through: task,
            step: 100,
            quantity,
            level,
            examples: rows.iter().map(|row| row.id).collect(),
            values: rows.iter().map(|row| value(row, words)).collect(),
        }
    };
    let mut all = Vec::new();
    for quantity in [Quantity::TotalVariation, Quantity::Contrast, Quantity::Norm] {
        all.push(Measurement { step: 0, ..column("data", 0, quantity, None, TASKS) });
    }
    for task in 1..=TASKS {
        let energy = column("data", task, Quantity::EnergyDistance, Some(0.125), TASKS);
        all.push(Measurement { step: 0, ..energy });
        let arms = if task == 1 { &["task-1"][..] } else { &ARMS };
        for arm in arms {
            for level in LEVELS {
                all.push(column(arm, task, Quantity::ReconstructionError, Some(level), task));
            }
        }
    }
    all
}

fn manifest(table: &[ExampleRow]) -> RunManifest {
    let protocol = "name = \"many\"\n".to_owned();
    RunManifest {
        model: None,
        changes: Vec::new(),
        format: FORMAT,
        name: "many".into(),
        protocol_digest: digest(&protocol),
        protocol,
        data: DataProvenance {
            source: "made up".into(),
            digest: "00".into(),
            examples: table.len() as u64,
            resolution: 8,
            channels: 1,
            classes: (1..=TASKS).map(|class| format!("class {class}")).collect(),
        },
        tasks: (0..TASKS).map(|class| vec![class]).collect(),
        arms: ARMS.map(String::from).to_vec(),
        runs: vec![Repetition { run: "seed-1".into(), seed: 1 }],
        device: "cpu".into(),
        versions: Default::default(),
        git_revision: None,
        inverse_temperatures: InverseTemperatures {
            distance: Some(ChosenTemperature {
                value: 0.125,
                perplexity: 10.,
                timestep: None,
                time: None,
            }),
            unit: None,
        },
        headline_level: LEVELS[1],
        levels: LEVELS.to_vec(),
        budget: 30,
        images: SpriteLayout { tile_width: 8, tile_height: 8, channels: 1, columns: 10 },
    }
}
