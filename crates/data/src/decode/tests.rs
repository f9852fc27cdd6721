//! Images from files: exact pixels, and bombs.

use serde_json::Value;

use super::*;
use crate::fixtures::{encoded, golden, picture, png};

/// Files that the reader takes, with the largest difference from Pillow's pixels.
///
/// Lossless forms have none; two JPEG or VP8 decoders may round differently.
const GOLDEN: [(&str, u8); 8] = [
    ("alpha.png", 0),
    ("alpha.webp", 0),
    ("palette.png", 0),
    ("deep.png", 0),
    ("bits.png", 0),
    ("turned.jpg", 3),
    ("progressive.jpg", 3),
    ("lossy.webp", 3),
];

fn file(name: &str) -> Vec<u8> {
    std::fs::read(golden("images").join(name)).unwrap()
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize).collect()
}

#[test]
fn every_form_gives_the_pixels_that_pillow_gives() {
    let expected: Value = serde_json::from_slice(&file("pillow.json")).unwrap();
    for (name, tolerance) in GOLDEN {
        let found = decode(&file(name)).unwrap();
        let Shape { width, height, channels } = found.shape;
        assert_eq!([width, height, channels].to_vec(), numbers(&expected[name]["shape"]), "{name}");
        let pixels = numbers(&expected[name]["pixels"]);
        assert_eq!(found.pixels.len(), pixels.len(), "{name}");
        for (at, (&found, expected)) in found.pixels.iter().zip(pixels).enumerate() {
            let difference = found.abs_diff(expected as u8);
            assert!(difference <= tolerance, "{name} byte {at}: {found} is not {expected}");
        }
    }
}

#[test]
fn every_truncation_of_every_form_is_refused() {
    for (name, _) in GOLDEN {
        let whole = file(name);
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{name} cut to {length} bytes");
        }
    }
}

#[test]
fn no_damaged_byte_panics() {
    for (name, _) in GOLDEN {
        let whole = file(name);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            // Damage to pixels can go unseen, but a picture that comes out must be whole.
            if let Ok(picture) = decode(&damaged) {
                assert_eq!(picture.pixels.len(), picture.shape.bytes(), "{name} byte {at}");
            }
        }
    }
}

#[test]
fn lossless_formats_keep_every_byte() {
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let original = picture(5, 3, 3, 1);
        assert_eq!(decode(&encoded(&original, format)), Ok(original));
    }
    let grey = picture(5, 3, 1, 1);
    assert_eq!(decode(&png(&grey)), Ok(grey));
}

#[test]
fn what_is_no_accepted_image_says_what_it_is() {
    let reason = |bytes: &[u8]| decode(bytes).unwrap_err();
    assert_eq!(reason(b""), "an empty file");
    assert_eq!(reason(b"<html>"), "not PNG, JPEG or WebP: begins with \"<html>\"");
    assert_eq!(reason(b"GIF89a........"), "a image/gif file, not PNG, JPEG or WebP");
    assert_eq!(reason(&file("cmyk.jpg")), "a JPEG with 4 channels (CMYK); save it as RGB");
}

#[test]
fn a_webp_that_declares_less_than_its_first_chunk_is_refused() {
    for name in ["alpha.webp", "lossy.webp"] {
        let mut webp = file(name);
        let whole = decode(&webp).unwrap();
        for declared in [0u32, 4, 10] {
            webp[4..8].copy_from_slice(&declared.to_le_bytes());
            let reason = decode(&webp).unwrap_err();
            assert!(reason.contains(&format!("declares {} bytes", declared + 8)), "{reason}");
        }
        let length = webp.len() as u32 - 8;
        webp[4..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(decode(&[webp, b"trailer".to_vec()].concat()), Ok(whole));
    }
}

/// A PNG that declares `side` by `side` RGB pixels and holds none.
fn declared(side: u32) -> Vec<u8> {
    let mut bytes = png(&picture(1, 1, 3, 0));
    bytes[16..20].copy_from_slice(&side.to_be_bytes());
    bytes[20..24].copy_from_slice(&side.to_be_bytes());
    let mut checksum = flate2::Crc::new();
    checksum.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    bytes
}

#[test]
fn a_decompression_bomb_is_refused_by_its_header() {
    assert!(decode(&declared(1)).is_ok());
    assert!(decode(&declared(60_000)).unwrap_err().contains("exceeds limit"));
    // Each side is allowed, but the whole is not.
    let reason = decode(&declared(MAX_SIDE)).unwrap_err();
    assert!(reason.contains("16384x16384 pixels, more than"), "{reason}");
}

#[test]
fn transparency_is_laid_over_white() {
    assert_eq!((over_white(10, 255), over_white(10, 0), over_white(0, 128)), (10, 255, 127));
}

#[test]
fn a_file_is_read_once_its_length_is_known_to_be_sane() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("sparse");
    std::fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
    assert!(read_file(&path).unwrap_err().contains("more than an image may have"));
    assert!(read_file(&folder.path().join("missing")).is_err());
}
