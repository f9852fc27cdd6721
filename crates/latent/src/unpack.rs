//! From a single file in the original layout to the weights of a diffusers folder.
//!
//! Every tensor that the configurations ask for must be there, in its shape, of one type in its part, and finite;
//! what is there besides must be of a kind that no part needs.
//! Bytes are copied as they are, a chunk at a time.

use crate::folder::{CONFIG, DIFFUSERS_STEM, is_pickle, read_text};
use crate::single_file::{Part, place};
use crate::tokenizer::content;
use crate::{
    AutoencoderKl, AutoencoderKlConfig, ClipTextConfig, ClipTextEncoder, LatentError,
    UNet2dCondition, UNet2dConditionConfig, text,
};
use lethe_candlex::params::{Declaration, Declarations};
use lethe_candlex::weights::{Copying, Fault, WeightFile, WeightsError};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Tensors that the file holds and no part needs: of which kind, and how many.
pub type LeftOut = BTreeMap<&'static str, usize>;

/// What the names in a file begin with, and the family that calls them so.
const FAMILIES: [(&str, &str); 8] = [
    ("conditioner.embedders.", "Stable Diffusion XL"),
    ("cond_stage_model.model.", "Stable Diffusion 2, whose text encoder is open_clip's"),
    ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("model.diffusion_model.double_blocks.", "FLUX"),
    ("double_blocks.", "FLUX"),
    ("control_model.", "a ControlNet"),
    ("lora_", "adapters without the model that they adapt"),
    ("down_blocks.", "a part of a diffusers folder; give the folder"),
];

/// Tables of the schedule that the original keeps among the weights; `scheduler_config.json` says what they say.
const SCHEDULE: [&str; 13] = [
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "betas",
    "log_one_minus_alphas_cumprod",
    "logvar",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "posterior_variance",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
];

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unet, Self::Vae, Self::TextEncoder];

    /// Stem of its weights in a folder.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae => DIFFUSERS_STEM,
            Self::TextEncoder => text::STEM,
        }
    }

    /// What a network of this `config` declares.
    ///
    /// # Errors
    /// In words: what in the configuration does not parse, or is not known.
    pub fn declarations(self, config: &str) -> Result<Declarations, String> {
        let in_words = |error: LatentError| error.to_string();
        Ok(match self {
            Self::Unet => {
                UNet2dCondition::new(&UNet2dConditionConfig::parse(config)?).map_err(in_words)?.1
            }
            Self::Vae => {
                AutoencoderKl::new(&AutoencoderKlConfig::parse(config)?).map_err(in_words)?.1
            }
            Self::TextEncoder => {
                ClipTextEncoder::new(&ClipTextConfig::parse(config)?).map_err(in_words)?.1
            }
        })
    }

    /// Its own name for the tensor `name` of a single file, if it is this part's.
    fn own(self, name: &str) -> Option<String> {
        let (part, name) = place(name).filter(|(part, _)| *part == self)?;
        if part == Self::TextEncoder { text::todays_name(&name) } else { Some(name) }
    }

    /// The original projects the autoencoder's attention by convolutions of one pixel.
    fn is_same(self, declared: &Declaration, shape: &[usize]) -> bool {
        self == Self::Vae
            && declared.name.contains(".attentions.")
            && declared.shape.len() == 2
            && shape == [&declared.shape[..], &[1, 1]].concat()
    }
}

/// Opens a single file, and checks by its names that it is of this family.
///
/// # Errors
/// [`LatentError::Content`] for a pickle and for another family, by name; [`LatentError::Weights`] for a file that is not
/// whole.
pub fn open(path: &Path) -> Result<WeightFile, LatentError> {
    expect_no_pickle(path)?;
    let file = WeightFile::open(path)?;
    let begins = |start: &str| file.names().any(|name| name.starts_with(start));
    if let Some((_, family)) = FAMILIES.iter().find(|(start, _)| begins(start)) {
        let reason = format!("expected a whole Stable Diffusion 1, got {family}");
        return Err(content(path, reason));
    }
    if !begins("model.diffusion_model.") {
        let first = file.names().next().unwrap_or("nothing");
        let reason = format!(
            "expected a whole Stable Diffusion 1 under the names of its original code (`model.diffusion_model.…`), got `{first}`"
        );
        return Err(content(path, reason));
    }
    Ok(file)
}

