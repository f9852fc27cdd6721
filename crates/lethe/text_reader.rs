//! A pipeline's texts, as its encoder reads them.

use crate::exit::Fault;
use crate::meter::{Meter, note};
use anyhow::{Result, anyhow};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::params::ParamStore;
use lethe_candlex::weights::Loaded;
use lethe_latent::{ClipTextEncoder, Tokenizer, text};
use std::path::Path;

/// Texts encoded at once.
const TEXTS: usize = 16;
/// Texts that are too long and shown, of those that are counted.
const SHOWN: usize = 3;

/// A folder's tokenizer and text encoder.
pub struct TextReader {
    /// Channels of the encoder's output.
    channels: usize,
    tokenizer: Tokenizer,
    encoder: ClipTextEncoder,
    loaded: Loaded,
}

impl TextReader {
    /// # Errors
    /// Names the file that does not fit.
    pub fn open(root: &Path, device: &Device) -> Result<Self> {
        let (config, encoder, loaded) = text::read(&root.join("text_encoder"), DType::F32, device)?;
        let tokenizer = Tokenizer::read(&root.join("tokenizer"))?;
        let (longest, places) = (tokenizer.length(), config.max_position_embeddings);
        if longest > places {
            note(&format!(
                "{}: the text_encoder reads {places} tokens (max_position_embeddings), not the tokenizer's {longest}: texts are cut there",
                root.display()
            ));
        }
        let tokenizer = tokenizer.shortened(places);
        let (known, held) = (tokenizer.n_tokens(), config.vocab_size);
        if known > held {
            return Err(Fault::Untrustworthy.because(anyhow!(
                "{}: the parts do not fit: the tokenizer knows {known} tokens, the text_encoder {held}",
                root.display()
            )));
        }
        Ok(Self { channels: config.hidden_size, tokenizer, encoder, loaded })
    }

    /// Channels of the encoder's output.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// [texts, tokens, channels]; what does not fit into the encoder's length is cut off: see [`TextReader::note_cuts`].
    ///
    /// # Errors
    /// Those of candle.
    pub fn embed(&self, prompts: &[String]) -> Result<Tensor> {
        let mut rows = Vec::new();
        let meter = Meter::new(prompts.len() as f64);
        for chunk in prompts.chunks(TEXTS) {
            let ids: Vec<Vec<u32>> =
                chunk.iter().map(|text| self.tokenizer.encode(text).ids).collect();
            rows.push(self.encoder.forward(&self.loaded.store, &ids)?);
            if prompts.len() > TEXTS {
                meter.add(chunk.len() as f64, "encoding texts, once");
            }
        }
        meter.finish();
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Says which texts are longer than the encoder reads, the first few by their words.
    pub fn note_cuts(&self, prompts: &[String]) {
        let length = self.tokenizer.length();
        let mut too_long = 0;
        for prompt in prompts {
            let Some(rest) = self.tokenizer.encode(prompt).truncated else { continue };
            too_long += 1;
            if too_long <= SHOWN {
                let (prompt, rest) = (beginning(prompt), beginning(&rest));
                note(&format!("text cut off after {length} tokens, without `{rest}`: {prompt}"));
            }
        }
        if too_long > SHOWN {
            note(&format!("{too_long} texts of {} were cut off in all", prompts.len()));
        }
    }

    /// As [`TextReader::embed`], of token ids.
    ///
    /// # Errors
    /// When there are more tokens than positions, or an id is unknown.
    pub fn embed_ids(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        Ok(self.encoder.forward(&self.loaded.store, ids)?)
    }

    /// The encoder's numbers.
    pub fn weights(&self) -> &ParamStore {
        &self.loaded.store
    }

    /// The same, and the type in which the files hold them.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

/// So much of a text as a line has room for.
fn beginning(text: &str) -> String {
    const ROOM: usize = 100;
    let more = if text.chars().nth(ROOM).is_some() { " …" } else { "" };
    text.chars().take(ROOM).collect::<String>() + more
}
