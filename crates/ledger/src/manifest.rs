//! What was run: `run.json`, the provenance of every number in a run folder.

use crate::durable;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;

/// Everything needed to say where a number comes from and to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunManifest {
    /// Format of this file, [`FORMAT`].
    pub format: u32,
    /// Name of the protocol.
    pub name: String,
    /// The resolved protocol, TOML text.
    pub protocol: String,
    /// [`digest`] of that text.
    pub protocol_digest: String,
    /// The data set.
    pub data: DataProvenance,
    /// Class ids of each task, in the order of learning.
    pub tasks: Vec<Vec<u32>>,
    /// Arms that were planned, without the shared first task.
    pub arms: Vec<String>,
    /// The repetitions and their seeds.
    pub runs: Vec<Repetition>,
    /// The device, in words.
    pub device: String,
    /// Versions of the parts, by name.
    pub versions: BTreeMap<String, String>,
    /// Revision of the sources, where known.
    pub git_revision: Option<String>,
    /// The inverse temperatures of the energies.
    pub inverse_temperatures: InverseTemperatures,
    /// The noise level t/T at which the report's headline speaks.
    pub headline_level: f64,
    /// All noise levels t/T of the reconstruction error.
    pub levels: Vec<f64>,
    /// Capacity of the replay buffer in examples, the same for every arm.
    pub budget: u64,
    /// How the sheets in `images/` are laid out.
    pub images: SpriteLayout,
    /// Digest of the model that the run started from, where the seed did not draw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Edits of the protocol while the run was under way, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// One repetition of the whole protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repetition {
    /// Name of the repetition in the ledger, for example `seed-1`.
    pub run: String,
    /// The root seed of its randomness.
    pub seed: u64,
}

/// Where the examples come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataProvenance {
    /// The source, in words or as a path.
    pub source: String,
    /// Digest of the content, hexadecimal.
    pub digest: String,
    /// Number of examples in the data set.
    pub examples: u64,
    /// Side of an image in pixels.
    pub resolution: u32,
    /// 1 (grey) or 3 (colour).
    pub channels: u32,
    /// Names of the classes, by class id.
    pub classes: Vec<String>,
}

/// The inverse temperature of each form of the energy, where that form was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InverseTemperatures {
    /// Distance form, in 1/pixel².
    pub distance: Option<ChosenTemperature>,
    /// Unit-norm dot form.
    pub unit: Option<ChosenTemperature>,
}

/// An inverse temperature and how it was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChosenTemperature {
    /// The inverse temperature: the level of the energies in the ledger.
    pub value: f64,
    /// Median perplexity of the leave-one-out associations at that value.
    pub perplexity: f64,
    /// Timestep whose signal-to-noise ratio matches it, where one does.
    pub timestep: Option<u32>,
    /// That timestep as a share of all timesteps.
    #[serde(rename = "t_over_T")]
    pub time: Option<f64>,
}

/// How a sheet of images is laid out: tiles from left to right, then down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpriteLayout {
    /// Width of a tile in pixels.
    pub tile_width: u32,
    /// Height of a tile in pixels.
    pub tile_height: u32,
    /// 1 (grey) or 3 (colour).
    pub channels: u32,
    /// Tiles in a row.
    pub columns: u32,
}

/// The digest of a text in this room's files: BLAKE3, hexadecimal.
pub fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

impl RunManifest {
    /// Reads and validates `run.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Json`], and what [`Self::validate`] refuses.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = without_check(path, durable::read_text(path)?)?;
        let manifest: Self = serde_json::from_str(&text).map_err(|source| Error::Json {
            path: path.to_owned(),
            what: "run manifest",
            format: FORMAT,
            source,
        })?;
        manifest.validate_as(&path.display().to_string())?;
        Ok(manifest)
    }

    /// Validates and writes `run.json`, replacing it at once.
    ///
    /// # Errors
    /// [`Error::InvalidField`], [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.validate_as(&path.display().to_string())?;
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|source| Error::io(path, "encode")(source.into()))?;
        text.push('\n');
        durable::write_file(path, with_check(&text).as_bytes())
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`Error::InvalidField`] with the field.
    pub fn validate(&self) -> Result<()> {
        self.validate_as("run manifest")
    }

    fn validate_as(&self, what: &str) -> Result<()> {
        let invalid = |field, expected: String, got: String| {
            Err(Error::InvalidField { what: what.to_owned(), field, expected, got })
        };
        if self.format != FORMAT {
            return invalid("format", format!("{FORMAT}"), format!("{}", self.format));
        }
        if self.protocol_digest != digest(&self.protocol) {
            let expected = format!("{}, the digest of `protocol`", digest(&self.protocol));
            return invalid("protocol_digest", expected, self.protocol_digest.clone());
        }
        let n_classes = self.data.classes.len();
        if let Some(class) = self.tasks.iter().flatten().find(|&&class| class as usize >= n_classes)
        {
            return invalid("tasks", format!("class ids below {n_classes}"), class.to_string());
        }
        if let Some(run) = first_repeated(self.runs.iter().map(|repetition| &repetition.run)) {
            return invalid("runs", "each run once".into(), format!("{run} twice"));
        }
        if let Some(arm) = first_repeated(self.arms.iter()) {
            return invalid("arms", "each arm once".into(), format!("{arm} twice"));
        }
        for (field, level) in std::iter::once(("headline_level", self.headline_level))
            .chain(self.levels.iter().map(|&level| ("levels", level)))
        {
            if !(0.0..=1.0).contains(&level) {
                return invalid(field, "t/T in [0, 1]".into(), level.to_string());
            }
        }
        let sides = [self.images.tile_width, self.images.tile_height, self.images.columns];
        if sides.contains(&0) || ![1, 3].contains(&self.images.channels) {
            let expected = "sides and columns > 0, 1 or 3 channels".into();
            return invalid("images", expected, format!("{:?}", self.images));
        }
        Ok(())
    }
}

