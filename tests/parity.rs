//! Networks against golden tensors from the Python originals (tests/golden/README.md says how they were made).

use lethe::verify::{Distance, Reference, compare, read};
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn distances(model: &str, reference: &str) -> Vec<Distance> {
    let network = read(&golden(&format!("unet/{model}"))).unwrap();
    let mut reference = Reference::open(&golden(&format!("unet/{reference}.safetensors"))).unwrap();
    let distances = compare(&network, &mut reference).unwrap();
    let parameters = network.loaded.store.len();
    assert_eq!(distances.iter().filter(|d| d.name.starts_with("unet.grad.")).count(), parameters, "{model}");
    distances
}

/// Tolerances from tests/golden/README.md: five to ten times torch's own distance between float32 and float64.
#[test]
fn outputs_and_every_gradient_equal_diffusers() {
    let models = [
        "ddpm-cifar10-like",
        "defaults-like",
        "scale-shift",
        "class-conditional",
        "no-attention",
        "no-mid-block",
        "resnet-sampling",
        "rare-options",
    ];
    for model in models {
        let distances = distances(model, &format!("{model}/reference"));
        let mut gradients = Vec::new();
        for Distance { name, relative_error } in &distances {
            let tolerance = match name.as_str() {
                "unet.out" => 5e-6,
                name if name.ends_with("to_k.bias") => 5e-6,
                _ => 7e-5,
            };
            assert!(*relative_error <= tolerance, "{model}: {name} is off by {relative_error:e}");
            gradients.push(*relative_error);
        }
        gradients.sort_by(f64::total_cmp);
        let median = gradients[gradients.len() / 2];
        assert!(median <= 9e-6, "{model}: the median gradient is off by {median:e}");
    }
}

#[test]
fn the_older_names_of_attention_give_the_same_network() {
    for Distance { name, relative_error } in distances("old-names", "ddpm-cifar10-like/reference") {
        assert!(relative_error <= 7e-5, "{name} is off by {relative_error:e}");
    }
}
