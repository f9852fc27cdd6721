//! The text encoder against transformers, and what it refuses.

use super::*;
use lethe_candlex::weights::WeightFile;
use std::fs;
use std::path::PathBuf;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/latent").join(name)
}

fn read_golden(folder: &Path) -> (ClipTextConfig, ClipTextEncoder, Loaded) {
    read(folder, DType::F32, &Device::Cpu).unwrap()
}

/// Ids of the first `texts` stated prompts, as far as `tokens`.
fn ids(texts: usize, tokens: usize) -> Vec<Vec<u32>> {
    let file = WeightFile::open(&golden("text.safetensors")).unwrap();
    let rows = file.tensor("text.ids").unwrap().to_vec2::<f64>().unwrap();
    rows[..texts].iter().map(|row| row[..tokens].iter().map(|&id| id as u32).collect()).collect()
}

/// max|a − b| / max|b|.
fn distance(found: &Tensor, name: &str) -> f64 {
    let file = WeightFile::open(&golden("text.safetensors")).unwrap();
    let (found, expected) = (found.to_dtype(DType::F64).unwrap(), file.tensor(name).unwrap());
    assert_eq!(found.dims(), expected.dims());
    let most = |t: &Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
    most(&(found - &expected).unwrap()) / most(&expected)
}

/// The states of the stated prompts with the golden weights under another configuration.
fn states(change: impl Fn(&mut ClipTextConfig), ids: &[Vec<u32>]) -> Tensor {
    let (mut config, _, loaded) = read_golden(&golden("text_encoder"));
    change(&mut config);
    let (encoder, _) = ClipTextEncoder::new(&config).unwrap();
    encoder.forward(&loaded.store, ids).unwrap()
}

#[test]
fn last_hidden_states_are_those_of_transformers() {
    let (config, encoder, loaded) = read_golden(&golden("text_encoder"));
    assert_eq!((config.vocab_size, loaded.file_type.as_str()), (600, "F16"));
    let found = encoder.forward(&loaded.store, &ids(4, 77)).unwrap();
    assert_eq!(found.dims(), [4, 77, 32]);
    let distance = distance(&found, "text.last_hidden_state");
    assert!(distance <= 5e-6, "{distance:e}");
}

#[test]
fn the_exact_gelu_is_that_of_transformers() {
    let found = states(|config| config.hidden_act = "gelu".into(), &ids(2, 16));
    let distance = distance(&found, "text.gelu.last_hidden_state");
    assert!(distance <= 5e-6, "{distance:e}");
}

#[test]
fn a_misread_configuration_would_be_seen() {
    let changes: [fn(&mut ClipTextConfig); 3] = [
        |config| config.hidden_act = "gelu".into(),
        |config| config.layer_norm_eps = 1e-3,
        |config| config.num_attention_heads = 2,
    ];
    for change in changes {
        let distance = distance(&states(change, &ids(4, 77)), "text.last_hidden_state");
        assert!(distance >= 5e-3, "{distance:e}");
    }
}

#[test]
fn no_token_sees_what_follows() {
    let nothing = |_: &mut ClipTextConfig| {};
    let mut changed = ids(1, 77);
    changed[0][40..].fill(7);
    let [whole, changed] = [ids(1, 77), changed].map(|ids| states(nothing, &ids));
    let rows = |t: &Tensor, from, n| {
        t.narrow(1, from, n).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(rows(&whole, 0, 40), rows(&changed, 0, 40));
    assert_ne!(rows(&whole, 40, 1), rows(&changed, 40, 1));
}

/// The golden folder with other tensors in its file.
fn rewritten(change: impl Fn(&str) -> String, more: &[(&str, Tensor)]) -> tempfile::TempDir {
    let (_, _, loaded) = read_golden(&golden("text_encoder"));
    let names: Vec<String> = loaded.store.iter().map(|(name, _)| change(name)).collect();
    let tensors = loaded.store.iter().map(|(_, tensor)| tensor.clone());
    let mut tensors: Vec<_> = names.iter().map(String::as_str).zip(tensors).collect();
    tensors.extend(more.iter().cloned());
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("text_encoder/config.json"), folder.path().join(CONFIG)).unwrap();
    let bytes = weights::serialize(&tensors, None).unwrap();
    fs::write(folder.path().join(WEIGHTS), bytes).unwrap();
    folder
}

