//! The text of one line: a JSON object whose last field, `check`, is a checksum of the rest.
//!
//! Law: `check` = the first 8 hexadecimal digits of BLAKE3 of the object without that field.
//! A line stays plain JSON, so that any reader of JSON lines opens the file.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// `,"check":"` + 8 digits + `"}`.
const SUFFIX_LENGTH: usize = 20;
const SUFFIX_START: &[u8] = b",\"check\":\"";

/// Encodes a record as one line with its end. A record is a non-empty JSON object without line breaks.
pub(crate) fn encode(record: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut line = serde_json::to_string(record)?;
    let check = checksum(line.as_bytes());
    line.pop(); // The closing brace, which comes back behind the checksum.
    line.push_str(",\"check\":\"");
    line.push_str(&check);
    line.push_str("\"}\n");
    Ok(line)
}

/// Decodes a line without its end.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn decode<R: DeserializeOwned>(line: &[u8]) -> Result<R, String> {
    let object = verify(line)?;
    serde_json::from_slice(&object).map_err(|error| error.to_string())
}

/// Checks the checksum of a line without its end; returns the object without the checksum.
pub(crate) fn verify(line: &[u8]) -> Result<Vec<u8>, String> {
    let (body, suffix) = line
        .split_at_checked(line.len().wrapping_sub(SUFFIX_LENGTH))
        .ok_or_else(|| format!("{} bytes are too few for a line with a checksum", line.len()))?;
    let found = suffix
        .strip_prefix(SUFFIX_START)
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .ok_or("the line does not end with its checksum")?;
    let mut object = body.to_vec();
    object.push(b'}');
    let expected = checksum(&object);
    if found == expected.as_bytes() {
        return Ok(object);
    }
    let found = String::from_utf8_lossy(found);
    Err(format!("checksum of the content is {expected}, the line says {found}"))
}

fn checksum(bytes: &[u8]) -> String {
    let mut digits = blake3::hash(bytes).to_hex().to_string();
    digits.truncate(8);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pair {
        name: String,
        numbers: Vec<f64>,
    }

    #[test]
    fn the_text_of_a_line_is_pinned() {
        let line =
            encode(&Pair { name: "a\n\"b".into(), numbers: vec![0.1, 1e-300, -0.0] }).unwrap();
        assert_eq!(
            line,
            "{\"name\":\"a\\n\\\"b\",\"numbers\":[0.1,1e-300,-0.0],\"check\":\"9c810fd1\"}\n"
        );
    }

    proptest! {
        #[test]
        fn every_line_comes_back_to_the_bit(name in ".{0,20}", bits in prop::collection::vec(any::<u64>(), 0..20)) {
            let numbers: Vec<f64> =
                bits.into_iter().map(f64::from_bits).filter(|number| number.is_finite()).collect();
            let line = encode(&Pair { name: name.clone(), numbers: numbers.clone() }).unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            let back: Pair = decode(line.trim_end_matches('\n').as_bytes()).unwrap();
            prop_assert_eq!(back.name, name);
            let to_bits = |numbers: Vec<f64>| numbers.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(to_bits(back.numbers), to_bits(numbers));
        }

        #[test]
        fn a_flipped_byte_is_found(position in any::<prop::sample::Index>(), flip in 1u8..) {
            let line = encode(&Pair { name: "seed-1".into(), numbers: vec![0.5, 0.25] }).unwrap();
            let mut bytes = line.trim_end().as_bytes().to_vec();
            let index = position.index(bytes.len());
            bytes[index] ^= flip;
            prop_assert!(verify(&bytes).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(decode::<Pair>(&bytes).is_err());
        }
    }
}
