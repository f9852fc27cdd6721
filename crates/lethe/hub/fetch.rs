//! What is asked of the hub, and how its answers are checked.

use super::wanted::wanted;
use super::{ModelId, is_offline};
use crate::exit::Fault;
use crate::meter::note;
use anyhow::{Context, Result, anyhow, ensure};
use hf_hub::repository::{RepoTreeEntry, RepoTypeModel};
use hf_hub::{HFClientSync, HFRepositorySync};
use lethe_latent::folder::{CONFIG, INDEX};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Files from this size on are told of before they are fetched.
const MIB: u64 = 1 << 20;

/// A repository at one commit.
struct Snapshot<'a> {
    id: &'a ModelId<'a>,
    repository: HFRepositorySync<RepoTypeModel>,
}

/// The folder of a model in the hub's cache, fetched where it is not there.
pub fn model(id: &ModelId) -> Result<PathBuf> {
    let name = format!("hub:{}/{}@{}", id.owner, id.name, id.commit);
    let find = || -> Result<PathBuf> {
        let repository = HFClientSync::new()?.model(id.owner, id.name);
        let snapshot = Snapshot { id, repository };
        if let Some(folder) = snapshot.cached() {
            return check_tree(&folder).map(|()| folder.clone()).inspect_err(|_| forget(&folder));
        }
        ensure!(
            !is_offline(),
            "it is not in the hub's cache, and the command is offline; fetch it once without --offline, LETHE_OFFLINE and HF_HUB_OFFLINE, or give the path of a folder"
        );
        note(&format!("{name}: fetching it, once"));
        snapshot.fetch().map_err(|error| unreached(error, "give the path of a folder"))
    };
    find().with_context(|| name.clone()).map_err(crate::exit::otherwise(Fault::Missing))
}

impl Snapshot<'_> {
    /// The folder, if the file that is fetched last is there.
    fn cached(&self) -> Option<PathBuf> {
        [INDEX, CONFIG].iter().find_map(|name| {
            let file = self.repository.download_file().filename(*name).revision(self.id.commit);
            Some(file.local_files_only(true).send().ok()?.parent()?.to_path_buf())
        })
    }

    fn fetch(&self) -> Result<PathBuf> {
        let sizes = self.sizes().context("its files could not be listed")?;
        let mut last = None;
        for name in wanted(&sizes.keys().cloned().collect())? {
            if sizes[&name] >= MIB {
                note(&format!("{name}, {} MiB", sizes[&name] / MIB));
            }
            let file = self.repository.download_file().filename(&name).revision(self.id.commit);
            let path = file.send().with_context(|| format!("{name} could not be fetched"))?;
            check(&path, Some(sizes[&name]))?;
            last = path.parent().map(Path::to_path_buf);
        }
        last.context("it has no file that a model needs")
    }

    /// Bytes of every file.
    fn sizes(&self) -> Result<BTreeMap<String, u64>> {
        let tree = self.repository.list_tree().revision(self.id.commit).recursive(true).send()?;
        let size = |entry| match entry {
            RepoTreeEntry::File { path, size, .. } => Some((path, size)),
            RepoTreeEntry::Directory { .. } => None,
        };
        Ok(tree.into_iter().filter_map(size).collect())
    }
}

/// Takes away what says that all files of a snapshot are there, where they can be fetched anew.
fn forget(folder: &Path) {
    if is_offline() {
        return;
    }
    for name in [INDEX, CONFIG] {
        // What is not there need not go.
        let _ = fs::remove_file(folder.join(name));
    }
}

/// Checks every file of a snapshot that the hub's cache names after its digest.
fn check_tree(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.is_dir() {
            check_tree(&path)?;
        } else {
            check(&path, None)?;
        }
    }
    Ok(())
}

/// Checks a file against its size and its digest: the cache links it to a blob that bears its SHA-256 as name, if the hub
/// keeps it as a large file. What does not fit is removed, so that the next command fetches it anew; offline, and where it
/// lies outside the hub's blobs, it is left alone.
fn check(path: &Path, size: Option<u64>) -> Result<()> {
    let unreadable = || format!("{}: cannot read", path.display());
    let blob = fs::canonicalize(path).with_context(unreadable)?;
    let found = fs::metadata(&blob).with_context(unreadable)?;
    if !found.is_file() {
        let error = anyhow!("{}: expected a file, got a pipe or a device", path.display());
        return Err(Fault::Untrustworthy.because(error));
    }
    let got = found.len();
    let name = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_digest = name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit());
    let fault = if size.is_some_and(|size| size != got) {
        Some(format!("expected {} bytes, got {got}", size.unwrap_or_default()))
    } else if is_digest {
        let found = sha256(&blob).with_context(unreadable)?;
        (found != name).then(|| format!("expected the SHA-256 {name}, got {found}"))
    } else {
        None
    };
    let Some(fault) = fault else { return Ok(()) };
    let is_blob = blob.parent().is_some_and(|folder| folder.ends_with("blobs"));
    let what_next = if is_blob && !is_offline() {
        for spoilt in [path, &blob] {
            // What is gone already need not go.
            let _ = fs::remove_file(spoilt);
        }
        "the file was removed, the same command fetches it anew".to_string()
    } else {
        format!("remove {} and fetch it anew", blob.display())
    };
    Err(Fault::Untrustworthy.because(anyhow!("{}: {fault}; {what_next}", path.display())))
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let (mut hasher, mut file) = (Sha256::new(), fs::File::open(path)?);
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => hasher.update(&chunk[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `error`, in one sentence with what to do `otherwise` where it is of the network.
fn unreached(error: anyhow::Error, otherwise: &str) -> anyhow::Error {
    let is_of_network =
        error.chain().any(|cause| cause.to_string().starts_with("HTTP request error"));
    if !is_of_network {
        return error;
    }
    anyhow!(
        "the hub could not be reached: {}; run it again where there is a network, or {otherwise}",
        error.root_cause()
    )
}

/// Files of the training split of the data set `id`, from the hub's cache where they are there.
pub fn dataset(id: &str) -> Result<Vec<PathBuf>> {
    // The branch on which the hub keeps every data set as Parquet.
    const REVISION: &str = "refs/convert/parquet";
    let fetch = || -> Result<Vec<PathBuf>> {
        let (owner, name) = hf_hub::split_id(id);
        let repository = HFClientSync::new()?.dataset(owner, name);
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
    let otherwise =
        "set data.source=path and data.path to Parquet files that were fetched elsewhere";
    fetch()
        .map_err(|error| unreached(error, otherwise))
        .with_context(|| format!("data.source: hub:{id}"))
        .map_err(|error| Fault::Missing.because(error))
}
