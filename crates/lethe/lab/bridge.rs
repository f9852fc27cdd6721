//! E6: energies read from trained denoisers against the closed form; what is left is score-learning forgetting.

use super::bounds;
use super::estimators::{Estimator, Reader, tensor};
use super::setting::Setting;
use crate::meter::Meter;
use anyhow::{Context, Result, ensure};
use clap::Args;
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::ExactDenoiser;
use lethe_diffusion::schedule::{NoiseSchedule, ScheduleSpec, Timestep};
use lethe_hopfield::rotation::Generator;
use lethe_hopfield::{Arrival, Network, Vectors};
use lethe_ledger::statistics::{Bootstrap, pearson};
use lethe_probe::denoiser_energy::FinalDensity;
use lethe_report::article::Section;
use lethe_report::figure::{Axis, Caption, Cloud, Ink, LineChart, Scatter, Series};
use lethe_report::number;
use lethe_report::table::{Cell, Column, Table};
use lethe_vector::{Circle, Patterns, Perceptron, PerceptronSpec, Source, Task, TrainingSpec, fit};

/// The network, its training, and the rotated tasks.
#[derive(Args, Clone, Debug)]
pub struct Learning {
    /// Angle eps of the rotations
    #[arg(long, value_name = "EPS", default_value_t = 0.05, allow_negative_numbers = true)]
    pub angle: f64,
    /// Random rotations, at least 2, each a second task learned from the same first
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub rotations: usize,
    /// Width of the network
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub width: usize,
    /// Its residual blocks
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub blocks: usize,
    /// Steps on task 1
    #[arg(long, value_name = "N", default_value_t = 4000)]
    pub steps: u64,
    /// Steps on task 2
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub later_steps: u64,
    /// Samples of a step
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub batch: usize,
    /// AdamW's learning rate on task 1; half of it on task 2
    #[arg(long, value_name = "RATE", default_value_t = 2e-3, allow_negative_numbers = true)]
    pub learning_rate: f64,
}

/// Inverse temperatures at which the circle's energy is read.
const CIRCLE_TEMPERATURES: [f64; 3] = [3., 10., 30.];

/// Radii at which it is read, in units of its radius.
const RADII: usize = 9;
const WIDEST: f64 = 1.6;

/// Energies of the patterns' fixed points, learned and in closed form.
struct Learned {
    /// β at the level where energies are read.
    inverse_temperature: f64,
    /// E after task 1 in closed form, [points].
    truth: Vec<f64>,
    /// By the estimators from the exact denoiser of task 1, [estimators][points].
    exact: Vec<Vec<f64>>,
    /// From the network after task 1.
    before: Vec<Vec<f64>>,
    /// After a second task that was not rotated.
    control: Vec<Vec<f64>>,
    /// After each rotated task 2, and ΔE in closed form.
    rotated: Vec<(Vec<Vec<f64>>, Vec<f64>)>,
}

/// Trains everything and writes the section.
///
/// # Errors
/// When a setting does not fit or training diverges.
pub fn write(setting: &Setting, learning: &Learning, section: &mut Section) -> Result<()> {
    setting.check()?;
    learning.check()?;
    ensure!(learning.angle != 0., "--angle: expected a rotation, got 0: nothing would rise");
    let learned = Learned::measure(setting, learning)?;
    section.paragraph(&format!(
        "A score network learns the patterns and then each rotated task; its energies at the old fixed points are read \
         by four estimators at the noise level whose SNR is β {}. In the closed form the energy rises because the task \
         changed; what the network's energy rises beyond that is forgetting by learning, which the paper leaves open. \
         The control learns task 1 a second time, for as long and from the same draws: what its energies rise by is \
         learning's alone.",
        number::short(learned.inverse_temperature)
    ));
    section.law("y = x/α,  v = 1/SNR:   E(y) = −v (log p_v(y) + (d/2) log 2πv) = −(1/β) log (1/M) Σ_μ exp(−(β/2) ‖y − ξ_μ‖²)");
    let bootstrap = setting.bootstrap();
    write_claims(&learned, &bootstrap, section)?;
    write_scatters(setting, learning, &learned, section);
    section.table("bridge", table(&learned, &bootstrap)?);
    section.hidden_table("bridge-points", points(setting, &learned));
    write_circle(setting, learning, section)
}

