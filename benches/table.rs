//! The table: medians, ratios with their range over the rounds, and peak memory.

use crate::child::Memory;
use std::fmt;

/// Rounds of one side, and its memory.
pub type Side = (Vec<f64>, Memory);

/// One case, ours alone or beside one peer.
pub struct Row {
    case: &'static str,
    giga_operations: f64,
    ours: Side,
    peer: Option<(String, Side)>,
    yardstick: Vec<f64>,
}

/// The lines above the rows.
pub fn heading(device: &str, threads: usize, quick: bool) -> String {
    let size = if quick { ", quick sizes: these figures say nothing about speed" } else { "" };
    [
        &format!(
            "{device}, {threads} threads, kernels for {:?}{size}\n",
            lethe_kernels::instruction_set()
        ),
        "| case | ours s (range) | GFLOP/s | yardstick (range) | peer | peer s (range) | ours/peer (range) | ours MiB | peer MiB (its libraries) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    .join("\n")
}

impl Row {
    /// Ours alone.
    pub fn alone(
        case: &'static str,
        giga_operations: f64,
        ours: Side,
        yardstick: Vec<f64>,
    ) -> Self {
        Self { case, giga_operations, ours, peer: None, yardstick }
    }

    /// The same beside `peer`, whose rounds followed ours.
    pub fn beside(&self, name: &str, peer: Side) -> Self {
        Self {
            peer: Some((name.to_string(), peer)),
            ours: self.ours.clone(),
            yardstick: self.yardstick.clone(),
            ..*self
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, memory) = &self.ours;
        write!(
            f,
            "| {} | {} | {:.0} | {} |",
            self.case,
            spread(seconds, 3),
            self.giga_operations / median(seconds),
            spread(&self.yardstick, 0),
        )?;
        let Some((name, (theirs, their_memory))) = &self.peer else {
            return write!(f, " – | – | – | {:.0} | – |", memory.peak);
        };
        let ratios: Vec<f64> = seconds.iter().zip(theirs).map(|(ours, peer)| ours / peer).collect();
        write!(
            f,
            " {name} | {} | **{}** | {:.0} | {:.0} ({:.0}) |",
            spread(theirs, 3),
            spread(&ratios, 2),
            memory.peak,
            their_memory.peak,
            their_memory.floor
        )
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

/// "median (least..largest)".
fn spread(values: &[f64], digits: usize) -> String {
    let (mut least, mut largest) = (f64::INFINITY, f64::NEG_INFINITY);
    for &value in values {
        least = least.min(value);
        largest = largest.max(value);
    }
    format!("{:.digits$} ({least:.digits$}..{largest:.digits$})", median(values))
}
