//! Networks are built with exactly the parameters that the manifests of models/ name.

use lethe::models::Manifest;
use lethe::pixel::{UNet2d, UNet2dConfig};
use serde::Deserialize;
use std::collections::BTreeMap;

fn declared(manifest: &Manifest) -> BTreeMap<String, Vec<usize>> {
    let mut config = manifest.config.clone();
    config.retain(|key, _| !key.starts_with('_'));
    let config = UNet2dConfig::deserialize(config).unwrap();
    let (_, declarations) = UNet2d::new(&config).unwrap();
    let declared = declarations.as_slice();
    let names =
        declared.iter().map(|d| (d.name.clone(), d.shape.clone())).collect::<BTreeMap<_, _>>();
    assert_eq!(names.len(), declared.len(), "{}: a name is declared twice", manifest.id);
    names
}

#[test]
fn every_known_network_declares_its_tensors() {
    let manifests = lethe::models::known().unwrap();
    assert!(!manifests.is_empty());
    for manifest in &manifests {
        let declared = declared(manifest);
        let known: BTreeMap<String, Vec<usize>> = manifest
            .shapes()
            .into_iter()
            .map(|(name, shape)| (name.to_string(), shape.to_vec()))
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
        let shapes = manifest.shapes();
        for name in manifest.tensors.keys() {
            let today = lethe::pixel::folder::todays_name(name);
            assert!(shapes.contains_key(today.as_str()), "{}: {name} became {today}", manifest.id);
        }
    }
}