/// A network of `learning`'s size for data of dimension `d` and deviation `deviation`.
fn perceptron(
    learning: &Learning,
    schedule: &NoiseSchedule,
    d: usize,
    deviation: f64,
) -> Result<Perceptron> {
    let spec = PerceptronSpec {
        dimensions: d,
        width: learning.width,
        blocks: learning.blocks,
        level_channels: 32,
        data_deviation: deviation,
    };
    Ok(Perceptron::new(&spec, schedule)?)
}

impl Learning {
    fn check(&self) -> Result<()> {
        bounds::angle("--angle", self.angle)?;
        bounds::within("--rotations", self.rotations, 2, 1000)?;
        bounds::within("--width", self.width, 1, 4096)?;
        bounds::within("--blocks", self.blocks, 1, 64)?;
        bounds::within("--steps", self.steps, 1, 1 << 30)?;
        bounds::within("--later-steps", self.later_steps, 1, 1 << 30)?;
        bounds::within("--batch", self.batch, 1, 1 << 16)?;
        bounds::learning_rate(self.learning_rate)
    }

    /// Training on task 1, at the levels from `first_level` on.
    fn first(&self, first_level: Timestep) -> TrainingSpec {
        TrainingSpec {
            steps: self.steps,
            batch: self.batch,
            learning_rate: self.learning_rate,
            first_level,
            ..TrainingSpec::default()
        }
    }

    fn later(&self, first_level: Timestep) -> TrainingSpec {
        let learning_rate = 0.5 * self.learning_rate;
        TrainingSpec { steps: self.later_steps, learning_rate, ..self.first(first_level) }
    }
}

impl Learned {
    fn measure(setting: &Setting, learning: &Learning) -> Result<Self> {
        let schedule = NoiseSchedule::new(&ScheduleSpec::default())?;
        let start = schedule.timestep_at_snr(setting.inverse_temperature);
        let beta = schedule.snr(start);
        let patterns = setting.geometry().patterns()?;
        let network = Network::new(patterns.clone(), beta)?;
        let points = network.fixed_points(Arrival { updates: 20_000, ..Arrival::default() })?;
        let seed = Seed(setting.seed);
        let data = tensor(&patterns)?;
        let end = FinalDensity::of_data(&data)?;
        let reader = Reader { points, start, end, seed };
        let deviation = (1. / patterns.d() as f64).sqrt();
        let perceptron = perceptron(learning, &schedule, patterns.d(), deviation)?;
        let school = School { perceptron, learning, start, seed };
        let meter = Meter::new(learning.rotations as f64 + 2.);
        let first = school.first(&Patterns::new(&data)?)?;
        meter.add(1., "task 1");
        let origin = energies(&network, &Vectors::new(vec![0.; patterns.d()], patterns.d())?)?[0];
        let read = |store: &ParamStore| reader.read(&school.perceptron.denoiser(store), origin);
        let truth = energies(&network, &reader.points)?;
        let mut rotated = Vec::with_capacity(learning.rotations);
        for rotation in 0..learning.rotations as u64 {
            let mut draws = setting.rotations().at(0, rotation);
            let generator = Generator::draw(patterns.d(), &mut draws);
            let turned = generator.rotate(&[learning.angle], &patterns)?.remove(0);
            let store = school.second(&first, &Patterns::new(&tensor(&turned)?)?)?;
            let after = energies(&Network::new(turned, beta)?, &reader.points)?;
            let rise = after.iter().zip(&truth).map(|(after, before)| after - before).collect();
            rotated.push((read(&store)?, rise));
            meter.add(1., "rotated tasks");
        }
        let control = school.second(&first, &Patterns::new(&data)?)?;
        meter.finish();
        Ok(Self {
            inverse_temperature: beta,
            exact: reader.read(&ExactDenoiser::new(&data, schedule)?, origin)?,
            before: read(&first)?,
            control: read(&control)?,
            truth,
            rotated,
        })
    }