#[test]
fn older_files_are_read_and_their_buffer_is_ignored() {
    let positions = Tensor::arange(0i64, 77, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    for prefix in ["text_model.", ""] {
        let buffer = format!("{prefix}embeddings.position_ids");
        let rename = |name: &str| name.replace("text_model.", prefix);
        let folder = rewritten(rename, &[(&buffer, positions.clone())]);
        let (_, encoder, loaded) = read_golden(folder.path());
        let found = encoder.forward(&loaded.store, &ids(4, 77)).unwrap();
        assert!(distance(&found, "text.last_hidden_state") <= 5e-6);
    }
    let folder = rewritten(str::to_string, &[("text_projection.weight", positions)]);
    let error = read(folder.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("unexpected: `text_projection.weight`"), "{error}");
}

#[test]
fn files_of_an_index_are_read() {
    let folder = rewritten(str::to_string, &[]);
    let at = |name: &str| folder.path().join(name);
    fs::rename(at(WEIGHTS), at("model-00001-of-00001.safetensors")).unwrap();
    let shard = "model-00001-of-00001.safetensors";
    let file = weights::WeightFile::open(&at(shard)).unwrap();
    let map: std::collections::BTreeMap<&str, &str> =
        file.names().map(|name| (name, shard)).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(at(INDEX), index).unwrap();
    read_golden(folder.path());
    for name in ["../model.safetensors", "/model.safetensors", "..", ""] {
        fs::write(at(INDEX), format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#)).unwrap();
        let error = read(folder.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(INDEX) && error.contains("beside the index"), "{error}");
    }
}

#[test]
fn a_pickle_is_refused_with_the_reason() {
    let folder = rewritten(str::to_string, &[]);
    fs::rename(folder.path().join(WEIGHTS), folder.path().join("pytorch_model.bin")).unwrap();
    let error = read(folder.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("pytorch_model.bin") && error.contains("pickle"), "{error}");
}

#[test]
fn configurations_that_do_not_fit_are_refused_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CONFIG);
    let refusal = |text: &str| {
        fs::write(&path, text).unwrap();
        ClipTextConfig::read(&path).unwrap_err().to_string()
    };
    for (text, named) in [
        (r#"{"hidden_size": 32, "heads": 2}"#, "heads"),
        (r#"{"hidden_act": "relu"}"#, "hidden_act"),
        (r#"{"num_attention_heads": 7}"#, "num_attention_heads"),
        (r#"{"num_attention_heads": 0}"#, "num_attention_heads"),
        (r#"{"hidden_size": 0}"#, "hidden_size"),
        (r#"{"hidden_size": 1048576}"#, "hidden_size"),
        (r#"{"num_hidden_layers": 100000}"#, "num_hidden_layers"),
        (r#"{"layer_norm_eps": -1}"#, "layer_norm_eps"),
        (r#"{"model_type": "t5"}"#, "model_type"),
        ("[", CONFIG),
    ] {
        let error = refusal(text);
        assert!(error.contains(named), "{error}");
    }
    fs::write(&path, r#"{"_name_or_path": "x", "torch_dtype": "float32"}"#).unwrap();
    assert_eq!(ClipTextConfig::read(&path).unwrap(), ClipTextConfig::default());
}

#[test]
fn ids_that_do_not_fit_are_refused() {
    let (_, encoder, loaded) = read_golden(&golden("text_encoder"));
    for (ids, named) in [
        (vec![], "got 0"),
        (vec![vec![]], "got 0"),
        (vec![vec![1; 78]], "got 78"),
        (vec![vec![1; 3], vec![1; 2]], "got 2"),
        (vec![vec![1, 600]], "got 600"),
    ] {
        let error = encoder.forward(&loaded.store, &ids).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_configuration_beyond_the_machine_is_refused_by_its_weights() {
    let folder = rewritten(str::to_string, &[]);
    let text = r#"{"hidden_size": 65536, "intermediate_size": 65536, "vocab_size": 1048576}"#;
    fs::write(folder.path().join(CONFIG), text).unwrap();
    let error = read(folder.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("expected [65536, 65536], got [32, 32]"), "{error}");
}
