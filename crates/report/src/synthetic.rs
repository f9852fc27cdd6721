//! A run that never happened: every file of a run folder, a pure function of its plan.
//!
//! The world behind it: each example has a complexity c and an isolation u in [0, 1]. Total variation,
//! contrast, norm and the error before rise with c. Energy rises with s = 0.5 c + 0.5 u, and so does,
//! if the plan says so, what the error gains without replay. Replay takes away a share of that, more
//! of it from buffered examples.

use crate::gauge::{DATA, FIRST};
use lethe_ledger::{
    ChosenTemperature, DataProvenance, ExampleRow, ExampleTable, FORMAT, InverseTemperatures,
    Ledger, Measurement, Quantity, Repetition, RunManifest, Split, SpriteLayout, TrainingLog,
    TrainingRecord, digest,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

/// What to make up.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) n_runs: usize,
    pub(crate) n_tasks: u32,
    pub(crate) classes_per_task: u32,
    /// Examples of each class; every fourth is held out.
    pub(crate) per_class: u32,
    pub(crate) arms: Vec<&'static str>,
    /// Probes within a task.
    pub(crate) probes: u64,
    pub(crate) levels: Vec<f64>,
    /// Rise of the error without replay: constant part and part in proportion to s.
    pub(crate) rise: (f64, f64),
    /// The seed whose training learns where the others forget.
    pub(crate) turned: Option<u64>,
    pub(crate) class_name: &'static str,
    pub(crate) images: bool,
    pub(crate) colour: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            n_runs: 1,
            n_tasks: 2,
            classes_per_task: 5,
            per_class: 40,
            arms: vec![
                "none",
                "control",
                "joint",
                "random",
                "top-energy",
                "bottom-energy",
                "class-balanced",
                "stratified-energy",
                "top-loss",
                "nearest-neighbour",
                "herding",
                "greedy",
            ],
            probes: 8,
            levels: vec![0.1, 0.3, 0.5],
            rise: (0.01, 0.04),
            turned: None,
            class_name: "class",
            images: true,
            colour: false,
        }
    }
}

const STEPS: u64 = 800;
const TILE: u32 = 16;
const COLUMNS: u32 = 20;
const DISTANCE_TEMPERATURE: f64 = 0.125;
const UNIT_TEMPERATURE: f64 = 24.0;

/// A number in [0, 1) that depends on all the words.
fn chance(words: &[u64]) -> f64 {
    let mut state = 0x1234_5678_9ABC_DEF0u64;
    for word in words {
        state = (state ^ word).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state ^= state >> 29;
        state = state.wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 32;
    }
    (state >> 11) as f64 / (1u64 << 53) as f64
}

/// Roughly normal noise of unit variance.
fn noise(words: &[u64]) -> f64 {
    let sum: f64 = (0..4).map(|k| chance(&[words, &[k]].concat())).sum();
    (sum - 2.0) * 3f64.sqrt()
}

impl Plan {
    /// Writes the run folder.
    pub(crate) fn write(&self, folder: &Path) {
        let rows = self.rows();
        self.manifest().save(folder.join("run.json")).unwrap();
        ExampleTable::new(rows.clone()).unwrap().save(folder.join("examples.json")).unwrap();
        self.write_ledger(&rows, folder);
        self.write_training(folder);
        if self.images {
            self.write_images(&rows, folder);
        }
    }

    fn n_classes(&self) -> u32 {
        self.n_tasks * self.classes_per_task
    }

    fn rows(&self) -> Vec<ExampleRow> {
        (0..self.n_classes() * self.per_class)
            .map(|index| {
                let class = index % self.n_classes();
                let split =
                    if (index / self.n_classes()) % 4 == 3 { Split::HeldOut } else { Split::Train };
                let task = class / self.classes_per_task + 1;
                ExampleRow { id: u64::from(index) * 3 + 1, class, task, split }
            })
            .collect()
    }