    /// Energies after each rotated task less those after the control, [rotations][points].
    ///
    /// Both learned for as long, from the same start and the same draws: what learning longer does is in both.
    fn net_rises(&self, estimator: usize) -> Vec<Vec<f64>> {
        self.rotated
            .iter()
            .map(|(after, _)| minus(&after[estimator], &self.control[estimator]))
            .collect()
    }

    /// ΔE in closed form, [rotations][points].
    fn closed(&self) -> Vec<&Vec<f64>> {
        self.rotated.iter().map(|(_, rise)| rise).collect()
    }

    /// Correlation over all rotations and points of the net rise and the closed form's.
    fn correlation(&self, estimator: usize) -> Result<f64> {
        let closed: Vec<f64> = self.closed().into_iter().flatten().copied().collect();
        Ok(pearson(&self.net_rises(estimator).concat(), &closed)?)
    }

    /// What the control's energies rose by, [points]: forgetting by learning alone.
    fn drift(&self, estimator: usize) -> Vec<f64> {
        minus(&self.control[estimator], &self.before[estimator])
    }

    /// Score-learning forgetting: mean over points of the whole learned rise less the closed form's, in each rotation.
    fn gaps(&self, estimator: usize) -> Vec<f64> {
        let drift = mean(&self.drift(estimator));
        let pairs = self.net_rises(estimator).into_iter().zip(self.closed());
        pairs.map(|(net, closed)| mean(&minus(&net, closed)) + drift).collect()
    }
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Root of the mean square.
fn size(values: &[f64]) -> f64 {
    (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt()
}

/// Energies in distance form at unit norms: E_dot + ½ + (1/β) log M, as the patterns' norms are all 1.
fn energies(network: &Network, points: &Vectors) -> Result<Vec<f64>> {
    let beta = network.inverse_temperature();
    let constant = 0.5 + (network.patterns().len() as f64).ln() / beta;
    points.rows().map(|x| Ok(network.energy(x)? + constant)).collect()
}

/// Who is trained, and how.
struct School<'a> {
    perceptron: Perceptron,
    learning: &'a Learning,
    start: Timestep,
    seed: Seed,
}

impl School<'_> {
    fn first(&self, source: &dyn Source) -> Result<ParamStore> {
        let fresh = self.perceptron.initialised(self.seed)?;
        let task = Task { seed: self.seed, number: 1 };
        let spec = self.learning.first(self.start);
        Ok(fit(&self.perceptron, &fresh, source, &spec, task).context("task 1")?.store)
    }

    fn second(&self, first: &ParamStore, source: &dyn Source) -> Result<ParamStore> {
        let task = Task { seed: self.seed, number: 2 };
        let spec = self.learning.later(self.start);
        Ok(fit(&self.perceptron, first, source, &spec, task).context("task 2")?.store)
    }
}

fn write_claims(learned: &Learned, bootstrap: &Bootstrap, section: &mut Section) -> Result<()> {
    for (i, estimator) in Estimator::ALL.into_iter().enumerate() {
        let r = learned.correlation(i)?;
        let gap = bootstrap.mean(&learned.gaps(i))?;
        section.verdict(
            r > 0.9,
            "E6",
            &format!(
                "the learned rise, net of the control, follows the closed form, r above .9 ({})",
                estimator.name()
            ),
            &format!(
                "r {}; score-learning forgetting {}, of which {} in the control",
                number::with_decimals(r, 3),
                number::interval(&gap),
                number::short(mean(&learned.drift(i)))
            ),
        );
    }
    Ok(())
}

