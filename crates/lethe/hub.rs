//! Data sets and models from the Hugging Face hub: the only place that opens a socket, and only for `hub:` names.

#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod wanted;

use crate::exit::Fault;
use anyhow::{Result, anyhow};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Thrown once, at the command line, for the whole process.
static OFFLINE: AtomicBool = AtomicBool::new(false);

/// No socket is opened from here on, whatever is asked for.
pub fn stay_offline() {
    OFFLINE.store(true, Ordering::Relaxed);
}

/// Whether no socket may be opened: by [`stay_offline`], `LETHE_OFFLINE` or `HF_HUB_OFFLINE`.
pub fn is_offline() -> bool {
    let is_set = |name: &str| {
        let word = std::env::var(name).unwrap_or_default().to_lowercase();
        !["", "0", "off", "no", "false"].contains(&word.as_str())
    };
    OFFLINE.load(Ordering::Relaxed) || is_set("LETHE_OFFLINE") || is_set("HF_HUB_OFFLINE")
}

/// A model's repository, at one commit.
struct ModelId<'a> {
    owner: &'a str,
    name: &'a str,
    /// 40 hexadecimal digits: what they stand for never changes, a branch does.
    commit: &'a str,
}

impl<'a> ModelId<'a> {
    fn parse(id: &'a str) -> Result<Self> {
        let refuse = |reason: String| Err(Fault::Usage.because(anyhow!("hub:{id}: {reason}")));
        let (repository, commit) = id.split_once('@').unwrap_or((id, ""));
        let Some((owner, name)) = repository.split_once('/') else {
            return refuse("expected hub:OWNER/NAME@COMMIT".into());
        };
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name =
            |name: &str| !name.is_empty() && !name.starts_with('.') && name.chars().all(is_letter);
        if !is_name(owner) || !is_name(name) {
            return refuse("expected hub:OWNER/NAME@COMMIT".into());
        }
        if commit.len() != 40 || !commit.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
            return refuse(format!(
                "expected a commit of 40 hexadecimal digits behind the @, got `{commit}`: a branch moves; `git ls-remote https://huggingface.co/{repository}` prints the commit of each"
            ));
        }
        Ok(Self { owner, name, commit })
    }
}

/// The folder of the model `id` (`OWNER/NAME@COMMIT`): what of it a pipeline or a network needs, from the hub's cache where
/// it lies there, or else fetched. The digest of every file that has one is checked.
///
/// # Errors
/// When the id is none, the hub cannot be reached, or a file is not what the hub says.
pub fn model(id: &str) -> Result<PathBuf> {
    let id = ModelId::parse(id)?;
    fetched(&id)
}

#[cfg(feature = "hub")]
use fetch::model as fetched;

#[cfg(not(feature = "hub"))]
fn fetched(ModelId { owner, name, commit }: &ModelId) -> Result<PathBuf> {
    Err(Fault::Missing.because(anyhow!(
        "hub:{owner}/{name}@{commit}: this build was made without the feature `hub`: build with `cargo build --release --features hub`, or fetch the folder yourself and give its path"
    )))
}

/// Files of the training split of the data set `id` (`owner/name`), as the hub converted it to Parquet.
///
/// Files that were fetched before are taken from the hub's cache.
///
/// # Errors
/// When the hub cannot be reached, or the data set has no training split.
#[cfg(feature = "hub")]
pub fn dataset(id: &str) -> Result<Vec<PathBuf>> {
    if is_offline() {
        return Err(Fault::Missing.because(anyhow!(
            "data.source: hub:{id}: offline; take the Parquet files that were fetched before by source = \"path\""
        )));
    }
    fetch::dataset(id)
}

/// This build knows no hub.
///
/// # Errors
/// Always.
#[cfg(not(feature = "hub"))]
pub fn dataset(id: &str) -> Result<Vec<PathBuf>> {
    Err(Fault::Missing.because(anyhow!(
        "data.source: hub:{id}: this build was made without the feature `hub`: build with `cargo build --release --features hub`, or fetch the Parquet files yourself and set source = \"path\""
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_one_commit() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let text = format!("a-b/c.d_e@{commit}");
        let id = ModelId::parse(&text).unwrap();
        assert_eq!((id.owner, id.name, id.commit), ("a-b", "c.d_e", commit));
        for bad in ["a", "a/b", "a/b@main", "a/b@0123", "a/b/c@main", "a/..@x", "/b@x", "a /b@x"] {
            let words = ModelId::parse(bad).err().unwrap().to_string();
            assert!(words.contains(bad) && words.contains("expected"), "{words}");
        }
        let upper = format!("a/b@{}", commit.to_uppercase());
        assert!(ModelId::parse(&upper).err().unwrap().to_string().contains("git ls-remote"));
    }
}
