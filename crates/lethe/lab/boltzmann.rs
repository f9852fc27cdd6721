//! E4: energy rise and replay gain in a Boltzmann machine that learned its tasks, beside the closed form.

use super::family::Family;
use super::ruling::{Ruling, energy_floor};
use super::school::{Arm, HELD_OUT, Learned, Machine, Scale, School, energies};
use super::setting::{Setting, Turning, Turns};
use anyhow::{Result, ensure};
use lethe_hopfield::replay_gain;
use lethe_ledger::statistics::{Bootstrap, Interval, pearson};
use lethe_report::article::Section;
use lethe_report::figure::{Axis, Bar, BarChart, Caption, Cloud, Figure, Ink, Scatter};
use lethe_report::number;
use lethe_report::table::{Cell, Column, Table};
use rayon::prelude::*;

/// Everything measured.
struct Measured {
    turning: Turning,
    /// Mean −log p over held-out samples of the teacher, of teacher and machine, in nats.
    likelihoods: [f64; 2],
    /// Energies of the fixed points under the machine of task 1, by scale.
    before: [Vec<f64>; Scale::ALL.len()],
    /// Under those of each rotated task 2.
    rotated: Vec<Learned>,
    /// Under those of a task 2 that is not rotated.
    control: Learned,
}

/// Trains everything and writes the section.
///
/// # Errors
/// When a setting does not fit or training diverges.
pub fn write(setting: &Setting, machine: &Machine, section: &mut Section) -> Result<()> {
    let measured = Measured::new(setting, machine)?;
    section.paragraph(&format!(
        "A Boltzmann machine with the network's energy learns task 1 from samples of it, then the rotated task 2, \
         with nothing replayed or with one pattern. Energies are taken at the old fixed points. \
         {} hidden units, {} rotations by ε {}, {}.",
        machine.hidden,
        machine.rotations,
        machine.angle,
        machine.in_words()
    ));
    section.law("p(x) = exp(−βE(x))/Z = Σ_μ π_μ N(x; w_μ, I/β),   π = softmax(½β‖w_μ‖²),   log Z = (d/2) log(2π/β) + log Σ_μ exp(½β‖w_μ‖²)");
    write_claims(&measured, section)?;
    write_figures(&measured, section)?;
    section.table("boltzmann", rises(&measured)?);
    section.table("boltzmann-replay", gains(&measured)?);
    section.hidden_table("boltzmann-rotations", rotations(&measured));
    Ok(())
}

impl Measured {
    fn new(setting: &Setting, machine: &Machine) -> Result<Self> {
        setting.check()?;
        machine.check(setting)?;
        let patterns = setting.cluster + 1;
        ensure!(
            machine.hidden >= patterns,
            "--hidden: expected at least one unit for each of the {patterns} patterns, got {}",
            machine.hidden
        );
        ensure!(machine.angle != 0., "--angle: expected a rotation, got 0: nothing would rise");
        let turns = Turns { angles: vec![machine.angle], rotations: machine.rotations };
        let turning = Turning::measure(setting, &turns)?;
        let school = School::new(setting, machine, &turning)?;
        let first = school.first()?;
        let control = school.second(&first, None)?;
        let rotated = (0..machine.rotations as u64).into_par_iter();
        let rotated = rotated.map(|rotation| school.second(&first, Some(rotation)));
        let before = Scale::ALL.map(|scale| energies(&first, &turning.points, scale));
        let [raw, normalized] = before;
        Ok(Self {
            likelihoods: school.likelihoods(&first)?,
            rotated: rotated.collect::<Result<_>>()?,
            before: [raw?, normalized?],
            control,
            turning,
        })
    }

    fn cluster(&self) -> usize {
        self.turning.setting.cluster
    }

    fn bootstrap(&self) -> Bootstrap {
        self.turning.setting.bootstrap()
    }

    /// ΔE of point `k` in each rotation, nothing replayed.
    fn rise(&self, scale: Scale, k: usize) -> Vec<f64> {
        let before = self.before[scale as usize][k];
        self.rotated
            .iter()
            .map(|learned| learned[scale as usize][Arm::None as usize][k] - before)
            .collect()
    }