fn write_scatters(
    setting: &Setting,
    learning: &Learning,
    learned: &Learned,
    section: &mut Section,
) {
    let n = setting.cluster;
    let panel = |name: &str, title: &str, x: &str, y: &str, pairs: Vec<(usize, f64, f64)>| {
        let of = |is_outlier: bool| {
            pairs
                .iter()
                .filter(|pair| (pair.0 == n) == is_outlier)
                .map(|pair| (pair.1, pair.2))
                .collect()
        };
        let clouds = vec![Cloud::new(Ink::BLUE, of(false)), Cloud::new(Ink::RED, of(true))];
        let caption = Caption::new(name, title, "One point for each pattern and rotation.");
        Scatter { has_diagonal: true, ..Scatter::new(caption, Axis::new(x), Axis::new(y), clouds) }
            .draw()
    };
    let rises = |estimator: Estimator| -> Vec<(usize, f64, f64)> {
        let learned_rises = learned.net_rises(estimator as usize);
        let of = |(learned, closed): (Vec<f64>, &Vec<f64>)| -> Vec<(usize, f64, f64)> {
            closed
                .iter()
                .zip(learned)
                .enumerate()
                .map(|(k, (closed, learned))| (k, *closed, learned))
                .collect()
        };
        learned_rises.into_iter().zip(learned.closed()).flat_map(of).collect()
    };
    let panels: Vec<_> = [Estimator::Bound, Estimator::Flow, Estimator::Ito, Estimator::Line]
        .into_iter()
        .map(|estimator| {
            let y = format!("net ΔE learned, {}", estimator.name());
            let name = format!("bridge-{}", estimator as usize);
            panel(
                &name,
                &format!("Rise by {}", estimator.name()),
                "ΔE, closed form",
                &y,
                rises(estimator),
            )
        })
        .collect();
    let legend = [(Ink::BLUE, "cluster".to_owned()), (Ink::RED, "outlier".to_owned())];
    let caption = format!(
        "{}; ε {}, {} rotations; width {}, {} blocks, {} + {} steps of {}.",
        setting.in_words(),
        learning.angle,
        learning.rotations,
        learning.width,
        learning.blocks,
        learning.steps,
        learning.later_steps,
        learning.batch
    );
    section.figure(&panels, &legend, &caption);
}

fn table(learned: &Learned, bootstrap: &Bootstrap) -> Result<Table> {
    let mut table = Table::new(&[
        Column::words("estimator", "Estimator"),
        Column::numbers("own_error", "own error, exact denoiser").of_any_size(),
        Column::numbers("error_before", "network's error after task 1").of_any_size(),
        Column::numbers("correlation", "r of rises").of_any_size(),
        Column::intervals("net_rise", "mean net ΔE learned").of_any_size(),
        Column::intervals("closed", "mean ΔE, closed form").of_any_size(),
        Column::intervals("gap", "score-learning forgetting").of_any_size(),
        Column::numbers("drift", "of which in the control").of_any_size(),
    ]);
    let closed: Vec<f64> = learned.closed().into_iter().map(|rises| mean(rises)).collect();
    for (i, estimator) in Estimator::ALL.into_iter().enumerate() {
        let rises: Vec<f64> = learned.net_rises(i).iter().map(|rises| mean(rises)).collect();
        table.row(vec![
            estimator.name().into(),
            Cell::Number(size(&minus(&learned.exact[i], &learned.truth))),
            Cell::Number(size(&minus(&learned.before[i], &learned.truth))),
            Cell::Number(learned.correlation(i)?),
            Cell::Interval(bootstrap.mean(&rises)?),
            Cell::Interval(bootstrap.mean(&closed)?),
            Cell::Interval(bootstrap.mean(&learned.gaps(i))?),
            Cell::Number(mean(&learned.drift(i))),
        ]);
    }
    Ok(table)
}

fn points(setting: &Setting, learned: &Learned) -> Table {
    let mut table = Table::new(&[
        Column::words("estimator", "Estimator"),
        Column::numbers("rotation", "Rotation"),
        Column::numbers("pattern", "Pattern"),
        Column::words("kind", "Kind"),
        Column::numbers("net_rise", "net ΔE learned"),
        Column::numbers("drift", "ΔE, control"),
        Column::numbers("closed", "ΔE, closed form"),
    ]);
    for (i, estimator) in Estimator::ALL.into_iter().enumerate() {
        let drift = learned.drift(i);
        for (rotation, (rises, closed)) in
            learned.net_rises(i).iter().zip(learned.closed()).enumerate()
        {
            for (k, (rise, closed)) in rises.iter().zip(closed).enumerate() {
                table.row(vec![
                    estimator.name().into(),
                    Cell::Count(rotation as u64),
                    Cell::Count(k as u64),
                    if k == setting.cluster { "outlier" } else { "cluster" }.into(),
                    Cell::Number(*rise),
                    Cell::Number(drift[k]),
                    Cell::Number(*closed),
                ]);
            }
        }
    }
    table
}

