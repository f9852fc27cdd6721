//! E3: where the outlier rises more, over inverse temperature and geometry; and the rule that chooses β.

use super::bounds;
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

/// Ratios are known to this.
const KNOWN: f64 = 1e-10;

/// The grids of the maps; what a map does not vary stands at the setting's value.
#[derive(Args, Clone, Debug)]
pub struct Grid {
    /// Inverse temperatures of the first map
    #[arg(long, value_name = "BETA,..", value_delimiter = ',', default_values_t = INVERSE_TEMPERATURES, allow_negative_numbers = true)]
    pub inverse_temperatures: Vec<f64>,
    /// Overlaps of the first map
    #[arg(long, value_name = "C,..", value_delimiter = ',', default_values_t = OVERLAPS, allow_negative_numbers = true)]
    pub overlaps: Vec<f64>,
    /// Cluster sizes of the second map
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = CLUSTERS)]
    pub clusters: Vec<usize>,
    /// Dimensions of the second map; a cluster of n needs n + 2
    #[arg(long, value_name = "D,..", value_delimiter = ',', default_values_t = DIMENSIONS)]
    pub dimensions: Vec<usize>,
}

impl Grid {
    fn check(&self) -> Result<()> {
        let Self { inverse_temperatures, overlaps, clusters, dimensions } = self;
        let sizes = [
            ("--inverse-temperatures", inverse_temperatures.len(), overlaps.len()),
            ("--overlaps", overlaps.len(), 1),
            ("--clusters", clusters.len(), dimensions.len()),
            ("--dimensions", dimensions.len(), 1),
        ];
        for (option, count, others) in sizes {
            ensure!(count > 0, "{option}: expected at least one");
            let most = bounds::PLACES / others.max(1);
            ensure!(count <= most, "{option}: expected at most {most} of them here, got {count}");
        }
        for &beta in inverse_temperatures {
            bounds::inverse_temperature("--inverse-temperatures", beta)?;
        }
        for overlap in overlaps {
            let is_overlap = (0. ..1.).contains(overlap);
            ensure!(is_overlap, "--overlaps: expected numbers from 0 to below 1, got {overlap:?}");
        }
        for &cluster in clusters {
            bounds::within("--clusters", cluster, 1, bounds::CLUSTER)?;
        }
        for &dimension in dimensions {
            bounds::within("--dimensions", dimension, 1, bounds::DIMENSION)?;
        }
        Ok(())
    }

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
    setting.check()?;
    grid.check()?;
    section.paragraph(
        "The outlier rises more than the cluster between two limits. Where all patterns share one fixed point the \
         ratio is 1; where every pattern is alone and all but certain of itself it tends to 1 again. It is largest \
         where the cluster's patterns have merged, or nearly so, and the outlier still stands apart.",
    );
    section.law("ratio = E[ΔE outlier] / E[ΔE cluster], to second order in ε");
    let by_temperature = by_temperature(setting, grid)?;
    let by_size = by_size(setting, grid)?;
    let all: Vec<&Place> = by_temperature.iter().chain(&by_size).collect();
    write_kinds(&all, section);
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
    let places = grid.inverse_temperatures.iter().flat_map(|&beta| {
        grid.overlaps
            .iter()
            .map(move |&overlap| (Equiangular { overlap, ..setting.geometry() }, beta))
    });
    look("temperature-overlap", places.collect())
}

fn by_size(setting: &Setting, grid: &Grid) -> Result<Vec<Place>> {
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
        // What lies below it is how far retrieval was from its fixed point.
        let known = |ratio: f64| (ratio / KNOWN).round() * KNOWN;
        let regime = regime.map(|regime| Regime { ratio: known(regime.ratio), ..regime });
        Ok(Place { map, geometry, inverse_temperature, regime })
    };
    places.into_par_iter().map(place).collect()
}

/// Which patterns share a fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OneForAll,
    ClusterMerged,
    EachItsOwn,
    Between,
}