    /// Mean ΔE of the cluster in each rotation.
    fn cluster_rise(&self, scale: Scale) -> Vec<f64> {
        mean_of((0..self.cluster()).map(|k| self.rise(scale, k)).collect())
    }

    /// Gain of `family` in each rotation: with nothing rotated subtracted, or not.
    fn gain(&self, scale: Scale, family: Family, is_net: bool) -> Vec<f64> {
        let cells = self.cells(family);
        let of = |learned: &Learned, (arm, target): (Arm, usize)| {
            let of_arm = |arm: Arm| learned[scale as usize][arm as usize][target];
            of_arm(Arm::None) - of_arm(arm)
        };
        let one = |learned: &Learned| -> f64 {
            let gains = cells
                .iter()
                .map(|&cell| of(learned, cell) - if is_net { of(&self.control, cell) } else { 0. });
            gains.sum::<f64>() / cells.len() as f64
        };
        self.rotated.iter().map(one).collect()
    }

    /// The closed form's net gain of the same pairs in the same rotations.
    fn closed_gain(&self, family: Family) -> Vec<f64> {
        let beta = self.turning.setting.inverse_temperature;
        let cells = self.cells(family);
        let one = |rises: &[f64]| -> f64 {
            let net = |&(arm, target): &(Arm, usize)| {
                let source = arm.source(self.cluster()).unwrap_or_default();
                let p = self.turning.recalls[target].association[source];
                replay_gain::net_gain(rises[target], beta)(replay_gain::susceptibility(p))
            };
            cells.iter().map(net).sum::<f64>() / cells.len() as f64
        };
        self.turning.rises[0].rotations().map(one).collect()
    }

    /// The trained pairs of a family.
    fn cells(&self, family: Family) -> Vec<(Arm, usize)> {
        let n = self.cluster();
        let pairs = [Arm::Cluster, Arm::Outlier]
            .into_iter()
            .flat_map(|arm| (0..=n).filter_map(move |target| Some((arm, target, arm.source(n)?))));
        let of_family =
            pairs.filter(|&(_, target, source)| Family::of(target, source, n) == family);
        of_family.map(|(arm, target, _)| (arm, target)).collect()
    }
}

fn mean_of(columns: Vec<Vec<f64>>) -> Vec<f64> {
    let n = columns.len() as f64;
    let rows = columns.first().map_or(0, Vec::len);
    (0..rows).map(|i| columns.iter().map(|column| column[i]).sum::<f64>() / n).collect()
}

fn write_claims(measured: &Measured, section: &mut Section) -> Result<()> {
    let bootstrap = measured.bootstrap();
    let [teacher, machine] = measured.likelihoods;
    section.verdict(
        machine - teacher <= 0.01,
        "likelihood",
        "the machine of task 1 is as likely as its teacher, to .01 nat",
        &format!(
            "−log p {} against {} over {HELD_OUT} held-out samples",
            number::with_decimals(machine, 4),
            number::with_decimals(teacher, 4)
        ),
    );
    let n = measured.cluster();
    let raw = &measured.before[Scale::Raw as usize];
    let highest = raw[..n].iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let floor = energy_floor(&measured.turning);
    Ruling::exact(raw[n] - highest, floor).write(
        section,
        "B1, A1",
        "the outlier lies higher than the cluster in the trained machine",
        &format!(
            "E {} against {}",
            number::with_decimals(raw[n], 4),
            number::with_decimals(highest, 4)
        ),
    );
    for scale in Scale::ALL {
        let gap =
            bootstrap.mean_difference(&measured.rise(scale, n), &measured.cluster_rise(scale))?;
        Ruling::above(&gap, floor).write(
            section,
            "B1, A2",
            &format!(
                "the outlier rises more than the cluster in trained machines, {} energies",
                scale.name()
            ),
            &format!("difference {}", number::interval(&gap)),
        );
    }
    for [more, less] in [
        [Family::OutlierSelf, Family::ClusterSelf],
        [Family::ClusterSelf, Family::WithinCluster],
        [Family::ClusterSelf, Family::ClusterFromOutlier],
        [Family::ClusterSelf, Family::OutlierFromCluster],
    ] {
        let net = |family| measured.gain(Scale::Normalized, family, true);
        let gap = bootstrap.mean_difference(&net(more), &net(less))?;
        Ruling::above(&gap, floor).write(
            section,
            "B1, A5",
            &format!(
                "{} gains more than {}, net of the task that is not rotated, normalized energies",
                more.name(),
                less.name()
            ),
            &format!("difference {}", number::interval(&gap)),
        );
    }
    Ok(())
}

