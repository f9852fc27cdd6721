//! A protocol that was edited while its run was under way: what changed, and what may.
//!
//! What decides which numbers a run gives is fixed when it begins. What may change is how it is computed and kept,
//! where its data lie, how fast it learns, and what comes behind everything else: seeds and arms.
//! Every change is asked for by name and stays on record.

use crate::exit::Fault;
use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// Fields that may change within a run.
const MAY_CHANGE: [&str; 15] = [
    "data.path",
    "probe.batch",
    "training.checkpoint_every",
    "training.clip",
    "training.ema_on",
    "training.later_rate",
    "training.learning_rate",
    "training.log_every",
    "training.parts",
    "training.precision",
    "training.recompute",
    "training.validate_every",
    "training.validation_examples",
    "training.warm_up",
    "training.decay",
];

/// Lists that may grow at their end within a run.
const MAY_GROW: [&str; 2] = ["replay.arms", "seeds"];

/// A field that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Such as `training.learning_rate`.
    pub field: String,
    /// What it was, as TOML; `none` where it was not there.
    pub before: String,
    /// What it is.
    pub after: String,
}

/// Changes that were made at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Stages that were finished before.
    pub behind: usize,
    /// Digest of the protocol until then.
    pub protocol: String,
    /// What changed.
    pub changes: Vec<Change>,
}

impl Edit {
    /// In words, for the report.
    pub fn in_words(&self) -> String {
        let one = |change: &Change| {
            format!("{} from {} to {}", change.field, change.before, change.after)
        };
        let all: Vec<String> = self.changes.iter().map(one).collect();
        format!("behind {} finished stages: {}", self.behind, all.join(", "))
    }
}

/// What differs between two resolved protocols, field by field.
///
/// # Errors
/// When one of them is no TOML.
pub fn between(before: &str, after: &str) -> Result<Vec<Change>> {
    let [before, after] = [fields(before)?, fields(after)?];
    let mut names: Vec<&String> = before.iter().chain(&after).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    let value = |fields: &[(String, Value)], name: &str| {
        let found = fields.iter().find(|(known, _)| known == name);
        found.map_or("none".to_string(), |(_, value)| value.to_string())
    };
    let change = |name: &String| Change {
        field: name.clone(),
        before: value(&before, name),
        after: value(&after, name),
    };
    Ok(names.into_iter().map(change).filter(|change| change.before != change.after).collect())
}

/// All values with the path to each; a list is one value.
fn fields(text: &str) -> Result<Vec<(String, Value)>> {
    fn walk(prefix: &str, table: Table, found: &mut Vec<(String, Value)>) {
        for (name, value) in table {
            match value {
                Value::Table(inner) => walk(&format!("{prefix}{name}."), inner, found),
                value => found.push((format!("{prefix}{name}"), value)),
            }
        }
    }
    let mut found = Vec::new();
    walk("", toml::from_str(text)?, &mut found);
    Ok(found)
}

/// Whether a run that has begun can take this change.
fn may_be(change: &Change) -> bool {
    MAY_CHANGE.contains(&change.field.as_str())
        || (MAY_GROW.contains(&change.field.as_str()) && has_grown(change))
}

fn has_grown(change: &Change) -> bool {
    let list = |text: &str| {
        let table: Option<Table> = toml::from_str(&format!("list = {text}")).ok();
        table?.remove("list")?.as_array().cloned()
    };
    match (list(&change.before), list(&change.after)) {
        (Some(before), Some(after)) => after.starts_with(&before),
        _ => false,
    }
}

/// Whether the run has more to do by them.
pub fn grows(changes: &[Change]) -> bool {
    changes.iter().any(|change| MAY_GROW.contains(&change.field.as_str()))
}

/// Every field that is allowed to change is one that may.
///
/// # Errors
/// Names the first that is not, and those that are.
pub fn expect_fields(allowed: &[String]) -> Result<()> {
    let may: Vec<&str> = MAY_CHANGE.into_iter().chain(MAY_GROW).collect();
    match allowed.iter().find(|field| !may.contains(&field.as_str())) {
        None => Ok(()),
        Some(other) => Err(Fault::Usage.because(anyhow!(
            "--allow-change: {other} cannot change within a run; expected one of {}",
            may.join(", ")
        ))),
    }
}

