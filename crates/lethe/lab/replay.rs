//! E2: what replaying each pattern gains for each other one. The paper, section 5 and app. H.

use super::family::{Family, ORDER};
use super::replication;
use super::ruling::{Ruling, energy_floor, gain_floor};
use super::setting::Turning;
use anyhow::Result;
use lethe_candlex::rng::Stream;
use lethe_hopfield::Network;
use lethe_hopfield::replay_gain::{gain, gain_by_adding, net_gain, susceptibility};
use lethe_hopfield::rise::Rises;
use lethe_hopfield::rotation::Generator;
use lethe_ledger::statistics::{Bootstrap, Interval};
use lethe_report::article::Section;
use lethe_report::figure::{Bar, BarChart, Caption, HeatMap, Spacing};
use lethe_report::number;
use lethe_report::table::{Cell, Column, Table};
use rayon::prelude::*;

/// Rotations in which every gain is also taken by really adding the pattern.
const ADDED: usize = 50;

/// Rotations whose maps are held together.
const TOGETHER: usize = 128;

/// What is kept of one gain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Gain {
    /// G.
    raw: f64,
    /// G − G⁰.
    net: f64,
    /// ρ ΔE.
    first_order: f64,
}

const N_FAMILIES: usize = Family::ALL.len();

/// The gains at one angle.
pub struct AtAngle {
    angle: f64,
    /// Mean gain of each (target, source), [n + 1, n + 1].
    map: Vec<Gain>,
    /// Mean gain of each family in each rotation.
    families: Vec<[Gain; N_FAMILIES]>,
    /// In how many single cells the exact net gain lies below its first order although the energy rose.
    below: usize,
}

impl AtAngle {
    /// Mean net gain of each family.
    pub fn means(&self) -> impl Iterator<Item = f64> {
        Family::ALL.into_iter().map(|family| self.mean(family, |gain| gain.net))
    }

