//! E1: how far the energies of the cluster and of the outlier rise when the task turns. The paper, section 4 and app. E.

use super::replication;
use super::ruling::{Ruling, energy_floor, rise_floor};
use super::setting::Turning;
use anyhow::Result;
use lethe_hopfield::rise::{Rises, energy_rises, expected_rise};
use lethe_ledger::statistics::Interval;
use lethe_report::article::Section;
use lethe_report::figure::{Axis, Bar, BarChart, Caption, Ink, LineChart, Series};
use lethe_report::number;
use lethe_report::table::{Cell, Column, Table};

/// Angles at which the second-order law is followed, and rotations at each: no more than were asked for.
const LADDER: [f64; 8] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8];
const LADDER_ROTATIONS: usize = 200;

/// What was measured at one angle.
struct AtAngle<'a> {
    rises: &'a Rises,
    outlier: Interval,
    cluster: Interval,
    /// Outlier minus mean of the cluster, paired by rotation.
    difference: Interval,
    /// In how many rotations of all the outlier rises more.
    share: f64,
    /// ΔE of outlier and cluster to second order.
    expected: [f64; 2],
}

/// Writes the section: claims, figures, table.
///
/// # Errors
/// When an interval is undefined.
pub fn write(turning: &Turning, section: &mut Section) -> Result<()> {
    let all: Vec<AtAngle> =
        turning.rises.iter().map(|rises| at_angle(turning, rises)).collect::<Result<_>>()?;
    section.paragraph(
        "A change of task turns every stored pattern by V = exp(εΩ). \
         The energy of an old fixed point then rises by ΔE = E(x | VX) − E(x | X). \
         The paper's claim: the isolated outlier, whose basin is sharp, rises more than the cluster.",
    );
    section.law("E(x) = ½‖x‖² − (1/β) log Σ_μ exp(β ξ_μ·x)");
    section.law("E[ΔE] ≈ (ε²/4) [(d − 1) m₂ − β m₂(1 − m₂) + β Var_p(ξ·x)],   m₂ = ‖x‖²");
    write_claims(turning, &all, section)?;
    write_bars(turning, &all, section);
    write_ladder(turning, section)?;
    section.table("rise", table(turning, &all)?);
    section.table("rise-fixed-points", fixed_points(turning)?);
    section.hidden_table("rise-rotations", rotations(turning));
    Ok(())
}

fn at_angle<'a>(turning: &Turning, rises: &'a Rises) -> Result<AtAngle<'a>> {
    let bootstrap = turning.setting.bootstrap();
    let (outlier, cluster) = (turning.outlier_rises(rises), turning.cluster_rises(rises));
    let more = outlier.iter().zip(&cluster).filter(|(outlier, cluster)| outlier > cluster).count();
    let expected = |k: usize| expected_rise(&turning.network, turning.points.row(k), rises.angle);
    Ok(AtAngle {
        rises,
        outlier: bootstrap.mean(&outlier)?,
        cluster: bootstrap.mean(&cluster)?,
        difference: bootstrap.mean_difference(&outlier, &cluster)?,
        share: more as f64 / outlier.len() as f64,
        expected: [expected(turning.setting.cluster)?, expected(0)?],
    })
}

fn write_claims(turning: &Turning, all: &[AtAngle], section: &mut Section) -> Result<()> {
    let flattest = worst(turning, |x| Ok(turning.network.flatness(x)?))?;
    let residual = worst(turning, |x| {
        let retrieved = turning.network.recall(x)?.retrieved;
        Ok(x.iter().zip(&retrieved).map(|(x, f)| (x - f).powi(2)).sum::<f64>().sqrt())
    })?;
    section.verdict(
        residual <= 1e-12 && flattest < 1.,
        "fixed points",
        "every pattern leads to a stable fixed point",
        &format!("residual ≤ {residual:.1e}, largest eigenvalue of βC {flattest:.3}"),
    );
    let n = turning.setting.cluster;
    let energies: Vec<f64> = turning.recalls.iter().map(|recall| recall.energy).collect();
    let highest = energies[..n].iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ruling::exact(energies[n] - highest, energy_floor(turning)).write(
        section,
        "A1",
        "the outlier's fixed point lies higher than the cluster's",
        &format!("E {} against {}", digits(energies[n]), digits(highest)),
    );
    for found in all {
        let angle = found.rises.angle;
        let means = [found.outlier.estimate, found.cluster.estimate];
        Ruling::above(&found.difference, rise_floor(turning, &means)).write(
            section,
            "A2",
            &format!("the outlier rises more than the cluster, ε {angle}"),
            &format!(
                "difference {}; in {} of single rotations",
                number::interval(&found.difference),
                number::percent(found.share)
            ),
        );
        write_second_order(turning, found, section);
    }
    write_replication(turning, all, section);
    Ok(())
}

