//! Two tasks of images as unit vectors, and the inverse temperature at which they have neighbours.

use super::images::ImageSetting;
use crate::exit::Fault;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use lethe_data::{DataError, ReadOptions, Source, detect, read};
use lethe_hopfield::temperature::at_perplexity;
use lethe_hopfield::{HopfieldEnergy, Representation, Vectors};

/// Images of two tasks.
pub struct ImageTasks {
    /// Where they come from.
    pub source: String,
    /// Task 1, [n, d]: directions from its mean.
    pub old: Vectors,
    /// Task 2, [m, d]: directions from the mean of task 1.
    pub new: Vectors,
    /// Ids and classes of task 1.
    pub ids: Vec<u64>,
    /// Class of each image of task 1.
    pub labels: Vec<u32>,
    /// β at the setting's perplexity among the images of task 1.
    pub inverse_temperature: f64,
}

/// The refusal of bad images without the protocol's option for them, which the lab does not have.
fn without_advice(error: DataError) -> anyhow::Error {
    let words = error.to_string();
    match words.replace(r#", or leave them out with bad_images = "skip""#, "") {
        other if other == words => error.into(),
        other => Fault::Data.because(anyhow!(other)),
    }
}

impl ImageTasks {
    /// Reads the images and represents them.
    ///
    /// # Errors
    /// When there are no such images or classes, a class is in both tasks, or an image equals the mean.
    pub fn load(setting: &ImageSetting) -> Result<Self> {
        let source = match &setting.data {
            None => Source::FashionMnist,
            Some(path) => detect(path)?,
        };
        let options = ReadOptions {
            resolution: Some(setting.resolution),
            per_class: Some(setting.per_class),
            ..ReadOptions::default()
        };
        let images = read(&source, &options).map_err(without_advice)?.images;
        let n_classes = images.classes().len() as u32;
        for class in setting.old_classes.iter().chain(&setting.new_classes) {
            ensure!(*class < n_classes, "classes: expected below {n_classes}, got {class}");
        }
        let both = setting.old_classes.iter().find(|class| setting.new_classes.contains(class));
        ensure!(both.is_none(), "classes: {} is in both tasks", both.copied().unwrap_or_default());
        let members = |classes: &[u32]| -> Vec<usize> {
            (0..images.len()).filter(|&i| classes.contains(&images.label(i))).collect()
        };
        let (old, new) = (members(&setting.old_classes), members(&setting.new_classes));
        ensure!(!old.is_empty() && !new.is_empty(), "classes: each task needs at least one image");
        let d = images.image(old[0]).len();
        let tensor = |members: &[usize]| -> Result<Tensor> {
            let bytes = members.iter().flat_map(|&i| images.image(i));
            let values: Vec<f64> = bytes.map(|&byte| f64::from(byte) / 127.5 - 1.).collect();
            Ok(Tensor::from_vec(values, (members.len(), d), &Device::Cpu)?)
        };
        let ids: Vec<u64> = old.iter().map(|&i| images.id(i)).collect();
        let strangers: Vec<u64> = new.iter().map(|&i| images.id(i)).collect();
        let stored = HopfieldEnergy::new(Representation::Unit, &tensor(&old)?, &ids)?;
        let vectors = |x: &Tensor| -> Result<Vectors> {
            Ok(Vectors::new(x.flatten_all()?.to_vec1::<f64>()?, d)?)
        };
        Ok(Self {
            source: source.to_string(),
            old: vectors(stored.patterns())?,
            new: vectors(&stored.represent(&tensor(&new)?, &strangers)?)?,
            labels: old.iter().map(|&i| images.label(i)).collect(),
            inverse_temperature: at_perplexity(&stored, setting.perplexity)
                .context("--perplexity")?,
            ids,
        })
    }
}