    pub(crate) fn manifest(&self) -> RunManifest {
        let protocol = "name = \"synthetic\"\n[train]\nsteps = 800\n".to_owned();
        let classes = (0..self.n_classes()).map(|class| format!("{} {class}", self.class_name));
        let tasks = (0..self.n_tasks).map(|task| {
            (task * self.classes_per_task..(task + 1) * self.classes_per_task).collect()
        });
        let runs =
            (1..=self.n_runs as u64).map(|seed| Repetition { run: format!("seed-{seed}"), seed });
        RunManifest {
            format: FORMAT,
            name: "synthetic".into(),
            protocol_digest: digest(&protocol),
            protocol,
            data: DataProvenance {
                source: "made up".into(),
                digest: "00ff".into(),
                examples: 10_000,
                resolution: TILE,
                channels: if self.colour { 3 } else { 1 },
                classes: classes.collect(),
            },
            tasks: tasks.collect(),
            arms: self.arms.iter().map(|arm| (*arm).to_owned()).collect(),
            runs: runs.collect(),
            device: "cpu".into(),
            versions: BTreeMap::from([("lethe".into(), "0.1.0".into())]),
            git_revision: None,
            inverse_temperatures: InverseTemperatures {
                distance: Some(ChosenTemperature {
                    value: DISTANCE_TEMPERATURE,
                    perplexity: 10.0,
                    timestep: Some(312),
                    time: Some(0.312),
                }),
                unit: Some(ChosenTemperature {
                    value: UNIT_TEMPERATURE,
                    perplexity: 10.0,
                    timestep: None,
                    time: None,
                }),
            },
            headline_level: self.levels[self.levels.len() / 2],
            levels: self.levels.clone(),
            budget: 30,
            images: SpriteLayout {
                tile_width: TILE,
                tile_height: TILE,
                channels: if self.colour { 3 } else { 1 },
                columns: COLUMNS,
            },
            model: None,
            changes: Vec::new(),
        }
    }

    fn write_ledger(&self, rows: &[ExampleRow], folder: &Path) {
        let mut ledger = Ledger::open(folder.join("ledger.jsonl")).unwrap();
        for run in 1..=self.n_runs as u64 {
            let world = World { plan: self, rows, run };
            for measurement in world.measurements() {
                ledger.append(&measurement).unwrap();
            }
        }
    }

    fn write_training(&self, folder: &Path) {
        let mut log = TrainingLog::open(folder.join("training.jsonl")).unwrap();
        let stages = std::iter::once((FIRST, 1)).chain(
            self.arms.iter().flat_map(|&arm| (2..=self.n_tasks).map(move |task| (arm, task))),
        );
        for (arm, task) in stages {
            for step in (10..=STEPS).step_by(10) {
                let loss = 0.05
                    + 0.3 * (-(step as f64) / 150.0).exp()
                    + 0.004 * noise(&[step, u64::from(task), arm.len() as u64]);
                log.append(&TrainingRecord {
                    run: "seed-1".into(),
                    arm: arm.into(),
                    task,
                    step,
                    loss,
                    loss_quartiles: [2.6, 0.9, 0.3, 0.1].map(|share| Some(loss * share)),
                    gradient_norm: 0.4 + loss,
                    learning_rate: 2e-4,
                    validation_loss: step.is_multiple_of(100).then_some(loss * 1.05),
                    images_seen: step * 64,
                })
                .unwrap();
            }
        }
    }

    fn write_images(&self, rows: &[ExampleRow], folder: &Path) {
        let images = folder.join("images");
        for run in 1..=self.n_runs {
            fs::create_dir_all(images.join(format!("seed-{run}"))).unwrap();
        }
        self.write_sheet(rows, 0.0, &images.join("examples.png"));
        for run in (1..=self.n_runs).map(|run| images.join(format!("seed-{run}"))) {
            self.write_sheet(rows, 0.15, &run.join("task-1-task1-reconstruction.png"));
            self.write_sheet(&rows[..32], 0.1, &run.join("task-1-task1-samples.png"));
            for arm in &self.arms {
                for task in 2..=self.n_tasks {
                    let name = |what| run.join(format!("{arm}-task{task}-{what}.png"));
                    self.write_sheet(rows, 0.6, &name("reconstruction"));
                    self.write_sheet(&rows[..100.min(rows.len())], 0.4, &name("samples"));
                }
            }
        }
    }