fn write_figures(measured: &Measured, section: &mut Section) -> Result<()> {
    let (machines, closed) = pairs(measured);
    let r = pearson(&closed, &machines)?;
    let caption = Caption::new(
        "boltzmann-scatter",
        "Energy rise learned and in closed form",
        "One point for each pattern and rotation.",
    );
    let of = |is_outlier: bool| -> Vec<(f64, f64)> {
        let n = measured.cluster() + 1;
        let points = closed.iter().copied().zip(machines.iter().copied()).enumerate();
        points.filter(|(at, _)| (at % n == n - 1) == is_outlier).map(|(_, point)| point).collect()
    };
    let clouds = vec![Cloud::new(Ink::BLUE, of(false)), Cloud::new(Ink::RED, of(true))];
    let (x, y) = (Axis::new("ΔE, closed form"), Axis::new("ΔE, trained machine"));
    let scatter = Scatter { has_diagonal: true, ..Scatter::new(caption, x, y, clouds) };
    let panels = [scatter.draw(), rise_bars(measured)?, gain_bars(measured)?];
    let legend = [(Ink::BLUE, "cluster".to_owned()), (Ink::RED, "outlier".to_owned())];
    let caption = format!(
        "{}; {} rotations. Left: rise of each old fixed point, r {}. Right: means, 95 % bootstrap intervals over rotations.",
        measured.turning.setting.in_words(),
        measured.rotated.len(),
        number::with_decimals(r, 3)
    );
    section.figure(&panels, &legend, &caption);
    Ok(())
}

/// ΔE of every rotation and point, learned (raw) and in closed form.
fn pairs(measured: &Measured) -> (Vec<f64>, Vec<f64>) {
    let before = &measured.before[Scale::Raw as usize];
    let learned = measured.rotated.iter().flat_map(|learned| {
        learned[Scale::Raw as usize][Arm::None as usize]
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
    });
    (learned.collect(), measured.turning.rises[0].rotations().flatten().copied().collect())
}

fn rise_bars(measured: &Measured) -> Result<Figure> {
    let bootstrap = measured.bootstrap();
    let (n, closed) = (measured.cluster(), &measured.turning.rises[0]);
    let mut bars = Vec::new();
    for (group, outlier, cluster) in [
        (
            "closed form",
            measured.turning.outlier_rises(closed),
            measured.turning.cluster_rises(closed),
        ),
        ("machine, raw", measured.rise(Scale::Raw, n), measured.cluster_rise(Scale::Raw)),
        (
            "machine, normalized",
            measured.rise(Scale::Normalized, n),
            measured.cluster_rise(Scale::Normalized),
        ),
    ] {
        bars.push(Bar::new("outlier", Ink::RED, bootstrap.mean(&outlier)?).under(group));
        bars.push(Bar::new("cluster", Ink::BLUE, bootstrap.mean(&cluster)?).under(group));
    }
    let caption =
        Caption::new("boltzmann-rise", "Mean energy rise", "Closed form and trained machine.");
    Ok(BarChart::new(caption, "mean ΔE", bars).draw())
}

/// Families of which some pair was trained.
fn families(measured: &Measured) -> impl Iterator<Item = Family> {
    Family::ALL.into_iter().filter(|family| !measured.cells(*family).is_empty())
}

