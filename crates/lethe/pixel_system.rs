//! From `[model]` to a pixel-space U-Net that fits the data.

use crate::protocol::ModelSpec;
use crate::system::{AnyNetwork, Kind, System};
use anyhow::{Context, Result, anyhow, bail, ensure};
use lethe_data::ImageSet;
use lethe_pixel::{UNet2d, UNet2dConfig, folder};
use std::path::{Path, PathBuf};

/// The system of `spec`.
///
/// # Errors
/// Names the field that does not fit.
pub fn build(spec: &ModelSpec, images: &ImageSet) -> Result<System> {
    let config = network_config(spec, images)?;
    let (unet, declarations) = UNet2d::new(&config)?;
    Ok(System {
        network: AnyNetwork::Pixel(unet),
        declarations,
        base: None,
        kind: Kind::Pixel(Box::new(config)),
        pretrained: spec.pretrained.as_ref().map(PathBuf::from),
    })
}

fn network_config(spec: &ModelSpec, images: &ImageSet) -> Result<UNet2dConfig> {
    let shape = images.shape();
    let mut config = match (&spec.pretrained, &spec.like) {
        (Some(_), Some(_)) => bail!("model: expected `pretrained` or `like`, got both"),
        (Some(path), None) => {
            folder::read_config(&folder::locate(Path::new(path)).join(folder::CONFIG))?
        }
        (None, Some(name)) => known_config(name)?,
        (None, None) => {
            let levels = spec.channels.len();
            if let Some(level) = spec.attention_levels.iter().find(|&&level| level >= levels) {
                bail!("model.attention_levels: expected levels below {levels}, got {level}");
            }
            own_config(spec)
        }
    };
    if spec.pretrained.is_none() {
        (config.in_channels, config.out_channels) = (shape.channels, shape.channels);
        config.sample_size = Some(shape.height);
        config.num_class_embeds = spec.conditional.then(|| images.classes().len());
    }
    config.validate().map_err(|error| anyhow!("model: {error}"))?;
    ensure!(
        config.in_channels == shape.channels && config.out_channels == shape.channels,
        "model: it takes {} and gives {} channels, the images have {}; set data.colour",
        config.in_channels,
        config.out_channels,
        shape.channels
    );
    let divisor = config.divisor();
    ensure!(
        shape.height.is_multiple_of(divisor) && shape.width.is_multiple_of(divisor),
        "data.resolution: expected sides divisible by {divisor}, for {} levels, got {}x{}",
        config.block_out_channels.len(),
        shape.width,
        shape.height
    );
    if let Some(classes) = config.num_class_embeds {
        ensure!(
            classes >= images.classes().len(),
            "model: it knows {classes} classes, the data have {}",
            images.classes().len()
        );
    }
    Ok(config)
}

fn known_config(name: &str) -> Result<UNet2dConfig> {
    let known = lethe_models::known()?;
    let names: Vec<&str> = known.iter().map(|manifest| manifest.id.as_str()).collect();
    let manifest = known.iter().find(|manifest| manifest.id == name).with_context(|| {
        format!("model.like: expected one of {}, got `{name}`", names.join(", "))
    })?;
    let mut fields = manifest.config.clone();
    fields.retain(|key, _| !key.starts_with('_'));
    Ok(serde_json::from_value(fields.into())?)
}

fn own_config(spec: &ModelSpec) -> UNet2dConfig {
    let levels = spec.channels.len();
    let kind = |level: usize, with: &str, without: &str| {
        if spec.attention_levels.contains(&level) { with.to_string() } else { without.to_string() }
    };
    UNet2dConfig {
        block_out_channels: spec.channels.clone(),
        layers_per_block: spec.layers_per_block,
        down_block_types: (0..levels)
            .map(|level| kind(level, "AttnDownBlock2D", "DownBlock2D"))
            .collect(),
        up_block_types: (0..levels)
            .rev()
            .map(|level| kind(level, "AttnUpBlock2D", "UpBlock2D"))
            .collect(),
        attention_head_dim: (spec.head_channels > 0).then_some(spec.head_channels),
        norm_num_groups: spec.norm_groups,
        dropout: spec.dropout,
        ..UNet2dConfig::default()
    }
}