/// A3: the formula is of second order, and what it leaves out grows with the angle.
fn write_second_order(turning: &Turning, found: &AtAngle, section: &mut Section) {
    let angle = found.rises.angle;
    let off: Vec<Interval> = [&found.outlier, &found.cluster]
        .into_iter()
        .zip(found.expected)
        .map(|(found, expected)| {
            let off = |mean: f64| mean / expected - 1.;
            Interval {
                estimate: off(found.estimate),
                low: off(found.low),
                high: off(found.high),
                ..*found
            }
        })
        .collect();
    let floor = energy_floor(turning);
    // A thousandth of the rises themselves is to be known.
    let ruling = if !found.expected.iter().all(|expected| *expected > 1e3 * floor) {
        Ruling::rounding(floor)
    } else if angle.abs() <= 0.05 {
        Ruling::within(&off, if angle.abs() <= 0.02 { 0.03 } else { 0.05 })
    } else {
        Ruling::undecided("so large an angle is beyond it")
    };
    let percent = |x: f64| number::percent(x);
    let words = |off: &Interval| {
        let [estimate, low, high] = [off.estimate, off.low, off.high].map(percent);
        format!("{estimate} [{low}, {high}]")
    };
    ruling.write(
        section,
        "A3",
        &format!("the second-order formula gives the mean rise, ε {angle}"),
        &format!("outlier off by {}, cluster by {}", words(&off[0]), words(&off[1])),
    );
}

/// The largest of a number over all fixed points.
fn worst(turning: &Turning, of: impl Fn(&[f64]) -> Result<f64>) -> Result<f64> {
    turning.points.rows().try_fold(0f64, |worst, x| Ok(worst.max(of(x)?)))
}

fn write_replication(turning: &Turning, all: &[AtAngle], section: &mut Section) {
    if !turning.setting.is_of_the_paper() {
        return;
    }
    for (found, reference) in
        all.iter().filter_map(|found| Some((found, replication::at(found.rises.angle)?)))
    {
        let ours = [turning.outlier_rises(found.rises), turning.cluster_rises(found.rises)];
        let errors = ours
            .iter()
            .zip(reference.rises)
            .map(|(ours, theirs)| replication::standard_errors(ours, theirs));
        let errors: Vec<f64> = errors.collect();
        let agree = || Ruling::decided(errors.iter().all(|error| error.abs() <= 3.));
        Ruling::of_many(found.rises.rotations().len(), agree).write(
            section,
            "published",
            &format!("the mean rises are those of the public replication, ε {}", reference.angle),
            &format!(
                "outlier {}, cluster {} standard errors away",
                number::with_decimals(errors[0], 2),
                number::with_decimals(errors[1], 2)
            ),
        );
    }
}

fn write_bars(turning: &Turning, all: &[AtAngle], section: &mut Section) {
    let panels: Vec<_> = all
        .iter()
        .map(|found| {
            let angle = found.rises.angle;
            let caption = Caption::new(
                format!("rise-{angle}"),
                format!("Mean energy rise, ε {angle}"),
                format!(
                    "Outlier {}, cluster {}.",
                    number::interval(&found.outlier),
                    number::interval(&found.cluster)
                ),
            );
            let bars = vec![
                Bar::new("outlier", Ink::RED, found.outlier),
                Bar::new("cluster", Ink::BLUE, found.cluster),
                Bar::new("difference", Ink::REFERENCE, found.difference),
            ];
            BarChart::new(caption, format!("mean ΔE, ε {angle}"), bars).draw()
        })
        .collect();
    let caption = format!(
        "{}; mean over {} rotations, 95 % bootstrap intervals over rotations.",
        turning.setting.in_words(),
        number::count(all[0].rises.rotations().len() as u64)
    );
    section.figure(&panels, &[], &caption);
}

