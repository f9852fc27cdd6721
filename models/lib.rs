//! The manifests of known networks: which file formats hold them, under which keys, in which shapes.
//!
//! A manifest is JSON beside this file, made by a script beside it from the published configuration.
//! Beside them lie the merges of the one tokenizer that is known.
//! Holds no weights, and knows nothing of what a configuration means.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A network that is known by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name on the hub.
    pub id: String,
    /// Revision on the hub from which it was taken; none where it was made from the published configuration.
    pub revision: Option<String>,
    /// The network's configuration, as its folder holds it.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Shape of every tensor in its file, by the file's names.
    pub tensors: BTreeMap<String, Vec<usize>>,
    /// Today's name for each of the file's names that has changed.
    #[serde(default)]
    pub renamed: BTreeMap<String, String>,
}

/// A manifest in this room does not parse.
#[derive(Debug, thiserror::Error)]
#[error("models/{file}: {reason}")]
pub struct ManifestError {
    file: &'static str,
    reason: serde_json::Error,
}

const FILES: [(&str, &str); 4] = [
    ("google-ddpm-cifar10-32.json", include_str!("google-ddpm-cifar10-32.json")),
    ("stable-diffusion-v1-5-unet.json", include_str!("stable-diffusion-v1-5-unet.json")),
    ("stable-diffusion-v1-5-vae.json", include_str!("stable-diffusion-v1-5-vae.json")),
    (
        "stable-diffusion-v1-5-text-encoder.json",
        include_str!("stable-diffusion-v1-5-text-encoder.json"),
    ),
];

/// `merges.txt` of CLIP's tokenizer, packed by gzip; its licence lies beside it.
pub const CLIP_MERGES: &[u8] = include_bytes!("clip/merges.txt.gz");

/// All manifests.
///
/// # Errors
/// [`ManifestError`] when one does not parse.
pub fn known() -> Result<Vec<Manifest>, ManifestError> {
    FILES
        .iter()
        .map(|(file, text)| {
            serde_json::from_str(text).map_err(|reason| ManifestError { file, reason })
        })
        .collect()
}

impl Manifest {
    /// Numbers in all tensors.
    pub fn n_elements(&self) -> usize {
        self.tensors.values().map(|shape| shape.iter().product::<usize>()).sum()
    }

    /// Shape of every tensor, by today's names.
    pub fn shapes(&self) -> BTreeMap<&str, &[usize]> {
        let today = |name| self.renamed.get(name).unwrap_or(name).as_str();
        self.tensors.iter().map(|(name, shape)| (today(name), shape.as_slice())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_counts_hold() {
        let manifests = known().unwrap();
        assert_eq!(manifests[0].id, "google/ddpm-cifar10-32");
        assert_eq!((manifests[0].tensors.len(), manifests[0].n_elements()), (328, 35_746_307));
        assert_eq!(manifests[0].shapes().len(), 328);
        let counts = |i: usize| (manifests[i].tensors.len(), manifests[i].n_elements());
        assert_eq!(counts(1), (686, 859_520_964));
        assert_eq!(counts(2), (248, 83_653_863));
        // The text encoder's file holds a buffer besides: the numbers 0 to 76.
        assert_eq!(counts(3), (197, 123_060_480 + 77));
    }
}
