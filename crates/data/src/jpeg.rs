//! What a JPEG decoder would pass over in silence: a missing end, and four channels.
//!
//! A lenient decoder fills a truncated picture with grey and turns CMYK into RGB by a guess. Both are refused here by a
//! walk over the markers (ITU-T T.81, annex B), before anything is decoded.

/// Checks that a JPEG reaches its end-of-image marker and has no more than three channels.
pub(crate) fn inspect(bytes: &[u8]) -> Result<(), String> {
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 2; // Behind the start-of-image marker.
    loop {
        let (marker, body) =
            next_marker(bytes, at).ok_or("truncated JPEG: no end-of-image marker")?;
        if marker == END_OF_IMAGE {
            return Ok(());
        }
        let length = bytes.get(body..body + 2).ok_or("truncated JPEG: a segment without length")?;
        if is_frame(marker) && bytes.get(body + 7).is_some_and(|&channels| channels > 3) {
            return Err("a JPEG with 4 channels (CMYK); save it as RGB".to_string());
        }
        at = body + usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
}

/// The next marker at or behind `at` and the offset of what follows it.
///
/// Inside a scan, 0xff 0x00 is a data byte and 0xff 0xd0 to 0xff 0xd7 are restarts: neither ends the scan.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let is_marker =
        |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xd0..=0xd8 | 0xff);
    let skipped = bytes.get(at..)?.windows(2).position(is_marker)?;
    Some((bytes[at + skipped + 1], at + skipped + 2))
}

/// Whether a marker starts a frame header (SOF0 to SOF15 without DHT, JPG and DAC).
fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}