/// Takes `changes` where every one of them may be and is `allowed` by name.
///
/// # Errors
/// Says what changed and what to do: begin another run, or allow what may change.
pub fn expect_allowed(protocol: &Path, changes: &[Change], allowed: &[String]) -> Result<()> {
    let fixed: Vec<&str> =
        changes.iter().filter(|c| !may_be(c)).map(|c| c.field.as_str()).collect();
    let missing: Vec<&str> = changes
        .iter()
        .map(|change| change.field.as_str())
        .filter(|field| !allowed.iter().any(|allowed| allowed == field))
        .collect();
    if fixed.is_empty() && missing.is_empty() {
        return Ok(());
    }
    let remedy = if fixed.is_empty() {
        let flags: Vec<String> =
            missing.iter().map(|field| format!("--allow-change {field}")).collect();
        let same =
            if missing.contains(&"data.path") { " (the data there must be the same)" } else { "" };
        format!(
            "to go on and have the report say so: {}{same}; or undo the change, or give another --out",
            flags.join(" ")
        )
    } else {
        format!("{} cannot change within a run: undo that, or give another --out", fixed.join(", "))
    };
    Err(Fault::Usage.because(anyhow!(
        "{}: the run was begun with another protocol\n{}\n{remedy}",
        protocol.display(),
        in_words(changes)
    )))
}

/// A line for each.
pub fn in_words(changes: &[Change]) -> String {
    let line =
        |Change { field, before, after }: &Change| format!("  {field}: {before} then, {after} now");
    changes.iter().map(line).collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "seeds = [1]\n[training]\nsteps = 7\nlearning_rate = 0.1\n";

    fn outcome(after: &str, allowed: &[&str]) -> Result<()> {
        let allowed: Vec<String> = allowed.iter().map(|field| field.to_string()).collect();
        expect_allowed(Path::new("protocol.toml"), &between(BEFORE, after).unwrap(), &allowed)
    }

    #[test]
    fn fields_are_named_with_what_they_were_and_are() {
        let changes = between(BEFORE, "seeds = [1]\n[training]\nsteps = 8\nclip = 1.0\n").unwrap();
        let found: Vec<_> =
            changes.iter().map(|c| [c.field.as_str(), &c.before, &c.after]).collect();
        assert_eq!(
            found,
            [
                ["training.clip", "none", "1.0"],
                ["training.learning_rate", "0.1", "none"],
                ["training.steps", "7", "8"]
            ]
        );
        assert!(between(BEFORE, BEFORE).unwrap().is_empty());
    }

    #[test]
    fn what_may_change_wants_its_name() {
        let rate = BEFORE.replace("0.1", "0.2");
        let error = outcome(&rate, &[]).unwrap_err().to_string();
        assert!(error.contains("--allow-change training.learning_rate"), "{error}");
        assert!(error.contains("0.1 then, 0.2 now"), "{error}");
        assert!(outcome(&rate, &["training.steps"]).is_err());
        outcome(&rate, &["training.learning_rate"]).unwrap();
    }

    #[test]
    fn what_decides_the_numbers_stays() {
        let steps = BEFORE.replace("steps = 7", "steps = 8");
        let error = outcome(&steps, &["training.steps"]).unwrap_err().to_string();
        assert!(error.contains("training.steps cannot change within a run"), "{error}");
    }

    #[test]
    fn lists_may_grow_at_their_end_alone() {
        let seeds = |text: &str| BEFORE.replace("[1]", text);
        outcome(&seeds("[1, 2]"), &["seeds"]).unwrap();
        assert!(outcome(&seeds("[2, 1]"), &["seeds"]).is_err());
        assert!(outcome(&seeds("[]"), &["seeds"]).is_err());
    }
}
