//! JSON objects in which no key stands twice: of two, readers take now the first and now the last.

use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The fields of the object in `text`, each of which stands there once.
///
/// # Errors
/// In words: no JSON, no object, or a key that stands twice.
pub fn fields(text: &str) -> Result<Map<String, Value>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer.deserialize_map(Fields).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(fields)
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some((key, value)) = access.next_entry::<String, Value>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format!(
                    "`{key}` stands there twice; strike one of them"
                )));
            }
            fields.insert(key, value);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn a_key_that_stands_twice_is_named() {
        assert_eq!(fields(r#"{"a": 1, "b": [2]}"#).unwrap().len(), 2);
        let words = fields(r#"{"a": 1, "b": 2, "a": 1}"#).unwrap_err();
        assert!(words.contains("`a` stands there twice"), "{words}");
        for text in ["", "[]", "1", "{\"a\"}", "{} {}"] {
            assert!(fields(text).is_err(), "{text}");
        }
    }
}
