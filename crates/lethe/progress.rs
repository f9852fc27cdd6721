//! `progress.json`: which stages of a run are finished, and what was committed with them, under a digest of its own.

use crate::changes::Edit;
use crate::exit::{Fault, otherwise};
use crate::learn::Place;
use anyhow::{Context, Result, anyhow};
use lethe_ledger::{digest, durable};
use lethe_train::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path};

/// Format of the file.
pub const FORMAT: u32 = 4;

/// What a folder is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The verb, and the task that it is about, where it is about one.
    pub what: String,
    /// Digest of the weights that it was given by name, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
}

impl Work {
    /// A whole run.
    pub fn run() -> Self {
        Self { what: "run".into(), given: None }
    }

    /// Whether this is a checkpoint's measurement alone.
    pub fn is_probe(&self) -> bool {
        self.what.starts_with("probe ")
    }

    /// The work that `kept` says is done in `folder` is this.
    ///
    /// # Errors
    /// When it is other work, or was begun with other weights.
    pub fn expect_same(&self, folder: &Path, kept: &Self) -> Result<()> {
        let folder = folder.display();
        if self.what != kept.what {
            return Err(Fault::Usage.because(anyhow!(
                "--out: {folder}: it is the folder of `lethe {}`, and this is `lethe {}`; give another --out",
                kept.what,
                self.what
            )));
        }
        if self.given != kept.given {
            let word = |digest: &Option<String>| digest.clone().unwrap_or("none".into());
            return Err(Fault::Untrustworthy.because(anyhow!(
                "--out: {folder}: it was begun with other weights: digest {:.12}… then, {:.12}… now; give those, or another --out",
                word(&kept.given),
                word(&self.given)
            )));
        }
        Ok(())
    }
}

/// What is finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// [`FORMAT`].
    pub format: u32,
    /// What the folder is for.
    pub work: Work,
    /// Digest of the resolved protocol.
    pub protocol: String,
    /// Digest of the data.
    pub data: String,
    /// Digest of the model that the run starts from, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How the protocol was edited on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// Stages, in the order in which they were finished.
    pub done: Vec<String>,
    /// Lengths of the journals after the last of them.
    pub journals: Offsets,
    /// Digests of the journals to these lengths.
    pub contents: Contents,
    /// Digest of `examples.json`, where the work measures examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<String>,
    /// Digests of the checkpoints that finished lessons left, by their places in the folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checkpoints: BTreeMap<String, String>,
    /// Digests of the images that they left, by their places in the folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
}

/// What both journals held, by its digests: every line has one of its own, and could be another run's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Of the ledger.
    pub ledger: String,
    /// Of the training log.
    pub training: String,
}

impl Contents {
    /// Of the journals in `folder`, so far as they are `committed`.
    ///
    /// # Errors
    /// When one is shorter, or cannot be read.
    pub fn of(folder: &Path, committed: Offsets) -> Result<Self> {
        Ok(Self {
            ledger: digest_of(&folder.join("ledger.jsonl"), committed.ledger)?,
            training: digest_of(&folder.join("training.jsonl"), committed.training)?,
        })
    }

    /// The journals in `folder` hold these, so far as they are `committed`.
    ///
    /// # Errors
    /// Names the first that does not.
    pub fn expect(&self, folder: &Path, committed: Offsets) -> Result<()> {
        let found = Self::of(folder, committed)?;
        let pairs = [
            ("ledger.jsonl", &found.ledger, &self.ledger),
            ("training.jsonl", &found.training, &self.training),
        ];
        for (name, found, kept) in pairs {
            if found != kept {
                let reason =
                    "it does not hold what the run has committed, which may be another run's lines";
                return Err(untrustworthy(&folder.join(name), reason));
            }
        }
        Ok(())
    }
}