/// The circle, whose energy is known at every level: how well the estimators read a network that learned it.
fn write_circle(setting: &Setting, learning: &Learning, section: &mut Section) -> Result<()> {
    let circle = Circle { radius: 1. };
    let schedule = NoiseSchedule::new(&ScheduleSpec::default())?;
    let coldest = CIRCLE_TEMPERATURES.into_iter().fold(0., f64::max);
    let start = schedule.timestep_at_snr(coldest);
    let seed = Seed(setting.seed);
    let perceptron = perceptron(learning, &schedule, 2, std::f64::consts::FRAC_1_SQRT_2)?;
    let school = School { perceptron, learning, start, seed };
    let store = school.first(&circle)?;
    let denoiser = school.perceptron.denoiser(&store);
    let radii: Vec<f64> = (0..RADII).map(|i| WIDEST * i as f64 / (RADII - 1) as f64).collect();
    // A direction of no meaning: no axis of the network's coordinates.
    let points = radii.iter().flat_map(|r| [r * 0.6, r * 0.8]).collect();
    let points = Vectors::new(points, 2)?;
    let mut table = Table::new(&[
        Column::numbers("inverse_temperature", "β"),
        Column::numbers("radius", "‖y‖"),
        Column::numbers("exact", "E, exact").of_any_size(),
        Column::numbers("bound", "bound").of_any_size(),
        Column::numbers("flow", "probability flow").of_any_size(),
        Column::numbers("ito", "Ito").of_any_size(),
        Column::numbers("line", "line").of_any_size(),
        Column::numbers("bow", "line, bowed").of_any_size(),
    ]);
    let mut panels = Vec::new();
    for wanted in CIRCLE_TEMPERATURES {
        let start = schedule.timestep_at_snr(wanted);
        let beta = schedule.snr(start);
        let end = FinalDensity { mean: None, variance: 0.5 };
        let reader = Reader { points: points.clone(), start, end, seed };
        let read = reader.read(&denoiser, circle.energy(0., beta))?;
        let exact: Vec<f64> = radii.iter().map(|&r| circle.energy(r, beta)).collect();
        for (i, (&radius, &exact)) in radii.iter().zip(&exact).enumerate() {
            let mut row = vec![Cell::Number(beta), Cell::Number(radius), Cell::Number(exact)];
            row.extend(read.iter().map(|energies| Cell::Number(energies[i])));
            table.row(row);
        }
        let line = |ink, values: &[f64]| Series {
            has_markers: ink != Ink::REFERENCE,
            ..Series::plain(ink, radii.iter().copied().zip(values.iter().copied()).collect())
        };
        let mut series = vec![line(Ink::REFERENCE, &exact)];
        let shown = [Estimator::Bound, Estimator::Flow, Estimator::Ito, Estimator::Line];
        series.extend(shown.map(|estimator| line(estimator.ink(), &read[estimator as usize])));
        let caption = Caption::new(
            format!("circle-{wanted}"),
            format!("Energy of a circle at β {}", number::short(beta)),
            "Exact, and read from a network by four estimators.",
        );
        let (x, y) = (
            Axis::new("distance from the centre"),
            Axis::new(format!("E at β {}", number::short(beta))),
        );
        panels.push(
            LineChart {
                size: lethe_report::figure::Size::PANEL,
                ..LineChart::new(caption, x, y, series)
            }
            .draw(),
        );
    }
    section.paragraph(
        "The same estimators on a network that learned the unit circle in the plane, whose energy is known exactly: \
         E = ½(‖y‖² + 1) − (1/β) log I₀(β‖y‖).",
    );
    let mut legend = vec![(Ink::REFERENCE, "exact".to_owned())];
    let shown = [Estimator::Bound, Estimator::Flow, Estimator::Ito, Estimator::Line];
    legend.extend(shown.map(|estimator| (estimator.ink(), estimator.name().to_owned())));
    section.figure(&panels, &legend, "Along one ray; one network read at three levels.");
    section.table("bridge-circle", table);
    Ok(())
}
