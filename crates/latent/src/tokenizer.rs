//! Texts to the 77 token ids that CLIP's text encoder takes.
//!
//! A text is normalised (NFC, white space to one blank, lower case), cut into words by CLIP's pattern,
//! and each word's bytes are merged by byte pair encoding, its last byte marked with `</w>`.
//! This is what transformers' `CLIPTokenizer` of today does with a folder; its predecessor in Python cleaned texts differently.

use crate::LatentError;
use crate::folder::read_text;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, NormalizerWrapper, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as Pipeline;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

#[cfg(test)]
mod tests;

/// Positions of CLIP, where the folder does not say.
const LENGTH: usize = 77;

/// Most positions that a folder may ask for.
const MOST_POSITIONS: usize = 1 << 16;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// What CLIP takes for a word.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A text as ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Start, tokens, end, padding: [`Tokenizer::length`] ids in all.
    pub ids: Vec<u32>,
    /// The end of the text, if it was too long: no id stands for it, and a picture will not heed it.
    pub truncated: Option<String>,
}

/// CLIP's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
}

impl std::fmt::Debug for Tokenizer {
    /// Without the vocabulary.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a diffusers `tokenizer` folder: `vocab.json` and `merges.txt`, or else `tokenizer.json`;
    /// `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` where they are there.
    ///
    /// # Errors
    /// [`LatentError::Io`] and [`LatentError::Content`] name the file, and what in it is not a CLIP tokenizer's.
    pub fn read(folder: &Path) -> Result<Self, LatentError> {
        let model = ModelFiles::read(folder)?;
        let settings = Settings::read(folder, model.added.clone())?;
        let mut inner = pipeline(&model, &settings.unknown()?.content)?;
        inner.add_tokens(settings.tokens(&model)?).map_err(|e| settings.fault(e.to_string()))?;
        let id = |name| settings.id(&inner, name);
        let (start, end, pad) = (id("bos_token")?, id("eos_token")?, id("pad_token")?);
        Ok(Self { inner, start, end, pad, length: settings.length()? })
    }

    /// The same, for an encoder that knows no more than `positions` of them (at least two are kept).
    #[must_use]
    pub fn shortened(self, positions: usize) -> Self {
        Self { length: self.length.min(positions).max(2), ..self }
    }

    /// Ids of every text.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens in all: every id is below this.
    pub fn n_tokens(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The ids of `text`.
    pub fn encode(&self, text: &str) -> Encoded {
        let found = self.inner.encode(text, false).expect(
            "the patterns are fixed and never backtrack, the unknown token is in the vocabulary",
        );
        let (tokens, room) = (found.get_ids(), self.length - 2);
        let kept = &tokens[..tokens.len().min(room)];
        let mut ids = [&[self.start], kept, &[self.end]].concat();
        ids.resize(self.length, self.pad);
        let rest = found.get_offsets().get(room).map(|&(first, _)| text.get(first..));
        Encoded { ids, truncated: rest.map(|rest| rest.unwrap_or(text).to_string()) }
    }
}

/// [`LatentError::Content`].
pub(crate) fn content(path: &Path, reason: impl Into<String>) -> LatentError {
    LatentError::Content { path: path.to_path_buf(), reason: reason.into() }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path, what: &str) -> Result<T, LatentError> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| content(path, format!("expected {what}: {error}")))
}

/// An object, empty where there is no such file.
fn read_optional(path: &Path) -> Result<Map<String, Value>, LatentError> {
    if path.exists() { read_json(path, "a JSON object") } else { Ok(Map::new()) }
}

/// Vocabulary and merges, from whichever files hold them.
struct ModelFiles {
    vocabulary: Vocab,
    merges: Merges,
    /// Tokens with their ids that `tokenizer.json` adds.
    added: Vec<Value>,
    /// Where the merges stand.
    path: PathBuf,
}

