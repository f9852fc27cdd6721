//! A mixed population: how energy ranks expected rises where every pattern has its own surroundings.

use super::setting::Setting;
use anyhow::Result;
use lethe_candlex::rng::Seed;
use lethe_hopfield::geometry::Equiangular;
use lethe_hopfield::regime::{Window, Witness};
use lethe_hopfield::rise::expected_rise;
use lethe_hopfield::rotation::Generator;
use lethe_hopfield::{Arrival, Network, Vectors};
use lethe_ledger::statistics::spearman;
use lethe_report::article::Section;
use lethe_report::figure::{Axis, Caption, Ink, LineChart, Series};
use lethe_report::number;
use lethe_report::table::{Cell, Column, Table};
use rayon::prelude::*;

/// Clusters of the mixed population: patterns and overlap of each.
const DENSITIES: [(usize, f64); 3] = [(8, 0.3), (8, 0.4), (8, 0.5)];
/// Random patterns beside them, and the dimension of all.
const STRANGERS: usize = 8;
const SPACE: usize = 64;

/// Unit patterns: three clusters of unlike density, each turned at random, and random directions.
fn population(seed: u64) -> Result<Vectors> {
    let stream = Seed(seed).stream("population");
    let mut values = Vec::new();
    for (i, (cluster, overlap)) in DENSITIES.into_iter().enumerate() {
        let geometry = Equiangular { cluster, overlap, dimension: SPACE };
        let generator = Generator::draw(SPACE, &mut stream.at(0, i as u64));
        // A turn by a large angle: the cluster's place has nothing to do with the coordinates.
        let turned = generator.rotate(&[3.], &geometry.patterns()?)?.remove(0);
        values.extend_from_slice(&turned.values()[..cluster * SPACE]);
    }
    for i in 0..STRANGERS {
        let mut draws = stream.at(1, i as u64);
        let direction: Vec<f64> = (0..SPACE / 2).flat_map(|_| draws.normal_pair()).collect();
        let norm = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        values.extend(direction.iter().map(|x| x / norm));
    }
    Ok(Vectors::new(values, SPACE)?)
}

/// What a mixed population shows at one β.
struct Ranked {
    /// Spearman's correlation of the fixed points' energies and their expected rises.
    rank: f64,
    /// The largest expected rise over the smallest, less 1.
    spread: f64,
    witness: Witness,
}

/// Energies and expected rises of the fixed points of `patterns` at `beta`.
fn ranked(patterns: &Vectors, beta: f64) -> Result<Ranked> {
    let network = Network::new(patterns.clone(), beta)?;
    let arrival = Arrival { residual: 1e-9, updates: 20_000 };
    let points: Vec<Vec<f64>> = patterns
        .rows()
        .map(|x| Ok(network.fixed_point(x, arrival)?.state))
        .collect::<Result<_>>()?;
    let energies: Vec<f64> = points.iter().map(|x| network.energy(x)).collect::<Result<_, _>>()?;
    let rises: Vec<f64> =
        points.iter().map(|x| expected_rise(&network, x, 1.)).collect::<Result<_, _>>()?;
    let (low, high) =
        rises.iter().fold((f64::INFINITY, 0f64), |(low, high), &x| (low.min(x), high.max(x)));
    Ok(Ranked {
        rank: spearman(&energies, &rises).unwrap_or(f64::NAN),
        spread: high / low - 1.,
        witness: Witness::of(patterns, beta)?,
    })
}

/// Rank correlation of energy and expected rise within a mixed population, over β.
pub fn write(setting: &Setting, section: &mut Section) -> Result<()> {
    let patterns = population(setting.seed)?;
    let betas: Vec<f64> = (0..=24).map(|i| 4. * 2f64.powf(f64::from(i) / 8.)).collect();
    let found: Vec<Ranked> =
        betas.par_iter().map(|&beta| ranked(&patterns, beta)).collect::<Result<_>>()?;
    let window = Window::of(&patterns)?;
    let chart = chart(&betas, &found, &window, patterns.len() as f64);
    let legend = [
        (Ink::RED, "Spearman of E(x*) and E[ΔE]".to_owned()),
        (Ink::BLUE, "median association to itself".to_owned()),
        (Ink::GREEN, "different fixed points a pattern".to_owned()),
        (Ink::OCHRE, "largest E[ΔE] over smallest, less 1".to_owned()),
    ];
    let caption = format!(
        "Above the window the ranks still agree, but the rises that they rank are all but equal. Three clusters of 8 (c .3, .4, .5) and 8 random directions, d {SPACE}, seed {}; \
         vertical lines: the window of the rule, β {} to {}.",
        setting.seed,
        number::short(window.lowest),
        number::short(window.highest)
    );
    section.figure(&[chart.draw()], &legend, &caption);
    section.table("regimes-population", table(&betas, &found));
    Ok(())
}

fn chart(betas: &[f64], found: &[Ranked], window: &Window, patterns: f64) -> LineChart {
    let series = |ink, of: &dyn Fn(&Ranked) -> f64| Series {
        has_markers: true,
        ..Series::plain(ink, betas.iter().copied().zip(found.iter().map(of)).collect())
    };
    let caption = Caption::new(
        "population",
        "Energy and expected rise in a mixed population, over β",
        "From the window on the correlation is high; above it the rises that it ranks become all alike.",
    );
    let lines = vec![
        series(Ink::RED, &|found| found.rank),
        series(Ink::BLUE, &|found| found.witness.median_self),
        series(Ink::GREEN, &|found| found.witness.fixed_points as f64 / patterns),
        series(Ink::OCHRE, &|found| found.spread),
    ];
    let (x, y) = (Axis::log10("inverse temperature β"), Axis::new("correlation, share"));
    LineChart {
        marks: vec![(window.lowest, "p .8".to_owned()), (window.highest, "p .99".to_owned())],
        ..LineChart::new(caption, x, y, lines)
    }
}

fn table(betas: &[f64], found: &[Ranked]) -> Table {
    let mut table = Table::new(&[
        Column::numbers("inverse_temperature", "β").of_any_size(),
        Column::numbers("spearman", "Spearman of E and E[ΔE]"),
        Column::numbers("spread", "largest E[ΔE] over smallest, less 1").of_any_size(),
        Column::numbers("median_self", "median p of itself"),
        Column::numbers("fixed_points", "fixed points"),
    ]);
    for (beta, Ranked { rank, spread, witness }) in betas.iter().zip(found) {
        table.row(vec![
            Cell::Number(*beta),
            if rank.is_finite() {
                Cell::Number(*rank)
            } else {
                Cell::Missing("all energies are equal".to_owned())
            },
            Cell::Number(*spread),
            Cell::Number(witness.median_self),
            Cell::Count(witness.fixed_points as u64),
        ]);
    }
    table
}
