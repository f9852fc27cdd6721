//! Energy rise and replay gain of the solvable setting: 2000 rotations at both angles of the paper.

use crate::child::serve_rounds;
use crate::place::Place;
use anyhow::Result;
use lethe::lab::replay;
use lethe::lab::setting::{Setting, Turning, Turns};
use std::path::Path;

/// Leaves the means in `folder` for the peer to compare, then runs rounds.
pub fn serve(place: &Place, folder: &Path, quick: bool) -> Result<()> {
    let turns = Turns { rotations: if quick { 100 } else { 2000 }, ..Turns::default() };
    let experiment = || -> Result<Vec<f64>> {
        let turning = Turning::measure(&Setting::default(), &turns)?;
        Ok(replay::measure(&turning).iter().flat_map(|found| found.means()).collect())
    };
    let path = folder.join("theory.json");
    std::fs::write(&path, format!("{:?}", experiment()?))?;
    serve_rounds(place, || place.timed(experiment))
}
