//! `run.json`: written when a run begins, compared whenever it goes on.

use crate::exit::Fault;
use crate::session::Session;
use anyhow::{Result, anyhow};
use lethe_ledger::{ChosenTemperature, InverseTemperatures, RunManifest};
use std::path::Path;

/// Writes `run.json` as `manifest` has it, with the edits of the session's protocol; where the file is there already, it
/// must say the same. Only the machine may be another one, which is added: another device, version or commit.
///
/// Returns what the file says then. A run that moved to another device keeps the inverse temperatures that it began with.
///
/// # Errors
/// When the disk refuses, or the file that is there is damaged or says something else.
pub fn keep(session: &Session, manifest: RunManifest) -> Result<RunManifest> {
    let path = session.folder().join("run.json");
    let changes = session.edits().iter().map(crate::changes::Edit::in_words).collect();
    let manifest = RunManifest { changes, ..manifest };
    if !path.exists() {
        manifest.save(&path)?;
        return Ok(manifest);
    }
    let kept = RunManifest::load(&path)?;
    let merged = merged(&kept, manifest);
    expect_same(&path, &kept, &merged, session.edits().is_empty())?;
    if kept != merged {
        merged.save(&path)?;
    }
    Ok(merged)
}

/// `now`, with the machines on which the run was before.
fn merged(kept: &RunManifest, now: RunManifest) -> RunManifest {
    let keeps = !ends_with(&kept.device, &now.device)
        || is_near(&kept.inverse_temperatures, &now.inverse_temperatures);
    let version = |(name, version): (&String, &String)| {
        let before = kept.versions.get(name).map_or(version.as_str(), String::as_str);
        (name.clone(), then(before, version))
    };
    let revision = match (&kept.git_revision, &now.git_revision) {
        (Some(before), Some(now)) => Some(then(before, now)),
        (before, now) => before.clone().or(now.clone()),
    };
    let temperatures = if keeps { &kept.inverse_temperatures } else { &now.inverse_temperatures };
    RunManifest {
        device: then(&kept.device, &now.device),
        versions: now.versions.iter().map(version).collect(),
        git_revision: revision,
        inverse_temperatures: temperatures.clone(),
        ..now
    }
}

/// Whether both differ by rounding alone, as another version's or processor's sums do.
fn is_near(kept: &InverseTemperatures, now: &InverseTemperatures) -> bool {
    let near = |a: &Option<ChosenTemperature>, b: &Option<ChosenTemperature>| match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            (a.value - b.value).abs() <= 1e-3 * b.value
                && a.perplexity.to_bits() == b.perplexity.to_bits()
        }
        _ => false,
    };
    near(&kept.distance, &now.distance) && near(&kept.unit, &now.unit)
}

const THEN: &str = "; then ";

fn ends_with(before: &str, now: &str) -> bool {
    before.rsplit(THEN).next() == Some(now)
}

fn then(before: &str, now: &str) -> String {
    if ends_with(before, now) { before.to_string() } else { format!("{before}{THEN}{now}") }
}

/// What an edit of the protocol may change in `run.json`.
const EDITABLE: [&str; 6] = ["protocol", "protocol_digest", "data", "arms", "runs", "changes"];
/// What a move to another machine changes.
const MACHINE: [&str; 3] = ["device", "versions", "git_revision"];

fn expect_same(
    path: &Path,
    kept: &RunManifest,
    merged: &RunManifest,
    is_unedited: bool,
) -> Result<()> {
    let [kept, merged] = [serde_json::to_value(kept)?, serde_json::to_value(merged)?];
    for (field, expected) in merged.as_object().into_iter().flatten() {
        let may_differ = MACHINE.contains(&field.as_str())
            || (!is_unedited && EDITABLE.contains(&field.as_str()));
        if !may_differ && kept.get(field) != Some(expected) {
            let got = kept.get(field).map_or("nothing".into(), ToString::to_string);
            return Err(Fault::Untrustworthy.because(anyhow!(
                "{}: field `{field}`: expected {expected}, got {got}: it was changed after it was written",
                path.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(value: f64, perplexity: f64) -> InverseTemperatures {
        let one = ChosenTemperature { value, perplexity, timestep: Some(3), time: Some(0.003) };
        InverseTemperatures { distance: Some(one), unit: None }
    }

    #[test]
    fn rounding_is_no_other_temperature() {
        assert!(is_near(&chosen(94.57166, 4.), &chosen(94.57177, 4.)));
        assert!(!is_near(&chosen(94.57166, 4.), &chosen(95.57177, 4.)));
        assert!(!is_near(&chosen(94.57166, 4.), &chosen(94.57166, 5.)));
        assert!(!is_near(&chosen(94.57166, 4.), &chosen(f64::NAN, 4.)));
    }
}
