//! E3: where the outlier rises more, over inverse temperature and geometry; and the rule that chooses β.

use super::population;
use super::setting::Setting;
use anyhow::{Result, ensure};
use clap::Args;
use lethe_hopfield::geometry::Equiangular;
use lethe_hopfield::regime::{Regime, Window, Witness};
use lethe_report::article::Section;
use lethe_report::figure::{Caption, HeatMap};
use lethe_report::number;
use lethe_report::table::{Cell, Column, Table};
use rayon::prelude::*;

const INVERSE_TEMPERATURES: [f64; 9] = [2., 4., 6., 8., 10., 12., 16., 24., 32.];
const OVERLAPS: [f64; 6] = [0.05, 0.2, 0.35, 0.5, 0.65, 0.8];
const CLUSTERS: [usize; 5] = [2, 6, 12, 24, 48];
const DIMENSIONS: [usize; 6] = [8, 16, 50, 100, 200, 400];

/// The grids of the maps; what a map does not vary stands at the setting's value.
#[derive(Args, Clone, Debug)]
pub struct Grid {
    /// Inverse temperatures of the first map
    #[arg(long, value_name = "BETA,..", value_delimiter = ',', default_values_t = INVERSE_TEMPERATURES)]
    pub inverse_temperatures: Vec<f64>,
    /// Overlaps of the first map
    #[arg(long, value_name = "C,..", value_delimiter = ',', default_values_t = OVERLAPS)]
    pub overlaps: Vec<f64>,
    /// Cluster sizes of the second map
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = CLUSTERS)]
    pub clusters: Vec<usize>,
    /// Dimensions of the second map; a cluster of n needs n + 2
    #[arg(long, value_name = "D,..", value_delimiter = ',', default_values_t = DIMENSIONS)]
    pub dimensions: Vec<usize>,
}

impl Grid {
    /// The grids of the command line's defaults.
    pub fn usual() -> Self {
        Self {
            inverse_temperatures: INVERSE_TEMPERATURES.to_vec(),
            overlaps: OVERLAPS.to_vec(),
            clusters: CLUSTERS.to_vec(),
            dimensions: DIMENSIONS.to_vec(),
        }
    }
}

/// One place of a map.
struct Place {
    map: &'static str,
    geometry: Equiangular,
    inverse_temperature: f64,
    /// None where the geometry does not exist.
    regime: Option<Regime>,
}

/// Writes the section: maps, window, population, tables.
///
/// # Errors
/// When a grid is empty or a value lies outside its domain.
pub fn write(setting: &Setting, grid: &Grid, section: &mut Section) -> Result<()> {
    section.paragraph(
        "The outlier rises more than the cluster only where patterns are fixed points of their own without being all \
         but certain of themselves. Below, everything has merged; far above, every pattern is alone and the energy no \
         longer tells the isolated from the crowded.",
    );
    section.law("ratio = E[ΔE outlier] / E[ΔE cluster], to second order in ε");
    let by_temperature = by_temperature(setting, grid)?;
    let by_size = by_size(setting, grid)?;
    write_claims(&by_temperature, section);
    let (rows, columns) = (labels(&grid.inverse_temperatures), labels(&grid.overlaps));
    write_maps(&by_temperature, (rows, columns), ("inverse temperature β", "overlap c"), section);
    let (rows, columns) = (labels(&grid.clusters), labels(&grid.dimensions));
    write_maps(&by_size, (rows, columns), ("cluster n", "dimension d"), section);
    write_window(setting, section)?;
    population::write(setting, section)?;
    section.table("regimes", table(by_temperature.iter().chain(&by_size)));
    Ok(())
}

fn labels<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn by_temperature(setting: &Setting, grid: &Grid) -> Result<Vec<Place>> {
    ensure!(!grid.inverse_temperatures.is_empty(), "--inverse-temperatures: expected at least one");
    ensure!(!grid.overlaps.is_empty(), "--overlaps: expected at least one");
    let places = grid.inverse_temperatures.iter().flat_map(|&beta| {
        grid.overlaps
            .iter()
            .map(move |&overlap| (Equiangular { overlap, ..setting.geometry() }, beta))
    });
    look("temperature-overlap", places.collect())
}

fn by_size(setting: &Setting, grid: &Grid) -> Result<Vec<Place>> {
    ensure!(!grid.clusters.is_empty(), "--clusters: expected at least one");
    ensure!(!grid.dimensions.is_empty(), "--dimensions: expected at least one");
    let places = grid.clusters.iter().flat_map(|&cluster| {
        let geometry = move |&dimension| Equiangular { cluster, dimension, ..setting.geometry() };
        grid.dimensions.iter().map(move |d| (geometry(d), setting.inverse_temperature))
    });
    look("size-dimension", places.collect())
}

fn look(map: &'static str, places: Vec<(Equiangular, f64)>) -> Result<Vec<Place>> {
    let place = |(geometry, inverse_temperature): (Equiangular, f64)| {
        let exists =
            geometry.cluster.checked_add(2).is_some_and(|least| least <= geometry.dimension);
        let regime = exists.then(|| Regime::of(&geometry, inverse_temperature)).transpose()?;
        Ok(Place { map, geometry, inverse_temperature, regime })
    };
    places.into_par_iter().map(place).collect()
}

