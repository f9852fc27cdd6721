//! The tokenizer against transformers, and what it refuses.

use super::*;
use std::fs;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/latent").join(name)
}

fn expected() -> Map<String, Value> {
    read_json(&golden("text.json"), "golden values").unwrap()
}

/// Whether all texts of a table become its ids.
fn compare(tokenizer: &Tokenizer, table: &Value) {
    let (texts, length) = (&expected()["texts"], table["length"].as_u64().unwrap() as usize);
    let pad = table["pad"].as_u64().unwrap() as u32;
    assert_eq!((tokenizer.length(), tokenizer.pad), (length, pad));
    for (name, ids) in table["ids"].as_object().unwrap() {
        let mut ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
        ids.resize(length, pad);
        assert_eq!(tokenizer.encode(texts[name].as_str().unwrap()).ids, ids, "{name}");
    }
}

/// A copy of the golden folder, to be spoilt.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden("tokenizer")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// The error of a copy in which `file` holds `text`.
fn refusal(file: &str, text: impl AsRef<[u8]>) -> String {
    let folder = copy();
    fs::write(folder.path().join(file), text).unwrap();
    let error = Tokenizer::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains(file), "{error}");
    error
}

#[test]
fn awkward_texts_become_the_ids_of_transformers() {
    let table = &expected()["tokenizer"];
    assert!(table["ids"].as_object().unwrap().len() >= 30);
    compare(&Tokenizer::read(&golden("tokenizer")).unwrap(), table);
    let small = Tokenizer::read(&golden("tokenizer-json")).unwrap();
    compare(&small, &expected()["tokenizer-json"]);
}

#[test]
fn the_small_files_decide_as_in_transformers() {
    let variants = expected()["variants"].as_array().unwrap().clone();
    for variant in &variants {
        let folder = copy();
        for name in ["tokenizer_config", "special_tokens_map"] {
            let path = folder.path().join(name).with_extension("json");
            let mut fields = read_optional(&path).unwrap();
            fields.extend(variant[name].as_object().unwrap().clone());
            fields.retain(|_, value| !value.is_null());
            fs::write(&path, Value::Object(fields).to_string()).unwrap();
        }
        compare(&Tokenizer::read(folder.path()).unwrap(), variant);
    }
    assert_eq!(variants.len(), 3);
}

#[test]
fn what_is_cut_off_is_told() {
    let tokenizer = Tokenizer::read(&golden("tokenizer")).unwrap();
    let cut = |text: &str| tokenizer.encode(text).truncated;
    assert_eq!(cut(&"the ".repeat(75)), None);
    assert_eq!(cut(&format!("{}Cafe\u{301} END ", "the ".repeat(75))).unwrap(), "Cafe\u{301} END ");
    // The 76th token is the second byte of the 38th letter, which is cut in two.
    assert_eq!(cut(&"ö".repeat(60)).unwrap(), "ö".repeat(23));
    let short = tokenizer.shortened(5);
    let found = short.encode("the the the ship");
    assert_eq!((found.ids.len(), found.truncated.unwrap()), (5, "ship".to_string()));
    assert_eq!(short.shortened(0).encode("the").ids.len(), 2);
}

#[test]
fn bad_vocabularies_are_refused_by_name() {
    assert!(refusal("vocab.json", "[]").contains("expected an object from token to id"));
    assert!(refusal("vocab.json", r#"{"a": -1}"#).contains("expected"));
    assert!(refusal("vocab.json", r#"{"a": 0, "b": 2}"#).contains("below 2"));
    assert!(refusal("vocab.json", r#"{"a": 0, "b": 0}"#).contains("two tokens have the id 0"));
    assert!(refusal("vocab.json", r#"{"a": 4294967296}"#).contains("4294967296"));
    assert!(refusal("vocab.json", [0xff, 0xfe]).contains("UTF-8"));
    assert!(refusal("merges.txt", "#version: 0.2\nt h\nth zz\n").contains("merge 2"));
    // Both are known, but what they make is not, and longer than every token.
    assert!(refusal("merges.txt", "<|endoftext|> <|endoftext|>").contains("is not in the"));
    assert!(refusal("merges.txt", "t h\n\n").contains("line 2"));
    assert!(refusal("merges.txt", "a b c\n").contains("line 1"));
}

#[test]
fn bad_settings_are_refused_by_name() {
    let config = |text: &str| refusal("tokenizer_config.json", text);
    assert!(config("{").contains("expected a JSON object"));
    assert!(config(&format!("{{\"a\": {}", "[".repeat(100_000))).contains("recursion"));
    assert!(config(r#"{"tokenizer_class": "T5Tokenizer"}"#).contains("CLIPTokenizer"));
    assert!(config(r#"{"padding_side": "left"}"#).contains("expected right"));
    for length in ["1", "77.5", "-3", "100000", "\"77\""] {
        let error = config(&format!(r#"{{"model_max_length": {length}}}"#));
        assert!(error.contains("model_max_length"), "{error}");
    }
    let added = r#"{"added_tokens_decoder": {"7": {"content": "<new>"}}}"#;
    assert!(config(added).contains("expected the id 600, got 7"));
    assert!(config(r#"{"added_tokens_decoder": {"x": {"content": "!"}}}"#).contains("`x`"));
    let folder = copy();
    let unknown = r#"{"unk_token": "?!"}"#;
    fs::write(folder.path().join("special_tokens_map.json"), unknown).unwrap();
    let error = Tokenizer::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("`?!` is not in the vocabulary"), "{error}");
    assert!(Tokenizer::read(Path::new("nowhere")).unwrap_err().to_string().contains("vocab.json"));
}

#[test]
fn a_file_without_an_end_is_refused() {
    let folder = copy();
    let path = folder.path().join("merges.txt");
    fs::File::create(&path).unwrap().set_len(crate::folder::LARGEST_JSON + 1).unwrap();
    let error = Tokenizer::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("merges.txt") && error.contains("at most"), "{error}");
}

#[test]
fn numbers_without_meaning_and_added_tokens_are_read() {
    let folder = copy();
    let text = r#"{"model_max_length": 1000000000000000019884624838656,
        "added_tokens_decoder": {"600": {"content": "<cat-toy>"}}}"#;
    fs::write(folder.path().join("tokenizer_config.json"), text).unwrap();
    let tokenizer = Tokenizer::read(folder.path()).unwrap();
    assert_eq!((tokenizer.length(), tokenizer.n_tokens()), (LENGTH, 601));
    assert_eq!(tokenizer.encode("the <CAT-toy>").ids[..4], [598, 513, 600, 599]);
}