impl ModelFiles {
    fn read(folder: &Path) -> Result<Self, LatentError> {
        let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let joint = folder.join("tokenizer.json");
        let has_pair = vocabulary.exists() || merges.exists();
        let (from, files) = if has_pair || !joint.exists() {
            let read = read_json(&vocabulary, "an object from token to id")?;
            let lines = read_merges(&merges)?;
            (vocabulary, Self { vocabulary: read, merges: lines, added: Vec::new(), path: merges })
        } else {
            (joint.clone(), Self::from_json(joint)?)
        };
        files.check_ids(&from)?;
        files.check_merges()?;
        Ok(files)
    }

    fn from_json(path: PathBuf) -> Result<Self, LatentError> {
        let JointFile { model, added_tokens } = read_json(&path, "a saved BPE tokenizer")?;
        if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
            return Err(content(&path, format!("model.type: expected BPE, got {:?}", model.kind)));
        }
        let pair = |merge| match merge {
            Merge::Pair(a, b) => Some((a, b)),
            Merge::Line(line) => split_pair(&line),
        };
        let merges = model.merges.into_iter().map(pair).collect::<Option<Merges>>();
        let merges = merges
            .ok_or_else(|| content(&path, "model.merges: expected two tokens with a blank"))?;
        Ok(Self { vocabulary: model.vocab, merges, added: added_tokens, path })
    }

    /// Every id from 0 on, each once.
    fn check_ids(&self, path: &Path) -> Result<(), LatentError> {
        let n = self.vocabulary.len();
        let mut taken = vec![false; n];
        for (token, &id) in &self.vocabulary {
            match taken.get_mut(id as usize) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(content(path, format!("two tokens have the id {id}"))),
                None => {
                    let reason = format!(
                        "`{token}`: expected an id below {n}, the number of tokens, got {id}"
                    );
                    return Err(content(path, reason));
                }
            }
        }
        Ok(())
    }

    /// The library copies what a merge makes into a buffer as long as the longest token, unchecked.
    fn check_merges(&self) -> Result<(), LatentError> {
        for (rank, (a, b)) in self.merges.iter().enumerate() {
            let made = format!("{a}{b}");
            let known = |token: &&str| self.vocabulary.contains_key(*token);
            if let Some(unknown) = [a.as_str(), b, &made].iter().find(|token| !known(token)) {
                let reason =
                    format!("merge {} (`{a} {b}`): `{unknown}` is not in the vocabulary", rank + 1);
                return Err(content(&self.path, reason));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct JointFile {
    model: JointModel,
    #[serde(default)]
    added_tokens: Vec<Value>,
}

#[derive(Deserialize)]
struct JointModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Vocab,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

fn read_merges(path: &Path) -> Result<Merges, LatentError> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version"));
    let pair = |(at, line)| {
        let reason = || format!("line {}: expected two tokens with a blank between them", at + 1);
        split_pair(line).ok_or_else(|| content(path, reason()))
    };
    lines.map(pair).collect()
}

fn split_pair(line: &str) -> Option<(String, String)> {
    let (a, b) = line.split_once(' ')?;
    (!b.contains(' ')).then(|| (a.to_string(), b.to_string()))
}

/// Normaliser, words and merges, as `CLIPTokenizer` puts them together.
fn pipeline(files: &ModelFiles, unknown: &str) -> Result<tokenizers::Tokenizer, LatentError> {
    let fault = |error: tokenizers::Error| content(&files.path, error.to_string());
    if !files.vocabulary.contains_key(unknown) {
        let reason = format!("the unknown token `{unknown}` is not in the vocabulary");
        return Err(content(&files.path, reason));
    }
    let model = BPE::builder()
        .vocab_and_merges(files.vocabulary.clone(), files.merges.clone())
        .end_of_word_suffix("</w>".into())
        .unk_token(unknown.into())
        .build()
        .map_err(fault)?;
    let blanks = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ").map_err(fault)?;
    let normalizers: Vec<NormalizerWrapper> = vec![NFC.into(), blanks.into(), Lowercase.into()];
    let words = SplitPattern::Regex(WORDS.into());
    let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(fault)?;
    // Its own pattern cuts once more: the tokens inside `<|…|>` are found above, but come apart here.
    let bytes = ByteLevel::new(false, true, true);
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_normalizer(Some(Sequence::new(normalizers))).map_err(fault)?;
    inner.with_pre_tokenizer(Some(Pipeline::new(vec![words.into(), bytes.into()])));
    Ok(inner)
}

/// The named tokens, in the order in which transformers adds them: of one text the last says how it is found.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` say.
struct Settings {
    path: PathBuf,
    fields: Map<String, Value>,
    /// Tokens with the ids that they must have, in order; none: the named ones are added.
    added: Vec<(u32, AddedToken)>,
}

impl Settings {
    fn read(folder: &Path, joint: Vec<Value>) -> Result<Self, LatentError> {
        let path = folder.join("tokenizer_config.json");
        let mut settings =
            Self { fields: read_optional(&path)?, path: path.clone(), added: Vec::new() };
        settings.check()?;
        match settings.fields.remove("added_tokens_decoder") {
            Some(Value::Object(decoder)) => {
                for (id, token) in decoder {
                    let id = id.parse().map_err(|_| settings.fault(format!("`{id}`: no id")))?;
                    let token = settings.token("added_tokens_decoder", &token)?;
                    settings.added.push((id, token));
                }
            }
            Some(_) => return Err(settings.fault("added_tokens_decoder: expected an object")),
            None => settings.read_older(folder, joint)?,
        }
        settings.added.sort_by_key(|(id, _)| *id);
        Ok(settings)
    }

    /// The files of earlier generations, which the decoder in the configuration replaces.
    fn read_older(&mut self, folder: &Path, joint: Vec<Value>) -> Result<(), LatentError> {
        for (key, mut value) in read_optional(&folder.join("special_tokens_map.json"))? {
            if let Some(token) = value.as_object_mut() {
                token.insert("special".into(), true.into());
            }
            self.fields.insert(key, value);
        }
        let path = folder.join("added_tokens.json");
        for (token, id) in read_optional(&path)? {
            let is_special = NAMED.iter().any(|name| {
                self.named(name).is_ok_and(|named| named.is_some_and(|n| n.content == token))
            });
            let id = serde_json::from_value(id)
                .map_err(|error| content(&path, format!("`{token}`: expected an id: {error}")))?;
            self.added.push((id, AddedToken::from(token, is_special)));
        }
        for token in joint {
            let id = token.get("id").and_then(Value::as_u64).and_then(|id| id.try_into().ok());
            let id = id.ok_or_else(|| {
                content(&folder.join("tokenizer.json"), "added_tokens: expected an id in each")
            })?;
            self.added.push((id, self.token("added_tokens", &token)?));
        }
        Ok(())
    }

    /// Settings under which other ids would come out.
    fn check(&self) -> Result<(), LatentError> {
        let known = [
            ("tokenizer_class", &["CLIPTokenizer", "CLIPTokenizerFast"][..]),
            ("padding_side", &["right"]),
            ("truncation_side", &["right"]),
        ];
        for (key, names) in known {
            let Some(found) = self.fields.get(key) else { continue };
            if !names.iter().any(|name| found == name) {
                return Err(
                    self.fault(format!("{key}: expected {}, got {found}", names.join(" or ")))
                );
            }
        }
        match self.fields.get("split_special_tokens") {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(found) => {
                Err(self.fault(format!("split_special_tokens: expected false, got {found}")))
            }
        }
    }

    fn fault(&self, reason: impl Into<String>) -> LatentError {
        content(&self.path, reason)
    }

    /// Positions: those of CLIP where the folder gives none, or a number that stands for none.
    fn length(&self) -> Result<usize, LatentError> {
        let field = self.fields.get("model_max_length").filter(|field| !field.is_null());
        let Some(field) = field else { return Ok(LENGTH) };
        match field.as_f64() {
            Some(number) if number >= 1e20 => Ok(LENGTH),
            Some(number)
                if number.fract() == 0. && (2. ..=MOST_POSITIONS as f64).contains(&number) =>
            {
                Ok(number as usize)
            }
            _ => Err(self.fault(format!(
                "model_max_length: expected a number from 2 to {MOST_POSITIONS}, got {field}"
            ))),
        }
    }

    /// A token that is a text alone, or an object with the way in which it is found.
    fn token(&self, key: &str, value: &Value) -> Result<AddedToken, LatentError> {
        let is_set = |name: &str| value.get(name).and_then(Value::as_bool);
        let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str));
        let text = text.filter(|text| !text.is_empty()).ok_or_else(|| {
            self.fault(format!("{key}: expected a token's text or an object, got {value}"))
        })?;
        let is_special = value.is_string() || is_set("special").unwrap_or(false);
        let token = AddedToken::from(text, is_special)
            .single_word(is_set("single_word").unwrap_or(false))
            .lstrip(is_set("lstrip").unwrap_or(false))
            .rstrip(is_set("rstrip").unwrap_or(false));
        Ok(match is_set("normalized") {
            Some(normalized) => token.normalized(normalized),
            None => token,
        })
    }

    /// The token that has this role, by CLIP's defaults where the folder does not say.
    fn named(&self, name: &str) -> Result<Option<AddedToken>, LatentError> {
        let value = match (self.fields.get(name), name) {
            (Some(value), _) => value.clone(),
            (None, "bos_token") => START.into(),
            (None, "eos_token" | "unk_token" | "pad_token") => END.into(),
            (None, _) => Value::Null,
        };
        if value.is_null() { Ok(None) } else { self.token(name, &value).map(Some) }
    }

    fn unknown(&self) -> Result<AddedToken, LatentError> {
        self.named("unk_token")?.ok_or_else(|| self.fault("unk_token: expected a token, got null"))
    }

    /// All tokens that are found in a text before it is cut into words.
    fn tokens(&self, files: &ModelFiles) -> Result<Vec<AddedToken>, LatentError> {
        let mut next = files.vocabulary.len();
        for (id, token) in &self.added {
            let known = files.vocabulary.get(&token.content).map(|&id| id as usize);
            let expected = known.unwrap_or(next);
            if expected != *id as usize {
                return Err(self.fault(format!(
                    "added token `{}`: expected the id {expected}, got {id}",
                    token.content
                )));
            }
            next += usize::from(known.is_none());
        }
        let mut special = self.special()?;
        let added: HashSet<&str> = self.added.iter().map(|(_, t)| t.content.as_str()).collect();
        special.retain(|token| !added.contains(token.content.as_str()));
        Ok(self.added.iter().map(|(_, token)| token.clone()).chain(special).collect())
    }

    /// Tokens with a role, and those of which only the text is told.
    fn special(&self) -> Result<Vec<AddedToken>, LatentError> {
        let mut tokens = Vec::new();
        for name in NAMED {
            tokens.extend(self.named(name)?);
        }
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            for value in self.fields.get(key).and_then(Value::as_array).into_iter().flatten() {
                tokens.push(self.token(key, value)?);
            }
        }
        Ok(tokens)
    }

    /// The id of a role that every text needs.
    fn id(&self, inner: &tokenizers::Tokenizer, name: &str) -> Result<u32, LatentError> {
        let token = self.named(name)?;
        let token =
            token.ok_or_else(|| self.fault(format!("{name}: expected a token, got null")))?;
        let id = inner.get_added_vocabulary().get_vocab().get(&token.content).copied();
        id.ok_or_else(|| self.fault(format!("{name}: `{}` has no id", token.content)))
    }
}
