//! E5: the closed form and the Boltzmann machine on images, and every selector at equal budget.

use super::bounds;
use super::image_arms::{Arm, Arms};
use super::image_tasks::ImageTasks;
use super::setting::is_above;
use anyhow::{Result, ensure};
use clap::Args;
use lethe_continual::Policy;
use lethe_ledger::statistics::{Bootstrap, Interval, RankCorrelation};
use lethe_report::article::Section;
use lethe_report::figure::{Axis, Bar, BarChart, Caption, Cloud, Ink, Scatter};
use lethe_report::number;
use lethe_report::table::{Cell, Column, Table};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What is learned, how, and what is replayed.
#[derive(Args, Clone, Debug)]
pub struct ImageSetting {
    /// Images instead of the embedded Fashion-MNIST: a folder of class folders, idx, Parquet
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Side in pixels to which images are brought
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub resolution: usize,
    /// Images of each class
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub per_class: usize,
    /// Classes of task 1
    #[arg(long, value_name = "CLASS,..", value_delimiter = ',', default_values_t = [0, 1, 2, 3, 4])]
    pub old_classes: Vec<u32>,
    /// Classes of task 2
    #[arg(long, value_name = "CLASS,..", value_delimiter = ',', default_values_t = [5, 6, 7, 8, 9])]
    pub new_classes: Vec<u32>,
    /// The inverse temperature is the one at which an image has so many neighbours
    #[arg(long, value_name = "N", default_value_t = 10., allow_negative_numbers = true)]
    pub perplexity: f64,
    /// Replayed share of task 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, allow_negative_numbers = true)]
    pub budget: f64,
    /// Hidden units of the Boltzmann machine
    #[arg(long, value_name = "K", default_value_t = 256)]
    pub hidden: usize,
    /// Adam steps on each task
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub steps: u32,
    /// Adam's learning rate
    #[arg(long, value_name = "RATE", default_value_t = 2e-3, allow_negative_numbers = true)]
    pub learning_rate: f64,
    /// The seed of all draws
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
}

/// Images of a task: matrices of them by themselves are held.
const IMAGES: usize = 10_000;

impl ImageSetting {
    fn check(&self) -> Result<()> {
        let Self { budget, perplexity, .. } = self;
        ensure!(
            *budget > 0. && *budget < 1.,
            "--budget: expected a share between 0 and 1, got {budget:?}"
        );
        ensure!(
            perplexity.is_finite(),
            "--perplexity: expected a number above 1, got {perplexity:?}"
        );
        let classes = [("--old-classes", &self.old_classes), ("--new-classes", &self.new_classes)];
        for (option, classes) in classes {
            let distinct: BTreeSet<&u32> = classes.iter().collect();
            ensure!(
                distinct.len() == classes.len(),
                "{option}: expected each once, got {classes:?}"
            );
            let most = IMAGES / classes.len().max(1);
            bounds::within("--per-class", self.per_class, 1, most)?;
        }
        bounds::within("--resolution", self.resolution, 1, 256)?;
        let d = 3 * self.resolution * self.resolution;
        bounds::within("--hidden", self.hidden, 1, bounds::NUMBERS / d)?;
        bounds::within("--steps", self.steps, 1, u32::MAX / 4)?;
        bounds::learning_rate(self.learning_rate)
    }
}

/// Groups of old images over which an arm's mitigation is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    All,
    Highest,
    Buffered,
    Others,
}

impl Group {
    const ALL: [Self; 4] = [Self::All, Self::Highest, Self::Buffered, Self::Others];

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Highest => "highest quarter",
            Self::Buffered => "buffered",
            Self::Others => "not buffered",
        }
    }

    fn holds(self, arms: &Arms, arm: &Arm, image: usize) -> bool {
        match self {
            Self::All => true,
            Self::Highest => arms.is_high[image],
            Self::Buffered => arm.is_kept[image],
            Self::Others => !arm.is_kept[image],
        }
    }
}

/// How an arm's good is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gauge {
    Closed,
    Machine,
}

