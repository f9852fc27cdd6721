//! The autoencoder against diffusers (tests/golden/README.md says how the values were made).

use super::*;
use crate::testing::{distance, golden, image, tensor};
use lethe_candlex::weights::{WeightFile, serialize};

fn read_golden() -> (Pretrained, WeightFile) {
    let found = read(&golden("vae"), DType::F32, &Device::Cpu).unwrap();
    (found, WeightFile::open(&golden("vae.safetensors")).unwrap())
}

#[test]
fn moments_and_decoded_latents_equal_diffusers() {
    let (found, mut file) = read_golden();
    let tape = Tape::inference(&found.loaded.store);
    let x = Value::constant(image(&mut file, "vae.image"));
    let moments = found.vae.encode(&tape, &x).unwrap();
    let z = Value::constant(image(&mut file, "vae.decode_in"));
    let decoded = found.vae.decode(&tape, &z).unwrap();
    for (name, ours) in [
        ("vae.mean", &moments.mean),
        ("vae.logvar", &moments.log_variance),
        ("vae.decode_out", &decoded),
    ] {
        let expected = image(&mut file, name);
        let off = distance(ours.tensor(), &expected, &expected);
        assert!(off <= 5e-6, "{name} is off by {off:e}");
    }
    // Scaled there and back.
    let (mean, _) = found.vae.latents(&found.loaded.store, x.tensor()).unwrap();
    let ratio = distance(&(mean / 0.18215).unwrap(), moments.mean.tensor(), moments.mean.tensor());
    assert!(ratio <= 1e-6, "{ratio:e}");
}

#[test]
fn the_objective_and_every_gradient_equal_torch() {
    let (found, mut file) = read_golden();
    let store = &found.loaded.store;
    let (images, noise) = (image(&mut file, "vae.image"), image(&mut file, "vae.noise"));
    let weight = 0.03;
    let answer = objective(&found.vae, store, &images, &noise, weight).unwrap();
    let expected = tensor(&mut file, "vae.loss").to_vec1::<f32>().unwrap()[0];
    let loss = answer.absolute_error + weight * answer.divergence;
    assert!((loss - f64::from(expected)).abs() <= 2e-6 * loss, "{loss} {expected}");
    for (index, (name, _)) in store.iter().enumerate() {
        let expected = tensor(&mut file, &format!("vae.grad.{name}"));
        let scale = match name.strip_suffix("to_k.bias") {
            // The bias of the keys moves all logits of a query alike: its gradient vanishes.
            Some(place) => tensor(&mut file, &format!("vae.grad.{place}to_k.weight")),
            None => expected.clone(),
        };
        let found = answer.gradients.parameter(index).expect(name);
        let off = distance(found, &expected, &scale);
        assert!(off <= 7e-5, "{name}: the gradient is off by {off:e}");
    }
}

/// The golden autoencoder under other names.
fn renamed(rename: impl Fn(&str) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("vae").join(CONFIG), folder.path().join(CONFIG)).unwrap();
    let name = format!("{DIFFUSERS_STEM}.safetensors");
    let mut file = WeightFile::open(&golden("vae").join(&name)).unwrap();
    let names: Vec<String> = file.names().map(String::from).collect();
    let tensors: Vec<(String, Tensor)> =
        names.iter().map(|name| (rename(name), tensor(&mut file, name))).collect();
    let tensors: Vec<(&str, Tensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    std::fs::write(folder.path().join(name), serialize(&tensors, None).unwrap()).unwrap();
    folder
}

#[test]
fn the_names_of_the_published_file_are_read_and_wrong_ones_named() {
    let published = renamed(|name| {
        let name = name.replace(".to_q.", ".query.").replace(".to_k.", ".key.");
        name.replace(".to_v.", ".value.").replace(".to_out.0.", ".proj_attn.")
    });
    let old = read(published.path(), DType::F32, &Device::Cpu).unwrap();
    let (new, _) = read_golden();
    let bits = |found: &Pretrained| found.loaded.store.flat().to_vec1::<f32>().unwrap();
    assert_eq!(bits(&old), bits(&new));
    let wrong = renamed(|name| name.replace("encoder.conv_out.bias", "encoder.conv_put.bias"));
    let words = read(wrong.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(words.contains("encoder.conv_out.bias") && words.contains("conv_put"), "{words}");
}

#[test]
fn the_published_configuration_has_the_published_parameters() {
    let kind = |name: &str| vec![name.to_string(); 4];
    let config = AutoencoderKlConfig {
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        down_block_types: kind("DownEncoderBlock2D"),
        up_block_types: kind("UpDecoderBlock2D"),
        ..AutoencoderKlConfig::default()
    };
    let (_, declarations) = AutoencoderKl::new(&config).unwrap();
    assert_eq!((declarations.as_slice().len(), declarations.n_elements()), (248, 83_653_863));
    assert_eq!(config.factor(), 8);
}

#[test]
fn other_classes_and_shifted_latents_are_refused() {
    let words = |text: &str| AutoencoderKlConfig::parse(text).unwrap_err();
    assert!(words(r#"{"_class_name": "AutoencoderTiny"}"#).contains("AutoencoderTiny"));
    assert!(words(r#"{"shift_factor": 0.1}"#).contains("shift_factor: expected null"));
    let odd = AutoencoderKlConfig { norm_num_groups: 5, ..Default::default() };
    assert!(odd.validate().unwrap_err().to_string().contains("norm_num_groups"));
}
