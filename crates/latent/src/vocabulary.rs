//! CLIP's vocabulary, and the files of a `tokenizer` folder that hold it.
//!
//! 256 bytes, the same at a word's end, one token for each merge in their order, start and end of a text.

use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use std::io::Read;

/// Tokens that every text has.
pub const POSITIONS: usize = 77;

const HEADER: &str = "#version: 0.2\n";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Tokens by their ids, and the merges that make words of them.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    tokens: Vec<String>,
    /// The text of `merges.txt`.
    merges: String,
}

impl Vocabulary {
    /// The published one: 48,894 merges, 49,408 tokens.
    ///
    /// # Errors
    /// When the packed merges are not what this program was built with.
    pub fn clip() -> std::io::Result<Self> {
        let mut merges = String::new();
        GzDecoder::new(lethe_models::CLIP_MERGES).read_to_string(&mut merges)?;
        Ok(Self::of(merges))
    }

    /// Single bytes and nothing more.
    pub fn of_bytes() -> Self {
        Self::of(HEADER.into())
    }

    fn of(merges: String) -> Self {
        let mut tokens = tokens_of_bytes();
        let ends: Vec<String> = tokens.iter().map(|letter| format!("{letter}</w>")).collect();
        tokens.extend(ends);
        tokens.extend(merges.lines().skip(1).map(|merge| merge.replace(' ', "")));
        tokens.extend([START.into(), END.into()]);
        Self { tokens, merges }
    }

    /// Tokens in all.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The files of a `tokenizer` folder, with the settings of Stable Diffusion v1.5: their names, and their bytes.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let ids = self.tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), json!(id)));
        let special = json!({
            "bos_token": found_in_lower_case(START),
            "eos_token": found_in_lower_case(END),
            "unk_token": found_in_lower_case(END),
            "pad_token": END,
        });
        let mut settings = special.clone();
        settings["add_prefix_space"] = json!(false);
        settings["do_lower_case"] = json!(true);
        settings["errors"] = json!("replace");
        settings["model_max_length"] = json!(POSITIONS);
        settings["tokenizer_class"] = json!("CLIPTokenizer");
        for role in ["bos_token", "eos_token", "unk_token"] {
            settings[role]["__type"] = json!("AddedToken");
        }
        vec![
            ("vocab.json".into(), text(&Value::Object(ids.collect::<Map<_, _>>()))),
            ("merges.txt".into(), self.merges.clone().into_bytes()),
            ("special_tokens_map.json".into(), text(&special)),
            ("tokenizer_config.json".into(), text(&settings)),
        ]
    }
}

/// A token that is looked for after a text was made lower case.
fn found_in_lower_case(content: &str) -> Value {
    json!({
        "content": content, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false,
    })
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// The printable character that stands for each byte, printable bytes for themselves first: GPT-2's table.
fn tokens_of_bytes() -> Vec<String> {
    let is_printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let printable = (0..256u32).filter(|&byte| is_printable(byte));
    let others = (0..256u32).filter(|&byte| !is_printable(byte)).zip(256..).map(|(_, code)| code);
    printable.chain(others).filter_map(char::from_u32).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    fn tokenizer(vocabulary: &Vocabulary) -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in vocabulary.files() {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Tokenizer::read(folder.path()).unwrap()
    }

    /// Ids of CLIP's published tokenizer, without start, end and padding.
    #[test]
    fn texts_become_the_ids_of_the_published_tokenizer() {
        let tokenizer = tokenizer(&Vocabulary::clip().unwrap());
        assert_eq!((tokenizer.n_tokens(), tokenizer.length()), (49_408, 77));
        for (text, ids) in GOLDEN {
            let mut expected = vec![49_406];
            expected.extend(*ids);
            expected.resize(77, 49_407);
            assert_eq!(tokenizer.encode(text).ids, expected, "{text}");
        }
    }

    /// As OpenAI's own tokenizer and transformers' agree on them.
    const GOLDEN: &[(&str, &[u32])] = &[
        ("", &[]),
        ("a photo of a cat", &[320, 1125, 539, 320, 2368]),
        (
            "Rembrandt's self-portrait (1659) & co.: 100% oil-on-canvas!!",
            &[
                45972, 568, 1322, 268, 5352, 263, 272, 277, 276, 280, 264, 261, 1320, 15811, 272,
                271, 271, 260, 2870, 268, 525, 268, 7483, 748,
            ],
        ),
        (
            "don't I'LL we've they're he'd I'm it's 'tis O'SHEA' ''s",
            &[
                847, 713, 328, 1342, 649, 1200, 889, 982, 797, 1896, 328, 880, 585, 568, 713, 533,
                334, 568, 32790, 262, 8445, 338,
            ],
        ),
        (
            "Ein schöner Fluß, Übermut und ÄRGER; ẞ",
            &[
                24524, 844, 7255, 998, 3698, 127, 509, 267, 6522, 21032, 339, 9732, 10896, 81,
                1502, 282, 127, 509,
            ],
        ),
        (
            "дом на горе שלום",
            &[
                140, 112, 20978, 376, 22705, 27080, 140, 111, 13506, 16370, 140, 369, 147, 102,
                147, 250, 147, 243, 147, 507,
            ],
        ),
    ];

    #[test]
    fn bytes_alone_spell_every_word() {
        let tokenizer = tokenizer(&Vocabulary::of_bytes());
        assert_eq!(tokenizer.n_tokens(), 514);
        // "a" at a word's end, "c", "a", "t" at a word's end.
        let ids = tokenizer.encode("a cat").ids;
        assert_eq!(ids[..6], [512, 256 + 64, 66, 64, 256 + 83, 513]);
    }
}