fn expect_no_pickle(path: &Path) -> Result<(), LatentError> {
    let io = |source| LatentError::Io { path: path.to_path_buf(), action: "read", source };
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(content(path, "expected a file"));
    }
    let mut start = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(4).read_to_end(&mut start).map_err(io)?;
    // A zip archive, as torch saves pickles, whatever its name says.
    if is_pickle(path) || start == *b"PK\x03\x04" {
        let reason = "a pickle: reading one runs whatever code is in it; take the same model as .safetensors, or save it so";
        return Err(content(path, reason));
    }
    Ok(())
}

/// Writes the weights of all parts from the single `file` into the folders of `root`, each of which holds its
/// configuration already.
///
/// # Errors
/// [`LatentError`] names the file and everything in it that does not fit; what is in `root` is of no use then.
pub fn write_parts(file: &mut WeightFile, root: &Path) -> Result<LeftOut, LatentError> {
    let (left_out, mut faults) = strays(file);
    let (mut parts, mut expected) = (Vec::new(), 0);
    for part in Part::ALL {
        let config = root.join(part.name()).join(CONFIG);
        let declarations =
            part.declarations(&read_text(&config)?).map_err(|reason| content(&config, reason))?;
        expected += declarations.as_slice().len();
        let own = |name: &str| part.own(name);
        let is_same = |declared: &Declaration, shape: &[usize]| part.is_same(declared, shape);
        let mut copying = Copying::plan(&declarations, file, own, is_same)?;
        faults.extend(copying.faults.drain(..).map(|fault| told_apart(part, fault)));
        parts.push((part, copying));
    }
    expect_none(file, expected, faults)?;
    let mut faults = Vec::new();
    for (part, copying) in parts {
        let name = format!("{}.safetensors", part.stem());
        faults.extend(copying.write(file, &root.join(part.name()).join(name))?);
    }
    expect_none(file, expected, faults)?;
    Ok(left_out)
}

fn expect_none(file: &WeightFile, expected: usize, faults: Vec<Fault>) -> Result<(), LatentError> {
    if faults.is_empty() {
        return Ok(());
    }
    let path = file.path().to_path_buf();
    Err(WeightsError::Faults { path, expected, faults }.into())
}

/// What is missing bears the name that it has in its part.
fn told_apart(part: Part, fault: Fault) -> Fault {
    match fault {
        Fault::Missing { name, nearest } => {
            Fault::Missing { name: format!("{}/{name}", part.name()), nearest }
        }
        other => other,
    }
}

/// Tensors of no part: those of a known kind, and those that nobody expects.
fn strays(file: &WeightFile) -> (LeftOut, Vec<Fault>) {
    let (mut left_out, mut faults) = (LeftOut::new(), Vec::new());
    for name in file.names() {
        match kind_of_stray(name) {
            Some(kind) => *left_out.entry(kind).or_default() += 1,
            None if place(name).is_none() => {
                faults.push(Fault::Unexpected { name: name.to_string() });
            }
            None => {}
        }
    }
    (left_out, faults)
}

fn kind_of_stray(name: &str) -> Option<&'static str> {
    if name.starts_with("model_ema.") || name.starts_with("first_stage_model.model_ema.") {
        return Some("moving averages");
    }
    if name.starts_with("first_stage_model.loss.") {
        return Some("the autoencoder's training loss");
    }
    if SCHEDULE.contains(&name) {
        return Some("tables of the schedule");
    }
    name.ends_with(".embeddings.position_ids").then_some("position numbers")
}
