//! What a PNG decoder would pass over in silence: a missing end, and pixels behind the palette; and what it need not see.
//!
//! A PNG (w3.org/TR/png) is a signature and chunks: length, kind, content, checksum. The first of them is the header.

use std::borrow::Cow;

/// Bytes before the first chunk.
const SIGNATURE: usize = 8;
/// The kind of the last chunk.
const END: &[u8] = b"IEND";

/// The decoder is content once it has all pixels; a file that breaks off behind them is still broken.
pub(crate) fn check_end(bytes: &[u8]) -> Result<(), String> {
    const LAST: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
    match bytes.windows(LAST.len()).rev().any(|chunk| chunk == LAST) {
        true => Ok(()),
        false => Err("truncated PNG: no IEND chunk".to_string()),
    }
}

/// A PNG without texts and colour profile, which are not looked at, and of which a few bytes may unpack to gigabytes.
///
/// What is no sequence of chunks stays as it is: the decoder says what is wrong with it.
pub(crate) fn without_texts(bytes: &[u8]) -> Cow<'_, [u8]> {
    const IGNORED: [&[u8]; 4] = [b"iCCP", b"zTXt", b"iTXt", b"tEXt"];
    let is_needed = |chunk: &&[u8]| !IGNORED.contains(&kind(chunk));
    let is_whole = chunks(bytes).last().is_some_and(|chunk| kind(chunk) == END);
    if !is_whole || chunks(bytes).all(|chunk| is_needed(&chunk)) {
        return Cow::Borrowed(bytes);
    }
    let mut kept = bytes[..SIGNATURE].to_vec();
    chunks(bytes).filter(is_needed).for_each(|chunk| kept.extend_from_slice(chunk));
    Cow::Owned(kept)
}

/// A decoder drops transparencies of more colours than there are.
pub(crate) fn check_transparency(bytes: &[u8]) -> Result<(), String> {
    let length =
        |name: &[u8]| chunks(bytes).find(|chunk| kind(chunk) == name).map(|chunk| chunk.len() - 12);
    let is_indexed = chunks(bytes).next().and_then(|header| header.get(17)) == Some(&INDEXED);
    match (length(b"PLTE"), length(b"tRNS")) {
        (Some(palette), Some(seen)) if is_indexed && seen > palette / 3 => Err(BEYOND.to_string()),
        _ => Ok(()),
    }
}

/// What is wrong with a PNG that names colours which are not there.
pub(crate) const BEYOND: &str = "a PNG whose pixels or transparencies go beyond its palette";
/// The type of colour of a PNG with a palette.
const INDEXED: u8 = 3;

/// The same PNG with as many colours in its palette as its pixels could name, where they are fewer.
///
/// A decoder takes black for a colour that is not there: a picture with one is another one now; every other one never looks at
/// what was added.
pub(crate) fn with_whole_palette(bytes: &[u8]) -> Option<Vec<u8>> {
    const ADDED: u8 = 0xa5;
    let header = chunks(bytes).next()?;
    let (&depth, &colour) = (header.get(16)?, header.get(17)?);
    let chunk = chunks(bytes).find(|chunk| kind(chunk) == b"PLTE")?;
    let colours = &chunk[8..chunk.len() - 4];
    if colour != INDEXED || depth > 8 || colours.len() >= 3 << depth {
        return None;
    }
    let mut whole = colours.to_vec();
    whole.resize(3 << depth, ADDED);
    let at = chunk.as_ptr().addr() - bytes.as_ptr().addr();
    Some([&bytes[..at], &packed(b"PLTE", &whole), &bytes[at + chunk.len()..]].concat())
}

/// The chunks up to the last, or to the first that is not whole.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let (chunk, behind) = rest.split_at_checked(12 + length)?;
        rest = if kind(chunk) == END { &[] } else { behind };
        Some(chunk)
    })
}

fn kind(chunk: &[u8]) -> &[u8] {
    &chunk[4..8]
}

/// Content as a chunk.
fn packed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut checksum = flate2::Crc::new();
    checksum.update(kind);
    checksum.update(content);
    let length = (content.len() as u32).to_be_bytes();
    [&length, &kind[..], content, &checksum.sum().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;
    use crate::fixtures::golden;

    /// A picture of seven colours, of which four bits could name sixteen.
    fn indexed() -> Vec<u8> {
        std::fs::read(golden("images/palette.png")).unwrap()
    }

    /// The same with a chunk in another's place.
    fn replaced(bytes: &[u8], name: &[u8], by: &[u8]) -> Vec<u8> {
        let part = |chunk: &[u8]| if kind(chunk) == name { by.to_vec() } else { chunk.to_vec() };
        chunks(bytes).map(part).fold(bytes[..SIGNATURE].to_vec(), |all, part| [all, part].concat())
    }

    #[test]
    fn pixels_and_transparencies_behind_the_palette_are_refused() {
        let whole = indexed();
        let palette = chunks(&whole).find(|chunk| kind(chunk) == b"PLTE").unwrap();
        let colours = &palette[8..29];
        let cut = |n: usize| replaced(&whole, b"PLTE", &packed(b"PLTE", &colours[..3 * n]));
        assert_eq!(decode(&cut(7)), decode(&whole));
        for n in 1..7 {
            let reason = decode(&cut(n)).unwrap_err();
            assert_eq!(reason, "a PNG whose pixels or transparencies go beyond its palette", "{n}");
            // What is behind the end is not looked at.
            assert_eq!(decode(&[cut(n), vec![7; 40]].concat()).unwrap_err(), reason);
        }
        let seen = |n: usize| {
            let both = [palette, &packed(b"tRNS", &vec![9; n])].concat();
            decode(&replaced(&whole, b"PLTE", &both))
        };
        assert!(seen(7).is_ok_and(|picture| Ok(picture) != decode(&whole)));
        assert_eq!(seen(8).unwrap_err(), BEYOND);
        let full = packed(b"PLTE", &[colours, &[0; 27]].concat());
        let seen = |n: usize| {
            decode(&replaced(
                &whole,
                b"PLTE",
                &[full.clone(), packed(b"tRNS", &vec![9; n])].concat(),
            ))
        };
        assert!(seen(16).is_ok());
        assert_eq!(seen(17).unwrap_err(), BEYOND);
    }

    #[test]
    fn a_whole_palette_and_other_colours_are_left_alone() {
        let more = with_whole_palette(&indexed()).unwrap();
        assert_eq!(with_whole_palette(&more), None);
        assert_eq!(decode(&more), decode(&indexed()));
        for name in ["alpha.png", "deep.png"] {
            assert_eq!(
                with_whole_palette(&std::fs::read(golden("images").join(name)).unwrap()),
                None
            );
        }
        (0..indexed().len()).for_each(|length| _ = with_whole_palette(&indexed()[..length]));
    }

    #[test]
    fn texts_are_left_out() {
        let text = [packed(b"tEXt", b"a\0b"), packed(b"IEND", b"")].concat();
        let told = replaced(&indexed(), END, &text);
        assert_eq!(without_texts(&told), indexed());
        assert!(matches!(without_texts(&told[..told.len() - 13]), Cow::Borrowed(_)));
    }
}