impl Kind {
    const ALL: [Self; 4] = [Self::OneForAll, Self::ClusterMerged, Self::Between, Self::EachItsOwn];

    fn of(place: &Place, regime: &Regime) -> Self {
        match regime.fixed_points {
            1 => Self::OneForAll,
            n if n == place.geometry.cluster + 1 => Self::EachItsOwn,
            2 => Self::ClusterMerged,
            _ => Self::Between,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::OneForAll => "all patterns share one fixed point",
            Self::ClusterMerged => "the cluster shares one, the outlier has its own",
            Self::EachItsOwn => "every pattern has its own",
            Self::Between => "some of the patterns share theirs",
        }
    }
}

fn range(ratios: impl Iterator<Item = f64> + Clone) -> [f64; 2] {
    [ratios.clone().fold(f64::INFINITY, f64::min), ratios.fold(f64::NEG_INFINITY, f64::max)]
}

/// The ratios of both maps by kind, and where the largest is.
fn write_kinds(places: &[&Place], section: &mut Section) {
    let regimes = || places.iter().filter_map(|place| Some((*place, place.regime?)));
    let of_kind = |kind: Kind| {
        let ratios = regimes().filter(|(place, regime)| Kind::of(place, regime) == kind);
        let ratios: Vec<f64> = ratios.map(|(_, regime)| regime.ratio).collect();
        let [least, most] = range(ratios.iter().copied()).map(|x| number::with_decimals(x, 3));
        let n = number::counted(ratios.len(), "place");
        (!ratios.is_empty()).then(|| format!("{}: {n}, ratio {least} to {most}", kind.in_words()))
    };
    section.list(&Kind::ALL.into_iter().filter_map(of_kind).collect::<Vec<String>>());
    let largest = regimes().max_by(|(_, a), (_, b)| a.ratio.total_cmp(&b.ratio));
    if let Some((place, regime)) = largest {
        let Equiangular { cluster, overlap, dimension } = place.geometry;
        section.paragraph(&format!(
            "The largest ratio, {}, is at β {}, c {overlap}, n {cluster}, d {dimension}: {}.",
            number::short(regime.ratio),
            place.inverse_temperature,
            Kind::of(place, &regime).in_words()
        ));
    }
}

fn write_claims(places: &[Place], section: &mut Section) {
    let regimes = || places.iter().filter_map(|place| Some((place, place.regime?)));
    let apart = regimes().filter(|(place, regime)| Kind::of(place, regime) == Kind::EachItsOwn);
    let apart: Vec<f64> = apart.map(|(_, regime)| regime.ratio).collect();
    let known: Vec<f64> = apart.iter().copied().filter(|ratio| *ratio != 1.).collect();
    let [smallest, _] = range(known.iter().copied());
    let evidence = if known.is_empty() {
        format!("{}, none with a ratio that differs from 1", number::counted(apart.len(), "place"))
    } else {
        format!(
            "{}, smallest ratio 1 {} {:.1e}; in {} it is 1 to {KNOWN:.0e}",
            number::counted(apart.len(), "place"),
            if smallest < 1. { '−' } else { '+' },
            (smallest - 1.).abs(),
            apart.len() - known.len()
        )
    };
    section.verdict(
        (!known.is_empty()).then_some(smallest > 1.),
        "inside",
        "wherever every pattern has its own fixed point, the outlier rises more",
        &evidence,
    );
    let far = |(place, _): &(&Place, Regime)| {
        place.inverse_temperature * (1. - place.geometry.overlap) >= 15.
    };
    let outside: Vec<f64> = regimes().filter(far).map(|(_, regime)| regime.ratio).collect();
    let off = outside.iter().map(|ratio| (ratio - 1.).abs()).fold(0., f64::max);
    let n = number::counted(outside.len(), "place");
    section.verdict(
        (!outside.is_empty()).then_some(off <= 1e-3),
        "outside",
        "where β(1 − c) is 15 or more, the ratio is 1 to a thousandth",
        &if outside.is_empty() { n } else { format!("{n}, off by {off:.1e} at most") },
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