    /// A sheet of stripes, the direction by class, with noise.
    fn write_sheet(&self, rows: &[ExampleRow], amount: f64, path: &Path) {
        let channels = if self.colour { 3 } else { 1 };
        let (width, height) = (COLUMNS * TILE, (rows.len() as u32).div_ceil(COLUMNS) * TILE);
        let mut bytes = vec![0u8; (width * height) as usize * channels];
        for (position, row) in rows.iter().enumerate() {
            let angle = f64::from(row.class) * 0.7;
            for pixel in 0..TILE * TILE {
                let (x, y) = (pixel % TILE, pixel / TILE);
                let wave = (f64::from(x) * angle.cos() + f64::from(y) * angle.sin()) * 0.9;
                let left = position as u32 % COLUMNS * TILE + x;
                let top = position as u32 / COLUMNS * TILE + y;
                for channel in 0..channels {
                    let words = [row.id, u64::from(pixel), channel as u64, (amount * 100.0) as u64];
                    let value =
                        0.5 + 0.4 * (wave + channel as f64).sin() + amount * (chance(&words) - 0.5);
                    let index = (top * width + left) as usize * channels + channel;
                    bytes[index] = (value.clamp(0.0, 1.0) * 255.0) as u8;
                }
            }
        }
        save_png(path, width, height, self.colour, &bytes);
    }
}

/// Writes an image of 8 bits a channel.
pub(crate) fn save_png(path: &Path, width: u32, height: u32, colour: bool, bytes: &[u8]) {
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, height);
    encoder.set_color(if colour { png::ColorType::Rgb } else { png::ColorType::Grayscale });
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(bytes).unwrap();
    writer.finish().unwrap();
}

/// One repetition of the made-up world.
struct World<'a> {
    plan: &'a Plan,
    rows: &'a [ExampleRow],
    run: u64,
}

