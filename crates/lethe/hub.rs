//! Data sets from the Hugging Face hub: the only place that opens a socket, and only for `hub:` sources.

use anyhow::Result;
use std::path::PathBuf;

/// Files of the training split of the data set `id` (`owner/name`), as the hub converted it to Parquet.
///
/// Files that were fetched before are taken from the hub's cache.
///
/// # Errors
/// When the hub cannot be reached, or the data set has no training split.
#[cfg(feature = "hub")]
pub fn dataset(id: &str) -> Result<Vec<PathBuf>> {
    use crate::exit::Fault;
    use anyhow::{Context, ensure};
    // The branch on which the hub keeps every data set as Parquet.
    const REVISION: &str = "refs/convert/parquet";
    let fetch = || -> Result<Vec<PathBuf>> {
        let (owner, name) = hf_hub::split_id(id);
        let repository = hf_hub::HFClientSync::new()?.dataset(owner, name);
        let listing =
            repository.info().revision(REVISION).send().context("its files could not be listed")?;
        let names =
            listing.siblings.unwrap_or_default().into_iter().map(|sibling| sibling.rfilename);
        let mut names: Vec<String> =
            names.filter(|name| name.ends_with(".parquet") && name.contains("train")).collect();
        names.sort();
        ensure!(!names.is_empty(), "it has no training split in Parquet");
        names
            .iter()
            .map(|name| {
                let file = repository.download_file().filename(name).revision(REVISION);
                match file.clone().local_files_only(true).send() {
                    Ok(cached) => Ok(cached),
                    Err(_) => file.send().with_context(|| format!("{name} could not be fetched")),
                }
            })
            .collect()
    };
    fetch()
        .with_context(|| format!("data.source: hub:{id}"))
        .map_err(|error| Fault::Missing.because(error))
}

/// This build knows no hub.
///
/// # Errors
/// Always.
#[cfg(not(feature = "hub"))]
pub fn dataset(id: &str) -> Result<Vec<PathBuf>> {
    let error = anyhow::anyhow!(
        "data.source: hub:{id}: this build was made without the feature `hub`; fetch the Parquet files yourself and set source = \"path\""
    );
    Err(crate::exit::Fault::Missing.because(error))
}