/// What ends an object over several lines.
const END: &str = "\n}\n";
const CHECK: &str = ",\n  \"check\": \"";

/// A manifest's text with the digest of itself as its last field, `check`.
fn with_check(text: &str) -> String {
    let body = text.strip_suffix(END).unwrap_or(text);
    format!("{body}{CHECK}{}\"{END}", digest(text))
}

/// The text before `check` was added, if it is as it was written.
fn without_check(path: &Path, text: String) -> Result<String> {
    let field = text.rsplit_once(CHECK);
    let Some((body, found)) =
        field.and_then(|(body, rest)| Some((body, rest.strip_suffix(&format!("\"{END}"))?)))
    else {
        return Err(Error::InvalidField {
            what: path.display().to_string(),
            field: "check",
            expected: "the digest of what stands before it, as the last field".into(),
            got: "another end: the file was changed or damaged after it was written".into(),
        });
    };
    let body = format!("{body}{END}");
    let expected = digest(&body);
    if found == expected {
        return Ok(body);
    }
    Err(Error::InvalidField {
        what: path.display().to_string(),
        field: "check",
        expected: format!("{expected}, the digest of what stands before it"),
        got: format!("{found:.80}: the file was changed or damaged after it was written"),
    })
}

fn first_repeated<'a>(names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;

    /// A field and what makes it wrong.
    type Change = (&'static str, fn(&mut RunManifest));

    pub(crate) fn manifest() -> RunManifest {
        let protocol = "name = \"tiny\"\n".to_owned();
        RunManifest {
            format: FORMAT,
            name: "tiny".into(),
            protocol_digest: digest(&protocol),
            protocol,
            data: DataProvenance {
                source: "embedded".into(),
                digest: "00".into(),
                examples: 40,
                resolution: 8,
                channels: 1,
                classes: vec!["shirt".into(), "boot".into()],
            },
            tasks: vec![vec![0], vec![1]],
            arms: vec!["none".into(), "random".into()],
            runs: vec![Repetition { run: "seed-1".into(), seed: 1 }],
            device: "cpu".into(),
            versions: BTreeMap::from([("lethe".into(), "0.1.0".into())]),
            git_revision: None,
            inverse_temperatures: InverseTemperatures {
                distance: Some(ChosenTemperature {
                    value: 0.125,
                    perplexity: 10.0,
                    timestep: Some(240),
                    time: Some(0.24),
                }),
                unit: None,
            },
            headline_level: 0.3,
            levels: vec![0.1, 0.3],
            budget: 4,
            images: SpriteLayout { tile_width: 8, tile_height: 8, channels: 1, columns: 10 },
            model: None,
            changes: Vec::new(),
        }
    }

    #[test]
    fn a_manifest_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        manifest().save(&path).unwrap();
        assert_eq!(RunManifest::load(&path).unwrap(), manifest());
        assert!(fs::read_to_string(&path).unwrap().contains("\"t_over_T\": 0.24"));
    }

    #[test]
    fn any_flipped_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        manifest().save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            for flip in [1, 4, 0x20] {
                let mut flipped = bytes.clone();
                flipped[at] ^= flip;
                fs::write(&path, &flipped).unwrap();
                let error = RunManifest::load(&path).unwrap_err().to_string();
                assert!(error.contains("run.json"), "{at}: {error}");
            }
        }
    }

    #[test]
    fn a_manifest_without_its_check_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        manifest().save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let (body, _) = text.rsplit_once(CHECK).unwrap();
        fs::write(&path, format!("{body}{END}")).unwrap();
        let message = RunManifest::load(&path).unwrap_err().to_string();
        assert!(message.contains("field `check`"), "{message}");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        manifest().save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let (text, _) = text.rsplit_once(CHECK).unwrap();
        let text = text.replacen("\"budget\"", "\"bugdet\"", 1);
        fs::write(&path, with_check(&format!("{text}{END}"))).unwrap();
        let message = RunManifest::load(&path).unwrap_err().to_string();
        assert!(message.contains("run.json: unknown field `bugdet`"), "{message}");
    }

    #[test]
    fn each_law_of_the_manifest_is_held() {
        let changes: [Change; 8] = [
            ("format", |m| m.format = 2),
            ("protocol_digest", |m| m.protocol.push('#')),
            ("tasks", |m| m.tasks[1] = vec![2]),
            ("runs", |m| m.runs.push(m.runs[0].clone())),
            ("arms", |m| m.arms[1] = "none".into()),
            ("headline_level", |m| m.headline_level = f64::NAN),
            ("levels", |m| m.levels[0] = -0.1),
            ("images", |m| m.images.columns = 0),
        ];
        for (field, change) in changes {
            let mut changed = manifest();
            change(&mut changed);
            let message = changed.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("field `{field}`")), "{message}");
        }
    }
}
