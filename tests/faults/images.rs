//! Images that are more, or less, than they seem: each one refused in a line, within memory.

use crate::inputs::{check, golden, gzip};
use crate::process::Rule;
use crate::tally::{Place, Suite, Tally};
use std::fs;
use std::io::Write;

/// A chunk of a PNG with its checksum.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(body);
    [&(body.len() as u32).to_be_bytes()[..], kind, body, &crc.sum().to_be_bytes()].concat()
}

/// A PNG of these sides and this colour type (0 grey, 2 RGB, 6 RGBA), `packed` being its pixels, `others` chunks before them.
fn png(width: u32, height: u32, colour: u8, others: &[u8], packed: &[u8]) -> Vec<u8> {
    let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = chunk(b"IHDR", &[&sides[..], &[8, colour, 0, 0, 0]].concat());
    let parts =
        [b"\x89PNG\r\n\x1a\n", &header[..], others, &chunk(b"IDAT", packed), &chunk(b"IEND", &[])];
    parts.concat()
}

/// `n` zeros in zlib's format.
fn zeros(n: u64) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let block = [0; 1 << 16];
    let mut left = n;
    while left > 0 {
        let n = left.min(block.len() as u64) as usize;
        packer.write_all(&block[..n]).unwrap();
        left -= n as u64;
    }
    packer.finish().unwrap()
}

/// A good image, another one for each number.
pub fn good(number: usize) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for row in 0..8 {
        let pixel = |x: usize| (((number * 37 + row * 91 + x * 53) * 2_654_435_761) >> 7) as u8;
        packer.write_all(&[0]).unwrap();
        packer.write_all(&[0, 1, 2, 3, 4, 5, 6, 7].map(pixel)).unwrap();
    }
    png(8, 8, 0, &[], &packer.finish().unwrap())
}

/// What an 8x8 grey PNG needs.
fn small(others: &[u8]) -> Vec<u8> {
    png(8, 8, 0, others, &zeros(72))
}

/// Broken in about twenty ways, by name; none of them may be taken for an image.
pub fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let golden = |name: &str| fs::read(golden("images").join(name)).unwrap();
    // The data break off, and the end marker is there all the same.
    let ended = |name: &str| {
        let bytes = golden(name);
        [&bytes[..bytes.len() - 12], &[0xff, 0xd9]].concat()
    };
    let cut = |name: &str, share: usize| {
        let bytes = golden(name);
        bytes[..bytes.len() * share / 10].to_vec()
    };
    let flipped = |name: &str| {
        let mut bytes = golden(name);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        bytes
    };
    vec![
        ("empty.png", Vec::new()),
        ("one-byte.jpg", vec![0xff]),
        ("page.jpg", b"<!doctype html><html><body>404 not found</body></html>".to_vec()),
        ("text.png", b"this is not an image\n".to_vec()),
        ("cut.png", cut("alpha.png", 6)),
        ("ended.jpg", ended("turned.jpg")),
        ("ended-progressive.jpg", ended("progressive.jpg")),
        ("cut.jpg", cut("turned.jpg", 6)),
        ("cut.webp", cut("lossy.webp", 6)),
        ("head.png", golden("bits.png")[..8].to_vec()),
        ("head.jpg", golden("turned.jpg")[..4].to_vec()),
        ("flipped.png", flipped("alpha.png")),
        ("cmyk.jpg", golden("cmyk.jpg")),
        ("picture.gif", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec()),
        ("picture.bmp", [b"BM".to_vec(), vec![0; 60]].concat()),
        ("picture.tif", b"II*\0\x08\0\0\0\0\0\0\0".to_vec()),
        ("wide.png", png(60_000, 60_000, 2, &[], &zeros(1 << 20))),
        ("nothing.png", png(0, 8, 0, &[], &zeros(72))),
        ("no-pixels.png", png(8, 8, 0, &[], &[])),
        ("half-pixels.png", png(64, 64, 0, &[], &zeros(1000))),
        ("zip.png", b"PK\x03\x04not an image".to_vec()),
        ("packed.png.gz", gzip(&golden("bits.png"))),
        ("zeros.jpg", vec![0; 4096]),
    ]
}

pub fn hostile(_: &Suite, tally: &mut Tally) {
    let megabytes = |n: u64| zeros(n << 20);
    let text = |kind: &[u8; 4], n: u64| chunk(kind, &[b"a\0\0", &megabytes(n)[..]].concat());
    let international = |n: u64| chunk(b"iTXt", &[b"a\0\x01\0\0\0", &megabytes(n)[..]].concat());
    let jpeg = |width: u16, height: u16| {
        let mut bytes = fs::read(golden("images/turned.jpg")).unwrap();
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        bytes
    };
    let bombs: Vec<(&str, Vec<u8>, &[i32], u64)> = vec![
        ("a PNG of 60000x60000", png(60_000, 60_000, 2, &[], &megabytes(300)), &[65], 64),
        ("a PNG of 16000x16000 in colour", png(16_000, 16_000, 2, &[], &megabytes(733)), &[65], 64),
        (
            "a PNG of 16000x16000 in grey",
            png(16_000, 16_000, 0, &[], &zeros(256_016_000)),
            &[0, 65],
            640,
        ),
        ("a PNG of 2^31 pixels a side", png(1 << 31, 1 << 31, 0, &[], &[]), &[65], 64),
        ("300 MB behind the pixels of 8x8", png(8, 8, 0, &[], &megabytes(300)), &[0, 65], 64),
        ("a text chunk of 300 MB", small(&text(b"zTXt", 300)), &[0, 65], 320),
        ("an international text of 300 MB", small(&international(300)), &[0, 65], 320),
        ("a colour profile of 300 MB", small(&text(b"iCCP", 300)), &[0, 65], 320),
        ("a JPEG of 65535x65535", jpeg(65_535, 65_535), &[65], 64),
        ("a JPEG of 16000x16000", jpeg(16_000, 16_000), &[65], 900),
        ("a thousand chunks", small(&chunk(b"tEXt", b"a\0b").repeat(100_000)), &[0, 65], 64),
    ];
    for (what, bytes, codes, memory) in bombs {
        let place = Place::new();
        place.write("images/class/bomb.png", bytes);
        let rule = Rule::codes(codes).memory(memory).within(20);
        let ended = rule.try_on(tally, what, &mut check(&place.path("images")));
        let verdict = match ended.code() == 0 || ended.out.contains("bomb.png") {
            true => Ok(()),
            false => Err(format!("it is not listed: {}{}", ended.out, ended.err)),
        };
        tally.count(|| format!("{what}, as told"), verdict);
    }
    for (name, bytes) in broken() {
        let place = Place::new();
        place.write(&format!("images/class/{name}"), bytes);
        let rule = Rule::codes(&[65]).memory(64).within(5);
        let ended = rule.try_on(tally, name, &mut check(&place.path("images")));
        let verdict = if ended.out.contains(name) { Ok(()) } else { Err("not listed".into()) };
        tally.count(|| format!("{name}, as told"), verdict);
    }
}