impl World<'_> {
    fn complexity(&self, row: &ExampleRow) -> f64 {
        chance(&[row.id, 77])
    }

    fn strangeness(&self, row: &ExampleRow) -> f64 {
        0.5 * self.complexity(row) + 0.5 * chance(&[row.id, 78])
    }

    fn measurements(&self) -> Vec<Measurement> {
        let mut all = self.facts();
        all.extend(self.probe(FIRST, 1, STEPS));
        for &arm in &self.plan.arms {
            for task in 2..=self.plan.n_tasks {
                let values =
                    self.rows.iter().map(|row| f64::from(u8::from(self.is_replayed(arm, row))));
                all.push(self.column(arm, task, 0, Quantity::Replayed, None, values.collect()));
                for probe in 1..=self.plan.probes {
                    all.extend(self.probe(arm, task, STEPS * probe / self.plan.probes));
                }
            }
        }
        all
    }

    fn facts(&self) -> Vec<Measurement> {
        type Driver<'a> = &'a dyn Fn(&ExampleRow) -> f64;
        let of = |driver: Driver<'_>, offset: f64, slope: f64, stream: u64| -> Vec<f64> {
            let value =
                |row: &ExampleRow| offset + slope * (driver(row) + 0.08 * noise(&[row.id, stream]));
            self.rows.iter().map(value).collect()
        };
        let complexity = |row: &ExampleRow| self.complexity(row);
        let strangeness = |row: &ExampleRow| self.strangeness(row);
        let mut all = vec![
            self.column(DATA, 0, 0, Quantity::TotalVariation, None, of(&complexity, 20.0, 60.0, 1)),
            self.column(DATA, 0, 0, Quantity::Contrast, None, of(&complexity, 0.3, 0.4, 2)),
            self.column(DATA, 0, 0, Quantity::Norm, None, of(&complexity, 8.0, 5.0, 3)),
        ];
        let (distance, unit) = (Some(DISTANCE_TEMPERATURE), Some(UNIT_TEMPERATURE));
        for task in 1..=self.plan.n_tasks {
            for (quantity, level, offset) in [
                (Quantity::EnergyDistance, distance, 8.0),
                (Quantity::EnergyDistanceLoo, distance, 12.0),
                (Quantity::EnergyUnit, unit, -0.4),
                (Quantity::EnergyUnitLoo, unit, -0.3),
            ] {
                let slope = if level == distance { 14.0 } else { 0.25 };
                let stream = if level == distance { 4 } else { 5 };
                all.push(self.column(
                    DATA,
                    task,
                    0,
                    quantity,
                    level,
                    of(&strangeness, offset, slope, stream),
                ));
            }
        }
        all
    }

    fn probe(&self, arm: &str, task: u32, step: u64) -> Vec<Measurement> {
        let mut all: Vec<Measurement> = self
            .plan
            .levels
            .iter()
            .map(|&level| {
                let values = self.rows.iter().map(|row| self.error(arm, task, step, level, row));
                let quantity = Quantity::ReconstructionError;
                self.column(arm, task, step, quantity, Some(level), values.collect())
            })
            .collect();
        if step == STEPS {
            let loss = self.rows.iter().map(|row| 0.6 * self.error(arm, task, step, 0.3, row));
            all.push(self.column(
                arm,
                task,
                step,
                Quantity::DenoisingLoss,
                Some(0.25),
                loss.collect(),
            ));
            let bound =
                self.rows.iter().map(|row| 3.0 + 9.0 * self.error(arm, task, step, 0.31, row));
            let quantity = Quantity::VariationalBound;
            all.push(self.column(arm, task, step, quantity, None, bound.collect()));
        }
        all
    }

    /// The reconstruction error of an example after `step` steps of a task.
    fn error(&self, arm: &str, task: u32, step: u64, level: f64, row: &ExampleRow) -> f64 {
        let c = self.complexity(row);
        let jitter = 0.001 * noise(&[row.id, self.run, step, u64::from(task), arm.len() as u64]);
        let known = (0.012 + 0.02 * c) * (0.5 + level * 2.0) + jitter.abs();
        let (constant, slope) = self.plan.rise;
        let full = (constant + slope * self.strangeness(row)) * (0.5 + level * 2.0)
            + 0.006 * noise(&[row.id, self.run, 9]).abs();
        let full = if self.plan.turned == Some(self.run) { -0.3 * full } else { full };
        let progress = |steps: u64| 1.0 - (-(steps as f64) / 250.0).exp();
        if arm == "control" {
            return if row.task == 1 { known + 0.0004 } else { known + full };
        }
        if row.task > task {
            return known + full; // Never learned yet.
        }
        if row.task == task {
            return known + 0.03 * (1.0 - progress(step));
        }
        let elapsed = step + STEPS * u64::from(task - row.task - 1);
        known + full * progress(elapsed) * (1.0 - self.saved(arm, row))
    }

    /// Share of the rise that an arm takes away.
    fn saved(&self, arm: &str, row: &ExampleRow) -> f64 {
        let s = self.strangeness(row);
        let general = match arm {
            "none" => return 0.0,
            "joint" => return 0.95,
            "random" => 0.3,
            "top-energy" => 0.1 + 0.35 * s,
            "bottom-energy" => 0.25 - 0.2 * s,
            _ => 0.26,
        };
        if self.is_replayed(arm, row) { general + 0.35 + 0.2 * s } else { general }
    }

    fn is_replayed(&self, arm: &str, row: &ExampleRow) -> bool {
        let s = self.strangeness(row);
        let is_candidate = row.split == Split::Train && row.task < self.plan.n_tasks;
        is_candidate
            && match arm {
                "none" | "control" => false,
                "joint" => true,
                "top-energy" => s > 0.75,
                "bottom-energy" => s < 0.25,
                _ => chance(&[row.id, self.run, arm.len() as u64]) < 0.15,
            }
    }

    fn column(
        &self,
        arm: &str,
        learned_through: u32,
        step: u64,
        quantity: Quantity,
        level: Option<f64>,
        values: Vec<f64>,
    ) -> Measurement {
        Measurement {
            run: format!("seed-{}", self.run),
            arm: arm.into(),
            learned_through,
            step,
            quantity,
            level,
            examples: self.rows.iter().map(|row| row.id).collect(),
            values,
        }
    }
}
