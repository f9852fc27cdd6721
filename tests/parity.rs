//! Networks against golden tensors from the Python originals (tests/golden/README.md says how they were made).

use lethe::verify::{Distance, Reference, Subject, compare};
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn distances(model: &str, reference: &str) -> Vec<Distance> {
    let network = Subject::read(&golden(&format!("unet/{model}"))).unwrap();
    let mut reference = Reference::open(&golden(&format!("unet/{reference}.safetensors"))).unwrap();
    compare(&network, &mut reference).unwrap()
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
        let parameters = Subject::read(&golden(&format!("unet/{model}"))).unwrap().store.len();
        assert_eq!(distances.len(), parameters + 1, "{model}");
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

#[test]
fn three_training_steps_equal_torch() {
    let distances = distances("defaults-like", "defaults-like/training");
    let median = |kind: &str| {
        let own =
            distances.iter().filter(|d| d.name.starts_with(kind) && !d.name.ends_with("to_k.bias"));
        let mut errors: Vec<f64> = own.map(|d| d.relative_error).collect();
        errors.sort_by(f64::total_cmp);
        (errors[errors.len() / 2], errors[errors.len() - 1])
    };
    for (kind, worst, middle) in [("unet.after3.", 4e-4, 6e-7), ("unet.ema3.", 1e-4, 3e-7)] {
        let (median, largest) = median(kind);
        assert!(largest <= worst && median <= middle, "{kind}: {largest:e}, median {median:e}");
    }
    for name in ["unet.losses", "unet.gradient_norms"] {
        let distance = distances.iter().find(|d| d.name == name).unwrap();
        assert!(distance.relative_error <= 1e-6, "{name}: {:e}", distance.relative_error);
    }
}

#[test]
fn walks_from_a_middle_timestep_equal_diffusers() {
    let distances = distances("ddpm-cifar10-like", "ddpm-cifar10-like/sampling");
    for (name, tolerance) in [("ddim.out", 1e-4), ("ddpm.out", 2e-5)] {
        let distance = distances.iter().find(|d| d.name == name).unwrap();
        assert!(distance.relative_error <= tolerance, "{name}: {:e}", distance.relative_error);
    }
}

/// A file that holds what verification does not know must not pass in silence.
#[test]
fn an_unknown_name_in_a_reference_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.safetensors");
    let tensor =
        candle_core::Tensor::zeros(3, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let bytes = lethe::candlex::weights::serialize(
        &[("unet.x", tensor.clone()), ("unett.out", tensor)],
        None,
    )
    .unwrap();
    std::fs::write(&path, bytes).unwrap();
    assert!(Reference::open(&path).err().unwrap().to_string().contains("`unett.out`"));
}

/// Stable Diffusion v1.5 in small, read as the whole pipeline that it is.
fn latent_distances(reference: &std::path::Path) -> Vec<Distance> {
    let network = Subject::read(&golden("latent")).unwrap();
    compare(&network, &mut Reference::open(reference).unwrap()).unwrap()
}

#[test]
fn stable_diffusion_in_small_equals_diffusers_in_every_gradient_step_and_walk() {
    for (name, expected) in [("unet", 685), ("walk", 2), ("training", 22)] {
        let distances = latent_distances(&golden(&format!("latent/{name}.safetensors")));
        assert_eq!(distances.len(), expected, "{name}");
        for Distance { name, relative_error } in distances {
            let tolerance = match name.as_str() {
                "unet.out" | "ddim.out" => 5e-6,
                "ddim.guided" => 2e-5,
                _ => 7e-5,
            };
            assert!(relative_error <= tolerance, "{name} is off by {relative_error:e}");
        }
    }
}

#[test]
fn its_frozen_parts_equal_diffusers_and_transformers() {
    use lethe::candlex::weights::{WeightFile, serialize};
    let mut tensors = Vec::new();
    for (file, names) in [
        ("text", &["text.ids", "text.last_hidden_state"][..]),
        ("vae", &["vae.image", "vae.mean", "vae.logvar", "vae.decode_in", "vae.decode_out"]),
    ] {
        let file = WeightFile::open(&golden(&format!("latent/{file}.safetensors"))).unwrap();
        tensors.extend(names.iter().map(|&name| (name, file.tensor(name).unwrap())));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.safetensors");
    let check = |tensors: &[(&str, candle_core::Tensor)]| {
        std::fs::write(&path, serialize(tensors, None).unwrap()).unwrap();
        let distances = latent_distances(&path);
        assert_eq!(distances.len(), 4);
        distances.iter().map(|distance| distance.relative_error).fold(0., f64::max)
    };
    let off = check(&tensors);
    assert!(off <= 5e-6, "{off:e}");
    // The check sees another text.
    tensors[0].1 = (&tensors[0].1 * 0.5).unwrap().round().unwrap();
    assert!(check(&tensors) >= 1e-2);
}