/// Mean rise over the angle, beside the second-order law.
fn write_ladder(turning: &Turning, section: &mut Section) -> Result<()> {
    let cluster = turning.setting.cluster;
    let stream = turning.setting.rotations();
    let asked = turning.rises.iter().map(|rises| rises.rotations().len()).max();
    let rotations = asked.unwrap_or(0).min(LADDER_ROTATIONS);
    let found = energy_rises(&turning.network, &turning.points, &LADDER, rotations, stream)?;
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let measured = |of: &dyn Fn(&Rises) -> Vec<f64>| {
        found.iter().map(|rises| (rises.angle, mean(of(rises)))).collect()
    };
    let law = |k: usize| -> Result<Vec<(f64, f64)>> {
        let at = |&angle: &f64| {
            Ok((angle, expected_rise(&turning.network, turning.points.row(k), angle)?))
        };
        LADDER.iter().map(at).collect()
    };
    let line = |ink, points, has_markers| Series { has_markers, ..Series::plain(ink, points) };
    let caption = Caption::new(
        "rise-over-angle",
        "Energy rise over the angle of rotation",
        "Both grow with the square of the angle until states leave their basins.",
    );
    let series = vec![
        line(Ink::RED.dashed(), law(cluster)?, false),
        line(Ink::BLUE.dashed(), law(0)?, false),
        line(Ink::RED, measured(&|rises| turning.outlier_rises(rises)), true),
        line(Ink::BLUE, measured(&|rises| turning.cluster_rises(rises)), true),
    ];
    let chart = LineChart::new(caption, Axis::log10("angle ε"), Axis::log10("mean ΔE"), series);
    let legend = [
        (Ink::RED, "outlier".to_owned()),
        (Ink::BLUE, "cluster".to_owned()),
        (Ink::RED.dashed(), "outlier, second order".to_owned()),
        (Ink::BLUE.dashed(), "cluster, second order".to_owned()),
    ];
    let caption =
        format!("{}; mean over {rotations} rotations at each angle.", turning.setting.in_words());
    section.figure(&[chart.draw()], &legend, &caption);
    Ok(())
}

fn table(turning: &Turning, all: &[AtAngle]) -> Result<Table> {
    let mut table = Table::new(&[
        Column::numbers("angle", "ε"),
        Column::words("pattern", "Pattern"),
        Column::intervals("rise", "ΔE").of_any_size(),
        Column::numbers("second_order", "second order").of_any_size(),
        Column::numbers("published", "published").of_any_size(),
        Column::numbers("standard_errors", "s.e. away"),
    ]);
    let reference =
        |angle| turning.setting.is_of_the_paper().then(|| replication::at(angle)).flatten();
    for found in all {
        let angle = found.rises.angle;
        let outlier = ("outlier", found.outlier, turning.outlier_rises(found.rises));
        let cluster = ("cluster", found.cluster, turning.cluster_rises(found.rises));
        for (i, (name, interval, values)) in [outlier, cluster].into_iter().enumerate() {
            let missing = || Cell::Missing("no published figure for this setting".to_owned());
            let published = reference(angle).map(|reference| reference.rises[i]);
            table.row(vec![
                Cell::Given(angle),
                name.into(),
                Cell::Interval(interval),
                Cell::Number(found.expected[i]),
                published.map_or_else(missing, Cell::Number),
                published.map_or_else(missing, |p| {
                    Cell::Number(replication::standard_errors(&values, p))
                }),
            ]);
        }
        table.row(vec![
            Cell::Given(angle),
            "difference".into(),
            Cell::Interval(found.difference),
            Cell::Number(found.expected[0] - found.expected[1]),
            Cell::Missing("not published as a mean".to_owned()),
            Cell::Missing("not published as a mean".to_owned()),
        ]);
    }
    Ok(table)
}

fn fixed_points(turning: &Turning) -> Result<Table> {
    let mut table = Table::new(&[
        Column::numbers("pattern", "Pattern"),
        Column::words("kind", "Kind"),
        Column::numbers("energy_pattern", "E(ξ)"),
        Column::numbers("energy_fixed_point", "E(x*)"),
        Column::numbers("square_norm", "m₂ = ‖x*‖²"),
        Column::numbers("entropy", "H(p), nats"),
        Column::numbers("self_association", "p of itself"),
        Column::numbers("flatness", "max eig βC"),
    ]);
    for (k, (x, recall)) in turning.points.rows().zip(&turning.recalls).enumerate() {
        let pattern = turning.network.patterns().row(k);
        table.row(vec![
            Cell::Count(k as u64),
            if k == turning.setting.cluster { "outlier" } else { "cluster" }.into(),
            Cell::Number(turning.network.energy(pattern)?),
            Cell::Number(recall.energy),
            Cell::Number(x.iter().map(|x| x * x).sum()),
            Cell::Number(recall.entropy),
            Cell::Number(recall.association[k]),
            Cell::Number(turning.network.flatness(x)?),
        ]);
    }
    Ok(table)
}

/// ΔE of every pattern in every rotation.
fn rotations(turning: &Turning) -> Table {
    let mut table = Table::new(&[
        Column::numbers("angle", "ε"),
        Column::numbers("rotation", "Rotation"),
        Column::numbers("pattern", "Pattern"),
        Column::numbers("rise", "ΔE").of_any_size(),
    ]);
    for rises in &turning.rises {
        for (rotation, values) in rises.rotations().enumerate() {
            for (pattern, &rise) in values.iter().enumerate() {
                table.row(vec![
                    Cell::Given(rises.angle),
                    Cell::Count(rotation as u64),
                    Cell::Count(pattern as u64),
                    Cell::Number(rise),
                ]);
            }
        }
    }
    table
}

/// Six digits: the energies of cluster and outlier differ in the third.
fn digits(energy: f64) -> String {
    number::with_decimals(energy, 6)
}
