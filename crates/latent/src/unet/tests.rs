//! The U-Net against diffusers (tests/golden/README.md says how the values were made).

use super::*;
use crate::folder::{CONFIG, DIFFUSERS_STEM, read_unet_folder, read_unet_weights, weight_files};
use crate::testing::{distance, golden, image, tensor};
use candle_core::{DType, Device};
use lethe_candlex::params::ParamStore;
use lethe_candlex::tape::Gradients;
use lethe_candlex::weights::{self, WeightFile};
use lethe_diffusion::objective::denoising_loss;

/// Output and gradients of mean((out − noise)²) on the golden batch.
fn step(
    unet: &UNet2dCondition,
    store: &ParamStore,
    file: &mut WeightFile,
    recomputes: bool,
) -> (Tensor, Gradients) {
    let timesteps: Vec<f64> = file.tensor("unet.t").unwrap().to_vec1().unwrap();
    let embeddings = tensor(file, "unet.context");
    let of = [0, 1];
    let condition = Condition::Texts { embeddings: &embeddings, of: &of };
    let pass = Pass { recomputes, ..Pass::plain(condition) };
    let tape = Tape::recording(store);
    let x = Value::constant(image(file, "unet.x"));
    let output = unet.forward(&tape, &x, &timesteps, &pass).unwrap();
    let value = output.tensor().clone();
    let loss = denoising_loss(&value, &image(file, "unet.noise"), &[1., 1.]).unwrap();
    (value, tape.backward(&output, loss.gradient).unwrap())
}

#[test]
fn the_output_and_every_gradient_equal_diffusers() {
    let (_, unet, declarations) = read_unet_folder(&golden("unet")).unwrap();
    let store =
        read_unet_weights(&golden("unet"), &declarations, DType::F32, &Device::Cpu).unwrap().store;
    let mut file = WeightFile::open(&golden("unet.safetensors")).unwrap();
    for recomputes in [false, true] {
        let (output, gradients) = step(&unet, &store, &mut file, recomputes);
        let expected = image(&mut file, "unet.out");
        let off = distance(&output, &expected, &expected);
        assert!(off <= 5e-6, "the output is off by {off:e}");
        for (index, (name, _)) in store.iter().enumerate() {
            let expected = tensor(&mut file, &format!("unet.grad.{name}"));
            let found = gradients.parameter(index).expect(name);
            let off = distance(found, &expected, &expected);
            assert!(off <= 7e-5, "{name}: the gradient is off by {off:e}");
        }
    }
}

#[test]
fn linear_projections_and_heads_by_level_equal_diffusers() {
    let folder = golden("unet-linear");
    let text = std::fs::read_to_string(folder.join(CONFIG)).unwrap();
    let config = UNet2dConditionConfig::parse(&text).unwrap();
    let output = |config: &UNet2dConditionConfig| {
        let (unet, declarations) = UNet2dCondition::new(config).unwrap();
        let files = weight_files(&folder, DIFFUSERS_STEM).unwrap();
        let loaded =
            weights::load(&declarations, &files, str::to_string, DType::F32, &Device::Cpu).unwrap();
        let mut file = WeightFile::open(&golden("unet-linear.safetensors")).unwrap();
        let embeddings = tensor(&mut file, "unet.context");
        let timesteps: Vec<f64> = file.tensor("unet.t").unwrap().to_vec1().unwrap();
        let of: Vec<u32> = (0..timesteps.len() as u32).collect();
        let pass = Pass::plain(Condition::Texts { embeddings: &embeddings, of: &of });
        let x = Value::constant(image(&mut file, "unet.x"));
        let output = unet.forward(&Tape::inference(&loaded.store), &x, &timesteps, &pass);
        let expected = image(&mut file, "unet.out");
        distance(output.unwrap().tensor(), &expected, &expected)
    };
    let off = output(&config);
    assert!(off <= 5e-6, "the output is off by {off:e}");
    // The check sees another number of heads.
    let other = UNet2dConditionConfig { attention_head_dim: PerLevel::One(1), ..config };
    assert!(output(&other) >= 1e-3);
}

#[test]
fn another_family_is_named_and_unknown_options_are_refused() {
    let words = |text: &str| UNet2dConditionConfig::parse(text).unwrap_err();
    assert!(words(r#"{"addition_embed_type": "text_time"}"#).contains("Stable Diffusion XL"));
    assert!(words(r#"{"cross_attention_dim": 1024}"#).contains("Stable Diffusion 2"));
    assert!(words(r#"{"_class_name": "UNet2DModel"}"#).contains("UNet2DModel"));
    assert!(words(r#"{"conv_in_kernel": 5}"#).contains("conv_in_kernel: expected 3, got 5"));
    assert!(words(r#"{"chanels": 5}"#).contains("chanels"));
    let odd = UNet2dConditionConfig {
        attention_head_dim: PerLevel::One(7),
        ..UNet2dConditionConfig::default()
    };
    assert!(odd.validate().unwrap_err().to_string().contains("attention_head_dim"));
}
