//! Networks are built with exactly the parameters that the manifests of models/ name.

use lethe::candlex::params::Declarations;
use lethe::latent::{
    AutoencoderKl, AutoencoderKlConfig, ClipTextConfig, ClipTextEncoder, UNet2dCondition,
    UNet2dConditionConfig,
};
use lethe::models::Manifest;
use lethe::pixel::{UNet2d, UNet2dConfig};
use serde::Deserialize;
use std::collections::BTreeMap;

fn declarations(manifest: &Manifest) -> Declarations {
    let text = serde_json::to_string(&manifest.config).unwrap();
    match manifest.config.get("_class_name").and_then(|name| name.as_str()) {
        Some("UNet2DConditionModel") => {
            UNet2dCondition::new(&UNet2dConditionConfig::parse(&text).unwrap()).unwrap().1
        }
        Some("AutoencoderKL") => {
            AutoencoderKl::new(&AutoencoderKlConfig::parse(&text).unwrap()).unwrap().1
        }
        Some("UNet2DModel") => {
            let mut config = manifest.config.clone();
            config.retain(|key, _| !key.starts_with('_'));
            UNet2d::new(&UNet2dConfig::deserialize(config).unwrap()).unwrap().1
        }
        _ => ClipTextEncoder::new(&ClipTextConfig::parse(&text).unwrap()).unwrap().1,
    }
}

fn declared(manifest: &Manifest) -> BTreeMap<String, Vec<usize>> {
    let declarations = declarations(manifest);
    let declared = declarations.as_slice();
    let names =
        declared.iter().map(|d| (d.name.clone(), d.shape.clone())).collect::<BTreeMap<_, _>>();
    assert_eq!(names.len(), declared.len(), "{}: a name is declared twice", manifest.id);
    names
}

/// What a manifest's name is called in the network; none for a buffer that is not needed.
fn todays_name(name: &str) -> Option<String> {
    if name.starts_with("text_model.") {
        return lethe::latent::text::todays_name(name);
    }
    Some(lethe::pixel::folder::todays_name(name))
}

#[test]
fn every_known_network_declares_its_tensors() {
    let manifests = lethe::models::known().unwrap();
    assert!(!manifests.is_empty());
    for manifest in &manifests {
        let declared = declared(manifest);
        let known: BTreeMap<String, Vec<usize>> = manifest
            .tensors
            .iter()
            .filter_map(|(name, shape)| Some((todays_name(name)?, shape.clone())))
            .collect();
        assert_eq!(declared, known, "{}", manifest.id);
    }
}

#[test]
fn the_published_network_has_its_published_size() {
    let manifests = lethe::models::known().unwrap();
    let manifest = manifests.iter().find(|m| m.id == "google/ddpm-cifar10-32").unwrap();
    let declared = declared(manifest);
    assert_eq!(declared.len(), 328);
    assert_eq!(
        declared.values().map(|shape| shape.iter().product::<usize>()).sum::<usize>(),
        35_746_307
    );
}

/// The older names of a manifest are the ones that the loader knows.
#[test]
fn the_loader_renames_as_the_manifests_do() {
    for manifest in lethe::models::known().unwrap() {
        for (name, today) in &manifest.renamed {
            assert_eq!(todays_name(name).as_ref(), Some(today), "{}", manifest.id);
        }
    }
}