impl Gauge {
    const ALL: [Self; 2] = [Self::Closed, Self::Machine];

    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed form",
            Self::Machine => "Boltzmann machine",
        }
    }

    fn of(self, arm: &Arm) -> &[f64] {
        match self {
            Self::Closed => &arm.gain,
            Self::Machine => &arm.mitigation,
        }
    }
}

/// Measures everything and writes the section.
///
/// # Errors
/// When data or a setting do not fit, or training diverges.
pub fn write(setting: &ImageSetting, section: &mut Section) -> Result<()> {
    setting.check()?;
    let tasks = ImageTasks::load(setting)?;
    let arms = Arms::measure(setting, &tasks)?;
    section.paragraph(&format!(
        "{}: {} images of task 1 and {} of task 2 as unit vectors from the mean of task 1, {} numbers each. \
         The closed form stores the images themselves; the Boltzmann machine has {} hidden units and learns one task \
         after the other. β {} gives the median image {} neighbours; at its own pattern its median association is {}.",
        tasks.source,
        tasks.old.len(),
        tasks.new.len(),
        tasks.old.d(),
        setting.hidden,
        number::short(tasks.inverse_temperature),
        setting.perplexity,
        number::short(arms.median_self),
    ));
    section.law("closed form: G_R(x) = (1/β) log(1 + exp(βΔE) Σ_{r∈R} p_r(x));   machine: −(1/β) log p(x) without replay, less the same with it");
    let bootstrap = Bootstrap { seed: setting.seed, ..Bootstrap::default() };
    write_claims(&arms, &bootstrap, section)?;
    write_scatters(&arms, section);
    write_bars(&arms, &bootstrap, section)?;
    section.table("images", table(&arms, &bootstrap)?);
    section.table("images-correlations", correlations(&arms, &bootstrap)?);
    section.hidden_table("images-examples", examples(&tasks, &arms));
    section.hidden_table("images-mitigation", mitigation(&tasks, &arms));
    Ok(())
}

/// Mean mitigation of an arm over a group.
fn mean(
    arms: &Arms,
    arm: &Arm,
    group: Group,
    gauge: Gauge,
    bootstrap: &Bootstrap,
) -> Result<Interval> {
    let values: Vec<f64> = gauge
        .of(arm)
        .iter()
        .enumerate()
        .filter(|(image, _)| group.holds(arms, arm, *image))
        .map(|(_, value)| *value)
        .collect();
    Ok(bootstrap.mean(&values)?)
}

/// What the intervals of the claims leave out.
const ONE_BUFFER: &str =
    "over images, one buffer of each selector: how else random might have drawn is left out";

/// Images in two buffers together below which an interval over them is no ground for a verdict, as on the page of a run.
const FEWEST_KEPT: usize = 40;

/// Images below which a paired interval over them is none either.
const FEWEST_IN_VIEW: usize = 20;