fn write_claims(places: &[Place], section: &mut Section) {
    let regimes = || places.iter().filter_map(|place| Some((place, place.regime?)));
    let own =
        |(place, regime): &(&Place, Regime)| regime.fixed_points == place.geometry.cluster + 1;
    let apart: Vec<f64> = regimes().filter(own).map(|(_, regime)| regime.ratio).collect();
    let smallest = apart.iter().copied().fold(f64::INFINITY, f64::min);
    section.verdict(
        (!apart.is_empty()).then_some(smallest > 1.),
        "inside",
        "wherever every pattern has its own fixed point, the outlier rises more",
        &format!("{} places, smallest ratio 1 + {:.1e}", apart.len(), smallest - 1.),
    );
    let far = |(place, _): &(&Place, Regime)| {
        place.inverse_temperature * (1. - place.geometry.overlap) >= 15.
    };
    let outside: Vec<f64> = regimes().filter(far).map(|(_, regime)| regime.ratio).collect();
    let largest = outside.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    section.verdict(
        (!outside.is_empty()).then_some((largest - 1.).abs() <= 1e-3),
        "outside",
        "where β(1 − c) is 15 or more, the ratio is 1 to a thousandth",
        &format!("{} places, largest ratio 1 + {:.1e}", outside.len(), largest - 1.),
    );
}

fn write_maps(
    places: &[Place],
    (rows, columns): (Vec<String>, Vec<String>),
    axes: (&str, &str),
    section: &mut Section,
) {
    let map = |name: &str, heading: &str, of: &dyn Fn(&Regime) -> f64| {
        let cells = places
            .chunks(columns.len())
            .map(|row| row.iter().map(|place| place.regime.as_ref().map(of)).collect());
        let caption = Caption::new(
            format!("{name}-{}", places.first().map_or("", |place| place.map)),
            format!("{heading} over {} and {}", axes.0, axes.1),
            "One cell for each place of the grid.",
        );
        let (rows, columns) = ((axes.0, rows.clone()), (axes.1, columns.clone()));
        HeatMap {
            heading: heading.to_owned(),
            ..HeatMap::new(caption, rows, columns, cells.collect())
        }
    };
    let panels = [
        map("ratio", "rise of the outlier over the cluster's", &|regime| regime.ratio)
            .by_logarithm()
            .draw(),
        map("points", "different fixed points", &|regime| regime.fixed_points as f64).draw(),
        map("own", "association of a cluster pattern to itself", &|regime| regime.cluster_self)
            .draw(),
    ];
    let slow = places
        .iter()
        .filter(|place| place.regime.is_some_and(|regime| !regime.has_arrived))
        .count();
    let at = places.first().map_or(String::new(), |place| {
        let Equiangular { cluster, overlap, dimension } = place.geometry;
        if axes.0.starts_with("cluster") {
            format!("c {overlap}, β {}", place.inverse_temperature)
        } else {
            format!("{cluster} + 1 patterns, d {dimension}")
        }
    });
    let slow = match slow {
        0 => String::new(),
        n => format!(
            " Retrieval had not arrived after 20 000 updates at {}.",
            number::counted(n, "place")
        ),
    };
    section.figure(&panels, &[], &format!("{at}; closed form, no rotation is drawn.{slow}"));
}

/// The rule that chooses β, for the setting's geometry.
fn write_window(setting: &Setting, section: &mut Section) -> Result<()> {
    let patterns = setting.geometry().patterns()?;
    let window = Window::of(&patterns)?;
    let beta = setting.inverse_temperature;
    let here = Witness::of(&patterns, beta)?;
    section.paragraph(&format!(
        "The rule that chooses β: the median pattern's fixed point is associated to it with .8 to .99, and most \
         patterns have a fixed point of their own. For this geometry that is β from {} to {}. \
         At β {beta} the median is {} and there are {} different fixed points for {} patterns.",
        number::short(window.lowest),
        number::short(window.highest),
        number::short(here.median_self),
        here.fixed_points,
        patterns.len(),
    ));
    Ok(())
}

fn table<'a>(places: impl Iterator<Item = &'a Place>) -> Table {
    let mut table = Table::new(&[
        Column::words("map", "Map"),
        Column::numbers("inverse_temperature", "β").of_any_size(),
        Column::numbers("overlap", "c"),
        Column::numbers("cluster", "n"),
        Column::numbers("dimension", "d"),
        Column::numbers("ratio", "ratio").of_any_size(),
        Column::numbers("fixed_points", "fixed points"),
        Column::numbers("cluster_self", "p of itself, cluster").of_any_size(),
        Column::numbers("outlier_self", "p of itself, outlier").of_any_size(),
    ]);
    for place in places {
        let missing = || Cell::Missing("the cluster needs n + 2 dimensions".to_owned());
        let number = |of: &dyn Fn(&Regime) -> Cell| place.regime.as_ref().map_or_else(missing, of);
        table.row(vec![
            place.map.into(),
            Cell::Given(place.inverse_temperature),
            Cell::Given(place.geometry.overlap),
            Cell::Count(place.geometry.cluster as u64),
            Cell::Count(place.geometry.dimension as u64),
            number(&|regime| Cell::Number(regime.ratio)),
            number(&|regime| Cell::Count(regime.fixed_points as u64)),
            number(&|regime| Cell::Number(regime.cluster_self)),
            number(&|regime| Cell::Number(regime.outlier_self)),
        ]);
    }
    table
}