    fn mean(&self, family: Family, of: impl Fn(&Gain) -> f64) -> f64 {
        let values = self.family(family, of);
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// By which share the mean net gain of each family lies above its first order.
    fn excesses(&self, bootstrap: &Bootstrap, families: &[Family]) -> Result<Vec<Interval>> {
        let statistic = |counts: &[u32]| {
            let mut sums = vec![[0.; 2]; families.len()];
            for (gains, &count) in self.families.iter().zip(counts).filter(|(_, n)| **n > 0) {
                for (sum, family) in sums.iter_mut().zip(families) {
                    let gain = gains[*family as usize];
                    sum[0] += f64::from(count) * gain.net;
                    sum[1] += f64::from(count) * gain.first_order;
                }
            }
            Some(sums.into_iter().map(|[net, first]| net / first - 1.).collect())
        };
        Ok(bootstrap.intervals("gain above its first order", self.families.len(), statistic)?)
    }

    fn family(&self, family: Family, of: impl Fn(&Gain) -> f64) -> Vec<f64> {
        self.families.iter().map(|gains| of(&gains[family as usize])).collect()
    }
}

/// Writes the section: claims, maps, families, tables.
///
/// # Errors
/// When an interval is undefined.
pub fn write(turning: &Turning, section: &mut Section) -> Result<()> {
    section.paragraph(
        "One replayed copy of pattern r lowers the energy of the old state of pattern k. \
         Adding the copy is the paper's equation 13, the logarithm its equation 14. The gain is taken net of what the same copy gains without a change of task; \
         to first order it is the susceptibility times the energy rise.",
    );
    section.law("G = E(x | X_new) − E(x | X_new ∪ {ξ_r}) = (1/β) log(1 + p_r exp(βΔE))");
    section.law("G − G⁰ ≈ ρ ΔE,   G⁰ = (1/β) log(1 + p_r),   ρ = p_r/(1 + p_r)");
    let all = measure(turning);
    write_identity(turning, section)?;
    for found in &all {
        write_claims(turning, found, section)?;
    }
    write_bars(turning, &all, section)?;
    write_maps(turning, &all, section);
    section.table("replay", families(turning, &all)?);
    section.hidden_table("replay-map", map(turning, &all));
    section.hidden_table("replay-rotations", rotations(&all));
    Ok(())
}

/// The families that the geometry has: a cluster of one has no pairs.
fn present(turning: &Turning) -> impl Iterator<Item = Family> {
    let has_pairs = turning.setting.cluster > 1;
    Family::ALL.into_iter().filter(move |family| has_pairs || *family != Family::WithinCluster)
}

/// The gains of every pattern for every other, at every angle.
pub fn measure(turning: &Turning) -> Vec<AtAngle> {
    turning.rises.iter().map(|rises| at_angle(turning, rises)).collect()
}

fn at_angle(turning: &Turning, rises: &Rises) -> AtAngle {
    let n = turning.recalls.len();
    let beta = turning.setting.inverse_temperature;
    // G = G⁰ + (G − G⁰): the first does not depend on the rotation.
    let constants = turning.recalls.iter().flat_map(|recall| &recall.association);
    let constants: Vec<[f64; 2]> =
        constants.map(|&p| [gain(p, 0., beta), susceptibility(p)]).collect();
    let of_rotation = |rises: &&[f64]| -> Vec<Gain> {
        let of_target = |(constants, &rise): (&[[f64; 2]], &f64)| {
            let net_gain = net_gain(rise, beta);
            let cell = move |[baseline, rho]: &[f64; 2]| {
                let net = net_gain(*rho);
                Gain { raw: baseline + net, net, first_order: rho * rise }
            };
            constants.iter().map(cell).collect::<Vec<Gain>>()
        };
        constants.chunks(n).zip(*rises).flat_map(of_target).collect()
    };
    let rotations: Vec<&[f64]> = rises.rotations().collect();
    let mut sums = vec![Gain::default(); n * n];
    let (mut below, mut families) = (0, Vec::with_capacity(rotations.len()));
    // Maps of all rotations at once would not fit a large cluster.
    for rotations in rotations.chunks(TOGETHER) {
        let cells: Vec<Vec<Gain>> = rotations.par_iter().map(of_rotation).collect();
        for (cells, rises) in cells.iter().zip(rotations) {
            for (at, (sum, cell)) in sums.iter_mut().zip(cells).enumerate() {
                *sum = plus(*sum, *cell);
                // Convexity, up to the last digits of both numbers.
                let slack = 1e-14 * cell.first_order.abs();
                below += usize::from(rises[at / n] > 0. && cell.net < cell.first_order - slack);
            }
            families.push(family_means(cells, turning.setting.cluster));
        }
    }
    let count = rotations.len() as f64;
    AtAngle {
        angle: rises.angle,
        map: sums.into_iter().map(|sum| over(sum, count)).collect(),
        families,
        below,
    }
}

fn family_means(cells: &[Gain], cluster: usize) -> [Gain; N_FAMILIES] {
    let n = cluster + 1;
    let (mut sums, mut counts) = ([Gain::default(); N_FAMILIES], [0.; N_FAMILIES]);
    for (at, cell) in cells.iter().enumerate() {
        let family = Family::of(at / n, at % n, cluster) as usize;
        sums[family] = plus(sums[family], *cell);
        counts[family] += 1.;
    }
    std::array::from_fn(|i| if counts[i] > 0. { over(sums[i], counts[i]) } else { sums[i] })
}

fn plus(a: Gain, b: Gain) -> Gain {
    Gain { raw: a.raw + b.raw, net: a.net + b.net, first_order: a.first_order + b.first_order }
}

fn over(sum: Gain, n: f64) -> Gain {
    Gain { raw: sum.raw / n, net: sum.net / n, first_order: sum.first_order / n }
}

/// A4: eq. 13 by really adding the pattern, against eq. 14.
fn write_identity(turning: &Turning, section: &mut Section) -> Result<()> {
    let rotations = turning.rises[0].rotations().len().min(ADDED);
    let stream = turning.setting.rotations();
    let worst: Vec<f64> = (0..rotations as u64)
        .into_par_iter()
        .map(|rotation| largest_difference(turning, stream, rotation))
        .collect::<Result<_>>()?;
    let worst = worst.into_iter().fold(0., f64::max);
    let targets = turning.recalls.len();
    // Energies are as exact as they are large.
    let largest = turning.recalls.iter().map(|recall| recall.energy.abs()).fold(1., f64::max);
    section.verdict(
        worst <= 1e-12 * largest,
        "A4",
        "adding the pattern (eq. 13) and the logarithm (eq. 14) agree",
        &format!(
            "{} gains, {worst:.1e} apart at most",
            rotations * targets * targets * turning.rises.len()
        ),
    );
    Ok(())
}

fn largest_difference(turning: &Turning, stream: Stream, rotation: u64) -> Result<f64> {
    let (network, beta) = (&turning.network, turning.setting.inverse_temperature);
    let generator = Generator::draw(turning.points.d(), &mut stream.at(0, rotation));
    let angles: Vec<f64> = turning.rises.iter().map(|rises| rises.angle).collect();
    let mut worst = 0f64;
    for turned in generator.rotate(&angles, network.patterns())? {
        let new = Network::new(turned, beta)?;
        for (x, recall) in turning.points.rows().zip(&turning.recalls) {
            let rise = new.energy(x)? - recall.energy;
            for (&p, pattern) in recall.association.iter().zip(network.patterns().rows()) {
                let difference = gain_by_adding(&new, pattern, x)? - gain(p, rise, beta);
                worst = worst.max(difference.abs());
            }
        }
    }
    Ok(worst)
}

fn write_claims(turning: &Turning, found: &AtAngle, section: &mut Section) -> Result<()> {
    let bootstrap = turning.setting.bootstrap();
    let families: Vec<Family> = present(turning).collect();
    let is_present = |pair: &&[Family; 2]| pair.iter().all(|family| families.contains(family));
    for pair @ [more, less] in ORDER.iter().filter(is_present) {
        let gap = gap(&bootstrap, found, *more, *less)?;
        let gains = pair.map(|family| found.mean(family, |gain| gain.net));
        let largest = pair.map(|family| susceptibility(association(turning, family)));
        let floor = gain_floor(turning, largest[0].max(largest[1]), &gains);
        Ruling::above(&gap, floor).write(
            section,
            "A5",
            &format!("{} gains more than {}, ε {}", more.name(), less.name(), found.angle),
            &format!("difference {}", number::interval(&gap)),
        );
    }
    write_first_order(turning, found, section)?;
    write_replication(turning, found, section);
    Ok(())
}

/// A6: the higher orders grow with the angle, 3 % at the appendices', 17 % at the main text's.
fn write_first_order(turning: &Turning, found: &AtAngle, section: &mut Section) -> Result<()> {
    let families: Vec<Family> = present(turning).collect();
    let is_known = |family: &Family| {
        let floor = gain_floor(turning, susceptibility(association(turning, *family)), &[]);
        found.mean(*family, |gain| gain.first_order).abs() > 1e3 * floor
    };
    let claim =
        |within: &str| format!("net gain is susceptibility times rise{within}, ε {}", found.angle);
    if !families.iter().all(is_known) {
        let ruling = Ruling::rounding(energy_floor(turning));
        ruling.write(section, "A6", &claim(""), "gains are of the size of energies' rounding");
        return Ok(());
    }
    let excesses = found.excesses(&turning.setting.bootstrap(), &families)?;
    let bound = [(0.02, 0.03), (0.05, 0.17)];
    let bound = bound.into_iter().find(|(angle, _)| found.angle.abs() <= *angle);
    let bound = bound.map(|(_, bound)| bound);
    let ruling = bound.map_or(Ruling::undecided("so large an angle is beyond it"), |bound| {
        Ruling::within(&excesses, bound)
    });
    let within = bound.map_or(String::new(), |bound| format!(" to {}", number::percent(bound)));
    let ends = |of: fn(&Interval) -> f64| {
        let values = excesses.iter().map(of);
        (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
    };
    let ((smallest, largest), (low, _), (_, high)) =
        (ends(|e| e.estimate), ends(|e| e.low), ends(|e| e.high));
    ruling.write(
        section,
        "A6",
        &claim(&within),
        &format!(
            "exact means lie {} to {} above the first order, intervals from {} to {}; {} of single gains below it \
             where the energy rose",
            number::percent(smallest),
            number::percent(largest),
            number::percent(low),
            number::percent(high),
            found.below
        ),
    );
    Ok(())
}

fn gap(bootstrap: &Bootstrap, found: &AtAngle, more: Family, less: Family) -> Result<Interval> {
    let net = |family| found.family(family, |gain| gain.net);
    Ok(bootstrap.mean_difference(&net(more), &net(less))?)
}

fn write_replication(turning: &Turning, found: &AtAngle, section: &mut Section) {
    let Some(reference) =
        replication::at(found.angle).filter(|_| turning.setting.is_of_the_paper())
    else {
        return;
    };
    let errors = Family::ALL.into_iter().zip(reference.net_gains).map(|(family, published)| {
        replication::standard_errors(&found.family(family, |gain| gain.net), published)
    });
    let errors: Vec<f64> = errors.collect();
    let words: Vec<String> = errors.iter().map(|error| number::with_decimals(*error, 2)).collect();
    let agree = || Ruling::decided(errors.iter().all(|error| error.abs() <= 3.));
    Ruling::of_many(found.families.len(), agree).write(
        section,
        "published",
        &format!("the mean net gains are those of the public replication, ε {}", found.angle),
        &format!("{} standard errors away", words.join(", ")),
    );
}

fn write_bars(turning: &Turning, all: &[AtAngle], section: &mut Section) -> Result<()> {
    let bootstrap = turning.setting.bootstrap();
    let mut panels = Vec::new();
    for found in all {
        let mut bars = Vec::new();
        for family in present(turning) {
            let interval = bootstrap.mean(&found.family(family, |gain| gain.net))?;
            bars.push(Bar::new(family.name(), family.ink(), interval));
        }
        let angle = found.angle;
        let caption = Caption::new(
            format!("families-{angle}"),
            format!("Net replay gain by family, ε {angle}"),
            "Five families on a logarithmic axis.",
        );
        let label = format!("net gain G − G⁰, ε {angle}");
        let chart = BarChart { spacing: Spacing::Log10, ..BarChart::new(caption, label, bars) };
        panels.push(chart.draw());
    }
    let caption = format!(
        "{}; mean over {} rotations, 95 % bootstrap intervals over rotations.",
        turning.setting.in_words(),
        number::count(all[0].families.len() as u64)
    );
    section.figure(&panels, &[], &caption);
    Ok(())
}

fn write_maps(turning: &Turning, all: &[AtAngle], section: &mut Section) {
    let n = turning.recalls.len();
    let names: Vec<String> =
        (0..n).map(|k| if k + 1 == n { "out".to_owned() } else { k.to_string() }).collect();
    let map = |found: &AtAngle, what: &str, of: fn(&Gain) -> f64| {
        let cells: Vec<Vec<Option<f64>>> = found
            .map
            .chunks(n)
            .map(|row| row.iter().map(|gain| Some(of(gain))).collect())
            .collect();
        let caption = Caption::new(
            format!("map-{what}-{}", found.angle),
            format!("{what} gain of every source for every target, ε {}", found.angle),
            "The diagonal, each pattern for itself, is far above the rest.",
        );
        let heading = format!("{what} gain, ε {}", found.angle);
        let axes = (("target", names.clone()), ("source", names.clone()));
        HeatMap { heading, ..HeatMap::new(caption, axes.0, axes.1, cells) }.by_logarithm().draw()
    };
    let panels: Vec<_> = all
        .iter()
        .flat_map(|found| [map(found, "net", |gain| gain.net), map(found, "raw", |gain| gain.raw)])
        .collect();
    let caption = format!(
        "{}; mean gain for the old fixed point of the target from replaying the source, logarithmic shades.",
        turning.setting.in_words()
    );
    section.figure(&panels, &[], &caption);
}

fn families(turning: &Turning, all: &[AtAngle]) -> Result<Table> {
    let bootstrap = turning.setting.bootstrap();
    let beta = turning.setting.inverse_temperature;
    let mut table = Table::new(&[
        Column::numbers("angle", "ε"),
        Column::words("family", "Replay"),
        Column::numbers("association", "p").of_any_size(),
        Column::intervals("net_gain", "G − G⁰").of_any_size(),
        Column::intervals("first_order", "ρ ΔE").of_any_size(),
        Column::intervals("raw_gain", "G").of_any_size(),
        Column::numbers("baseline", "G⁰").of_any_size(),
    ]);
    for found in all {
        for family in present(turning) {
            let p = association(turning, family);
            table.row(vec![
                Cell::Given(found.angle),
                family.name().into(),
                Cell::Number(p),
                Cell::Interval(bootstrap.mean(&found.family(family, |gain| gain.net))?),
                Cell::Interval(bootstrap.mean(&found.family(family, |gain| gain.first_order))?),
                Cell::Interval(bootstrap.mean(&found.family(family, |gain| gain.raw))?),
                Cell::Number(gain(p, 0., beta)),
            ]);
        }
    }
    Ok(table)
}

/// p of the first pair of a family; by symmetry that of all.
fn association(turning: &Turning, family: Family) -> f64 {
    let n = turning.recalls.len();
    let pairs = (0..n).flat_map(|target| (0..n).map(move |source| (target, source)));
    let mut of_family =
        pairs.filter(|&(target, source)| Family::of(target, source, n - 1) == family);
    of_family
        .next()
        .map_or(f64::NAN, |(target, source)| turning.recalls[target].association[source])
}

fn map(turning: &Turning, all: &[AtAngle]) -> Table {
    let n = turning.recalls.len();
    let beta = turning.setting.inverse_temperature;
    let mut table = Table::new(&[
        Column::numbers("angle", "ε"),
        Column::numbers("target", "Target"),
        Column::numbers("source", "Source"),
        Column::words("family", "Replay"),
        Column::numbers("association", "p").of_any_size(),
        Column::numbers("raw_gain", "G").of_any_size(),
        Column::numbers("baseline", "G⁰").of_any_size(),
        Column::numbers("net_gain", "G − G⁰").of_any_size(),
        Column::numbers("first_order", "ρ ΔE").of_any_size(),
    ]);
    for found in all {
        for (at, cell) in found.map.iter().enumerate() {
            let (target, source) = (at / n, at % n);
            let p = turning.recalls[target].association[source];
            table.row(vec![
                Cell::Given(found.angle),
                Cell::Count(target as u64),
                Cell::Count(source as u64),
                Family::of(target, source, n - 1).name().into(),
                Cell::Number(p),
                Cell::Number(cell.raw),
                Cell::Number(gain(p, 0., beta)),
                Cell::Number(cell.net),
                Cell::Number(cell.first_order),
            ]);
        }
    }
    table
}

fn rotations(all: &[AtAngle]) -> Table {
    let mut table = Table::new(&[
        Column::numbers("angle", "ε"),
        Column::numbers("rotation", "Rotation"),
        Column::words("family", "Replay"),
        Column::numbers("raw_gain", "G").of_any_size(),
        Column::numbers("net_gain", "G − G⁰").of_any_size(),
        Column::numbers("first_order", "ρ ΔE").of_any_size(),
    ]);
    for found in all {
        for (rotation, gains) in found.families.iter().enumerate() {
            for (family, gain) in Family::ALL.into_iter().zip(gains) {
                table.row(vec![
                    Cell::Given(found.angle),
                    Cell::Count(rotation as u64),
                    family.name().into(),
                    Cell::Number(gain.raw),
                    Cell::Number(gain.net),
                    Cell::Number(gain.first_order),
                ]);
            }
        }
    }
    table
}
