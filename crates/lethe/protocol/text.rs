//! From text and overrides to a protocol, and back to the text that is kept with the run.

use super::ProtocolSpec;
use crate::exit::Fault;
use anyhow::{Context, Result, anyhow};
use std::fmt::Display;
use std::path::Path;
use toml::{Table, Value};

/// Protocols that come with the program, by name.
const BUILT_IN: [(&str, &str); 3] = [
    ("cifar10", include_str!("cifar10.toml")),
    ("fashion", include_str!("fashion.toml")),
    ("latent", include_str!("latent.toml")),
];

/// The built-in protocol called `name`.
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The protocol called `name`, or the one in the file `name`, with `overrides` such as `training.steps=100` applied.
///
/// # Errors
/// Names the file and the key: an unknown key with the nearest known one, a wrong type, a file that is not there.
pub fn load(name: &str, overrides: &[String]) -> Result<ProtocolSpec> {
    let (text, origin) = match built_in(name) {
        Some(text) => (text.to_string(), format!("built-in protocol `{name}`")),
        None => (read(Path::new(name))?, name.to_string()),
    };
    let usage = |error: &dyn Display| Fault::Usage.because(anyhow!("{origin}: {error}"));
    let mut table: Table = toml::from_str(&text).map_err(|error| usage(&error))?;
    for assignment in overrides {
        apply(&mut table, assignment).map_err(|error| Fault::Usage.because(error))?;
    }
    parse(table).map_err(|error| usage(&error))
}

/// The protocol that `text` says.
///
/// # Errors
/// Names the key.
pub fn of_text(text: &str) -> Result<ProtocolSpec> {
    parse(toml::from_str(text)?)
}

fn read(path: &Path) -> Result<String> {
    let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    text_of(path).map_err(|error| {
        let fault =
            if error.kind() == std::io::ErrorKind::NotFound { Fault::Missing } else { Fault::Data };
        let hint = format!(
            "neither a readable protocol file nor a built-in protocol ({})",
            known.join(", ")
        );
        fault.because(anyhow!("{}: {hint}: {error}", path.display()))
    })
}

/// The text of a file: a pipe might never end, and no protocol is longer than a book.
fn text_of(path: &Path) -> std::io::Result<String> {
    const LARGEST: u64 = 4 << 20;
    let found = std::fs::metadata(path)?;
    if found.is_file() && found.len() <= LARGEST {
        return std::fs::read_to_string(path);
    }
    Err(std::io::Error::other(format!("expected a file of at most {LARGEST} bytes")))
}

/// No section lies deeper.
const DEEPEST: usize = 8;

/// Puts `a.b=value` into the table; a value that is no TOML is taken as text.
fn apply(table: &mut Table, assignment: &str) -> Result<()> {
    let (key, value) = assignment.split_once('=').ok_or_else(|| {
        anyhow!("--set {assignment}: expected KEY=VALUE, such as training.steps=100")
    })?;
    let value = value_of(value).with_context(|| format!("--set {assignment}"))?;
    let mut path: Vec<&str> = key.trim().split('.').collect();
    if path.len() > DEEPEST {
        return Err(anyhow!(
            "--set: expected a key of at most {DEEPEST} parts, got {}",
            path.len()
        ));
    }
    let last = path
        .pop()
        .filter(|last| !last.is_empty())
        .with_context(|| format!("--set {assignment}: no key"))?;
    let mut place = table;
    for section in path {
        let entry = place.entry(section).or_insert_with(|| Value::Table(Table::new()));
        place = entry
            .as_table_mut()
            .with_context(|| format!("--set {assignment}: `{section}` is no section"))?;
    }
    place.insert(last.to_string(), value);
    Ok(())
}

/// What `text` says in TOML; what is no TOML is a text.
fn value_of(text: &str) -> Result<Value> {
    let mut table = match toml::from_str::<Table>(&format!("value = {text}")) {
        Ok(table) => table,
        Err(error) if text.trim_start().starts_with(['[', '{']) => {
            return Err(anyhow!("expected a list or a table of TOML: {}", error.message()));
        }
        Err(_) => return Ok(Value::String(text.to_string())),
    };
    let value = table.remove("value").context("no value")?;
    match table.keys().next() {
        Some(other) => Err(anyhow!("expected one value, got `{other}` behind it")),
        None => Ok(value),
    }
}

fn parse(table: Table) -> Result<ProtocolSpec> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        anyhow!("{place}{}{}", message.trim_end(), nearest(&message))
    })
}

/// For "unknown field `a`, expected one of `b`, `c`": the one that is nearest to `a`.
fn nearest(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (message.starts_with("unknown field"), names.next()) else {
        return String::new();
    };
    /// Below it a name is no slip of the keys.
    const LIKE: f64 = 0.7;
    let closeness = |name: &&str| (strsim::jaro_winkler(unknown, name) * 1e6) as u64;
    let nearest =
        names.max_by_key(closeness).filter(|name| strsim::jaro_winkler(unknown, name) > LIKE);
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The protocol as it is kept with the run: every default filled in.
///
/// # Errors
/// None in practice: a protocol is plain data.
pub fn resolved_text(spec: &ProtocolSpec) -> Result<String> {
    toml::to_string(spec).context("the protocol could not be written as TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(overrides: &[&str]) -> Result<ProtocolSpec> {
        load("fashion", &overrides.iter().map(|o| o.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn every_built_in_protocol_is_sound() {
        for (name, _) in BUILT_IN {
            let spec = load(name, &[]).unwrap();
            assert_eq!(spec.name, name);
            let text = resolved_text(&spec).unwrap();
            assert_eq!(parse(toml::from_str(&text).unwrap()).unwrap(), spec);
        }
    }

    #[test]
    fn overrides_reach_every_depth_and_keep_their_types() {
        let spec =
            spec(&["training.steps=7", "model.channels=[8, 16]", "name=my run", "seeds = [3, 4]"])
                .unwrap();
        assert_eq!((spec.training.steps, spec.model.channels.as_slice()), (7, [8, 16].as_slice()));
        assert_eq!((spec.name.as_str(), spec.seeds.as_slice()), ("my run", [3, 4].as_slice()));
    }

    #[test]
    fn an_override_is_one_value_of_a_known_depth() {
        let error = spec(&["name='one'\nseeds=[9]"]).unwrap_err();
        assert!(crate::exit::in_words(&error).contains("`seeds` behind it"), "{error:#}");
        let deep = vec!["a"; 100_000].join(".") + "=1";
        assert!(spec(&[&deep]).unwrap_err().to_string().contains("at most 8 parts"));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = spec(&["training.learnig_rate=0.1"]).unwrap_err().to_string();
        assert!(error.contains("training") && error.contains("`learnig_rate`"), "{error}");
        assert!(error.contains("did you mean `learning_rate`?"), "{error}");
        let error = spec(&["trainin.steps=1"]).unwrap_err().to_string();
        assert!(error.contains("did you mean `training`?"), "{error}");
        let error = spec(&["training.steps=many"]).unwrap_err().to_string();
        assert!(error.contains("training.steps"), "{error}");
        assert!(load("absent.toml", &[]).unwrap_err().to_string().contains("absent.toml"));
    }
}
