//! `run.json`: written when a run begins, compared whenever it goes on.

use crate::exit::Fault;
use crate::session::Session;
use anyhow::{Result, anyhow};
use lethe_ledger::RunManifest;
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
    let is_moved = !ends_with(&kept.device, &now.device);
    let version = |(name, version): (&String, &String)| {
        let before = kept.versions.get(name).map_or(version.as_str(), String::as_str);
        (name.clone(), then(before, version))
    };
    let revision = match (&kept.git_revision, &now.git_revision) {
        (Some(before), Some(now)) => Some(then(before, now)),
        (before, now) => before.clone().or(now.clone()),
    };
    let temperatures =
        if is_moved { &kept.inverse_temperatures } else { &now.inverse_temperatures };
    RunManifest {
        device: then(&kept.device, &now.device),
        versions: now.versions.iter().map(version).collect(),
        git_revision: revision,
        inverse_temperatures: temperatures.clone(),
        ..now
    }
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