/// C4 to C6 of the claim ledger, as questions: the data answer.
fn write_claims(arms: &Arms, bootstrap: &Bootstrap, section: &mut Section) -> Result<()> {
    for gauge in Gauge::ALL {
        for (id, group, claim) in [
            (
                "C5",
                Group::Highest,
                "in the quarter of highest energy, top-energy helps more than random, random more than bottom-energy",
            ),
            ("C6", Group::All, "over all images of task 1, random helps more than top-energy"),
        ] {
            let (top, random) = (arms.named(Policy::TopEnergy)?, arms.named(Policy::Random)?);
            let bottom = arms.named(Policy::BottomEnergy)?;
            let pairs = if id == "C5" {
                vec![(top, random), (random, bottom)]
            } else {
                vec![(random, top)]
            };
            let gaps: Vec<Interval> = pairs
                .iter()
                .map(|(more, less)| gap(arms, more, less, group, gauge, bootstrap))
                .collect::<Result<_>>()?;
            let words: Vec<String> = gaps.iter().map(number::interval).collect();
            let is_thin = gaps.iter().any(|gap| gap.n < FEWEST_IN_VIEW);
            section.verdict(
                all_above(&gaps).filter(|_| !is_thin),
                id,
                &format!("{claim} ({})", gauge.name()),
                &format!("differences {}; {ONE_BUFFER}", words.join(", ")),
            );
        }
        let (top, bottom) = (arms.named(Policy::TopEnergy)?, arms.named(Policy::BottomEnergy)?);
        let own = |arm| mean(arms, arm, Group::Buffered, gauge, bootstrap);
        let (top, bottom) = (own(top)?, own(bottom)?);
        let is_apart = top.low > bottom.high || top.high < bottom.low;
        section.verdict(
            (is_apart && top.n + bottom.n >= FEWEST_KEPT).then_some(top.low > bottom.high),
            "C4",
            &format!("replayed images gain more for themselves under top-energy than under bottom-energy ({})", gauge.name()),
            &format!(
                "{} against {}; {ONE_BUFFER}; undecided with fewer than {FEWEST_KEPT} in both buffers together",
                number::interval(&top),
                number::interval(&bottom)
            ),
        );
    }
    Ok(())
}

fn gap(
    arms: &Arms,
    more: &Arm,
    less: &Arm,
    group: Group,
    gauge: Gauge,
    bootstrap: &Bootstrap,
) -> Result<Interval> {
    // The two groups asked for are the same images under every arm.
    let differences = gauge.of(more).iter().zip(gauge.of(less)).enumerate();
    let chosen = differences.filter(|(image, _)| group.holds(arms, more, *image));
    Ok(bootstrap.mean(&chosen.map(|(_, (more, less))| more - less).collect::<Vec<f64>>())?)
}

/// Whether all lie above zero; no if one lies below.
fn all_above(gaps: &[Interval]) -> Option<bool> {
    let sides: Vec<Option<bool>> = gaps.iter().map(is_above).collect();
    if sides.contains(&Some(false)) {
        Some(false)
    } else {
        sides.into_iter().collect::<Option<Vec<bool>>>().map(|_| true)
    }
}

fn write_scatters(arms: &Arms, section: &mut Section) {
    let panel = |name: &str, what: &str, y: &[f64]| {
        let caption = Caption::new(
            format!("images-{name}"),
            format!("Energy and rise, {what}"),
            "One point for each image of task 1.",
        );
        let points = arms.energy.iter().copied().zip(y.iter().copied()).collect();
        let (x, y) =
            (Axis::new("energy before, without its own copy"), Axis::new(format!("rise, {what}")));
        Scatter::new(caption, x, y, vec![Cloud::new(Ink::RED, points)]).draw()
    };
    let panels = [
        panel("closed", "closed form", &arms.rise),
        panel("machine", "Boltzmann machine", &arms.machine_rise),
    ];
    section.figure(
        &panels,
        &[],
        "Rise when task 2 replaces task 1: ΔE of the closed form, and −(1/β) log p of the machine after task 2 less \
         after task 1, over the closed form's energy before.",
    );
}

fn write_bars(arms: &Arms, bootstrap: &Bootstrap, section: &mut Section) -> Result<()> {
    for gauge in Gauge::ALL {
        let mut panels = Vec::new();
        for group in [Group::All, Group::Highest] {
            let mut bars = Vec::new();
            for arm in &arms.arms {
                let interval = mean(arms, arm, group, gauge, bootstrap)?;
                let name = arm.policy.name();
                bars.push(Bar::new(name, Ink::of_arm(name), interval));
            }
            let what = format!("{}, {}", gauge.name(), group.name());
            let caption = Caption::new(
                format!("images-bars-{}", panels.len() + 2 * gauge as usize),
                format!("Mitigation by selector, {what}"),
                "One row for each selector.",
            );
            let chart = BarChart::new(caption, what, bars);
            panels.push(chart.draw());
        }
        let caption = format!(
            "Mean mitigation by {} replayed images of each selector, {}: over all images of task 1, and over the \
             quarter of highest energy. 95 % bootstrap intervals over images, one buffer each.",
            arms.budget,
            gauge.name()
        );
        section.figure(&panels, &[], &caption);
    }
    Ok(())
}