fn gain_bars(measured: &Measured) -> Result<Figure> {
    let bootstrap = measured.bootstrap();
    let mut bars = Vec::new();
    for family in families(measured) {
        let closed = bootstrap.mean(&measured.closed_gain(family))?;
        let learned = bootstrap.mean(&measured.gain(Scale::Normalized, family, true))?;
        bars.push(Bar::new("closed form", Ink::REFERENCE, closed).under(family.name()));
        bars.push(Bar::new("machine", Ink::GREEN, learned).under(family.name()));
    }
    let caption =
        Caption::new("boltzmann-gain", "Net replay gain", "Closed form and trained machine.");
    Ok(BarChart::new(caption, "net gain", bars).draw())
}

fn rises(measured: &Measured) -> Result<Table> {
    let bootstrap = measured.bootstrap();
    let (n, closed) = (measured.cluster(), &measured.turning.rises[0]);
    let mut table = Table::new(&[
        Column::words("pattern", "Pattern"),
        Column::words("energy", "Energy"),
        Column::numbers("before", "E(x*) after task 1").of_any_size(),
        Column::numbers("control", "ΔE, not rotated").of_any_size(),
        Column::intervals("rise", "ΔE, rotated, control not taken away").of_any_size(),
        Column::intervals("closed", "ΔE, closed form").of_any_size(),
    ]);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    for scale in Scale::ALL {
        let before = &measured.before[scale as usize];
        let control: Vec<f64> = measured.control[scale as usize][Arm::None as usize]
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        for (name, points, rise, closed) in [
            ("outlier", n..n + 1, measured.rise(scale, n), measured.turning.outlier_rises(closed)),
            ("cluster", 0..n, measured.cluster_rise(scale), measured.turning.cluster_rises(closed)),
        ] {
            table.row(vec![
                name.into(),
                scale.name().into(),
                Cell::Number(mean(&before[points.clone()])),
                Cell::Number(mean(&control[points])),
                Cell::Interval(bootstrap.mean(&rise)?),
                Cell::Interval(bootstrap.mean(&closed)?),
            ]);
        }
    }
    Ok(table)
}

fn gains(measured: &Measured) -> Result<Table> {
    let bootstrap = measured.bootstrap();
    let mut table = Table::new(&[
        Column::words("family", "Replay"),
        Column::words("energy", "Energy"),
        Column::intervals("net_gain", "G − G⁰").of_any_size(),
        Column::intervals("raw_gain", "G").of_any_size(),
        Column::intervals("closed_net_gain", "G − G⁰, closed form").of_any_size(),
    ]);
    for scale in Scale::ALL {
        for family in families(measured) {
            let interval = |values: Vec<f64>| -> Result<Interval> { Ok(bootstrap.mean(&values)?) };
            table.row(vec![
                family.name().into(),
                scale.name().into(),
                Cell::Interval(interval(measured.gain(scale, family, true))?),
                Cell::Interval(interval(measured.gain(scale, family, false))?),
                Cell::Interval(interval(measured.closed_gain(family))?),
            ]);
        }
    }
    Ok(table)
}

/// Energies of every old fixed point under every machine.
fn rotations(measured: &Measured) -> Table {
    let mut table = Table::new(&[
        Column::words("rotation", "Rotation"),
        Column::words("replayed", "Replayed"),
        Column::numbers("pattern", "Pattern"),
        Column::numbers("energy", "E"),
        Column::numbers("normalized_energy", "−(1/β) log p"),
    ]);
    let [raw, normalized] = &measured.before;
    let mut add = |rotation: &str, replayed: &str, raw: &[f64], normalized: &[f64]| {
        for (pattern, (raw, normalized)) in raw.iter().zip(normalized).enumerate() {
            table.row(vec![
                rotation.into(),
                replayed.into(),
                Cell::Count(pattern as u64),
                Cell::Number(*raw),
                Cell::Number(*normalized),
            ]);
        }
    };
    add("task 1", "none", raw, normalized);
    let control = std::iter::once(("none".to_owned(), &measured.control));
    let rotated = measured.rotated.iter().enumerate().map(|(i, learned)| (i.to_string(), learned));
    for (rotation, [raw, normalized]) in control.chain(rotated) {
        for (arm, name) in Arm::ALL.into_iter().zip(["none", "cluster", "outlier"]) {
            add(&rotation, name, &raw[arm as usize], &normalized[arm as usize]);
        }
    }
    table
}