/// Digest of the first `length` bytes of `path`.
fn digest_of(path: &Path, length: u64) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    if length > 0 {
        durable::expect_file(path).map_err(|error| {
            Fault::Untrustworthy.because(anyhow!("{error}; restore it from a copy"))
        })?;
        let file = fs::File::open(path).with_context(|| path.display().to_string())?;
        let found = std::io::copy(&mut file.take(length), &mut hasher)
            .with_context(|| path.display().to_string())?;
        if found < length {
            let reason =
                format!("expected {length} bytes, which the run has committed, got {found}");
            return Err(untrustworthy(path, &reason));
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Lengths of both journals in bytes: what a checkpoint remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offsets {
    /// Of the ledger.
    pub ledger: u64,
    /// Of the training log.
    pub training: u64,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    progress: Progress,
    digest: String,
}

fn untrustworthy(path: &Path, reason: &str) -> anyhow::Error {
    Fault::Untrustworthy.because(anyhow!(
        "{}: {reason}; restore it from a copy, or begin anew with another --out",
        path.display()
    ))
}

/// Whether `folder` is the folder of a run, or of another work of lethe's: other programs have files of these names, too.
pub fn is_run(folder: &Path) -> bool {
    const WORDS: [&str; 5] =
        ["\"contents\"", "\"done\"", "\"digest\"", "\"journals\"", "\"protocol\""];
    /// Damage takes some of them.
    const ENOUGH: usize = 2;
    let Ok(bytes) = durable::read(folder.join("progress.json")) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    let known = WORDS.iter().filter(|word| text.contains(**word)).count();
    let is_ours = known >= ENOUGH || serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err();
    is_ours && ["protocol.toml", "run.json"].iter().any(|name| folder.join(name).is_file())
}

/// A checkpoint that its run does not know.
pub fn elsewhere(found: &Checkpoint) -> anyhow::Error {
    let reason = "it is not what the task left: it was put here from elsewhere";
    untrustworthy(found.path(), reason)
}

impl Progress {
    /// Reads that of the run in `folder`, and looks at the images that it names.
    ///
    /// # Errors
    /// When it is missing, or something is not as it was written.
    pub fn load(folder: &Path) -> Result<Self> {
        let progress = Self::read(folder)?;
        progress.expect_images(folder)?;
        Ok(progress)
    }

    /// As [`Progress::load`], without a look at the images.
    ///
    /// # Errors
    /// When it is missing or not as it was written.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("progress.json");
        let text =
            durable::read_text(&path).map_err(|error| Fault::Untrustworthy.because(error))?;
        let Kept { progress, digest: kept } = serde_json::from_str(&text)
            .map_err(|error| untrustworthy(&path, &error.to_string()))?;
        let is_own = digest(&serde_json::to_string(&progress)?) == kept;
        if !is_own || progress.rendered()? != text {
            return Err(untrustworthy(&path, "it is not as it was written"));
        }
        if progress.format != FORMAT {
            let reason = format!(
                "format {} is not {FORMAT}: another version of lethe wrote it",
                progress.format
            );
            return Err(untrustworthy(&path, &reason));
        }
        Ok(progress)
    }

    /// Replaces that of the run in `folder` at once.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, folder: &Path) -> Result<()> {
        Ok(durable::write_file(folder.join("progress.json"), self.rendered()?.as_bytes())?)
    }

    fn rendered(&self) -> Result<String> {
        let digest = digest(&serde_json::to_string(self)?);
        Ok(serde_json::to_string_pretty(&Kept { progress: self.clone(), digest })? + "\n")
    }

    /// Whether `digest` is that of the run's protocol, as it is or as it was before an edit.
    pub fn knows_protocol(&self, digest: &str) -> bool {
        self.protocol == digest || self.edits.iter().any(|edit| edit.protocol == digest)
    }

    /// The journals hold what finished stages wrote.
    ///
    /// # Errors
    /// Names the first that does not.
    pub fn expect_contents(&self, folder: &Path) -> Result<()> {
        self.contents.expect(folder, self.journals)
    }

    /// The checkpoint `found` is the one that the lesson at `place` left.
    ///
    /// # Errors
    /// When it is another one, or the lesson is not finished.
    pub fn expect_left(&self, place: &Place, found: &Checkpoint) -> Result<()> {
        if self.checkpoints.get(&place.key()).is_some_and(|left| left == found.digest()) {
            return Ok(());
        }
        Err(elsewhere(found))
    }

    /// The table of examples is the one that the run measured.
    ///
    /// # Errors
    /// When it is not.
    pub fn expect_examples(&self, folder: &Path) -> Result<()> {
        let Some(kept) = &self.examples else { return Ok(()) };
        let path = folder.join("examples.json");
        let found = durable::read_text(&path)
            .map_err(|error| anyhow!("{error}; `lethe run` writes it again"))
            .map_err(otherwise(Fault::Untrustworthy))?;
        if digest(&found) == *kept {
            return Ok(());
        }
        Err(Fault::Untrustworthy.because(anyhow!(
            "{}: it is not the table of the examples that the run measured; `lethe run` writes it again",
            path.display()
        )))
    }

    /// The images that finished stages left are there as they were drawn.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn expect_images(&self, folder: &Path) -> Result<()> {
        for (name, drawn) in &self.images {
            let path = folder.join(name);
            let is_plain = |part: Component| matches!(part, Component::Normal(_));
            if !Path::new(name).components().all(is_plain) {
                let reason = "it names an image outside the run's folder";
                return Err(untrustworthy(&folder.join("progress.json"), reason));
            }
            let bytes = durable::read(&path).map_err(|error| {
                Fault::Untrustworthy
                    .because(anyhow!("{error}; it was drawn by the run: restore it from a copy"))
            })?;
            if blake3::hash(&bytes).to_hex().as_str() != drawn {
                return Err(untrustworthy(&path, "it is not as it was drawn"));
            }
        }
        Ok(())
    }
}