fn table(arms: &Arms, bootstrap: &Bootstrap) -> Result<Table> {
    let mut table = Table::new(&[
        Column::words("gauge", "Measured in"),
        Column::words("selector", "Selector"),
        Column::words("group", "Images of task 1"),
        Column::numbers("n", "n"),
        Column::intervals("mitigation", "mean mitigation"),
    ]);
    for gauge in Gauge::ALL {
        for arm in &arms.arms {
            for group in Group::ALL {
                let interval = mean(arms, arm, group, gauge, bootstrap)?;
                table.row(vec![
                    gauge.name().into(),
                    arm.policy.name().into(),
                    group.name().into(),
                    Cell::Count(interval.n as u64),
                    Cell::Interval(interval),
                ]);
            }
        }
    }
    Ok(table)
}

/// Rank correlations of the energy before with what came after.
fn correlations(arms: &Arms, bootstrap: &Bootstrap) -> Result<Table> {
    let mut table = Table::new(&[
        Column::words("of", "Energy before, without its own copy, and"),
        Column::intervals("spearman", "Spearman"),
        Column::intervals("shuffled", "shuffled"),
    ]);
    for (name, values) in [
        ("ΔE, closed form", &arms.rise),
        ("E after, closed form", &arms.energy_after),
        ("rise of −(1/β) log p, machine", &arms.machine_rise),
        ("−(1/β) log p after, machine", &arms.machine_after),
        ("raw ΔE, machine", &arms.machine_raw_rise),
        ("−(1/β) log p before, machine", &arms.machine_before),
    ] {
        let rank = RankCorrelation::new(&arms.energy, values, &[])?;
        table.row(vec![
            name.into(),
            Cell::Interval(rank.interval(bootstrap)?),
            Cell::Interval(rank.shuffled(bootstrap)?),
        ]);
    }
    Ok(table)
}

fn examples(tasks: &ImageTasks, arms: &Arms) -> Table {
    let mut table = Table::new(&[
        Column::words("example", "Example"),
        Column::numbers("class", "Class"),
        Column::numbers("energy_loo", "E without its own copy"),
        Column::numbers("energy_before", "E before"),
        Column::numbers("energy_after", "E after"),
        Column::numbers("rise", "ΔE"),
        Column::numbers("machine_before", "−(1/β) log p before"),
        Column::numbers("machine_after", "after, no replay"),
        Column::numbers("machine_raw_rise", "raw ΔE"),
    ]);
    for i in 0..tasks.old.len() {
        table.row(vec![
            format!("{:016x}", tasks.ids[i]).as_str().into(),
            Cell::Count(u64::from(tasks.labels[i])),
            Cell::Number(arms.energy[i]),
            Cell::Number(arms.energy_before[i]),
            Cell::Number(arms.energy_after[i]),
            Cell::Number(arms.rise[i]),
            Cell::Number(arms.machine_before[i]),
            Cell::Number(arms.machine_after[i]),
            Cell::Number(arms.machine_raw_rise[i]),
        ]);
    }
    table
}

fn mitigation(tasks: &ImageTasks, arms: &Arms) -> Table {
    let mut table = Table::new(&[
        Column::words("selector", "Selector"),
        Column::words("example", "Example"),
        Column::words("buffered", "Buffered"),
        Column::numbers("gain", "G, closed form"),
        Column::numbers("mitigation", "mitigation, machine"),
    ]);
    for arm in &arms.arms {
        for i in 0..tasks.old.len() {
            table.row(vec![
                arm.policy.name().into(),
                format!("{:016x}", tasks.ids[i]).as_str().into(),
                if arm.is_kept[i] { "yes" } else { "no" }.into(),
                Cell::Number(arm.gain[i]),
                Cell::Number(arm.mitigation[i]),
            ]);
        }
    }
    table
}
