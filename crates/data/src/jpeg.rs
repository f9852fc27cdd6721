//! What a JPEG decoder would pass over in silence: a missing end, data that end before the picture, and four channels.
//!
//! A lenient decoder fills a truncated picture with grey and turns CMYK into RGB by a guess. Both are refused here by a
//! walk over the markers (ITU-T T.81, annex B), before anything is decoded.

/// Checks that a JPEG reaches its end-of-image marker, whose offset it returns, and has no more than three channels.
pub(crate) fn inspect(bytes: &[u8]) -> Result<usize, String> {
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 2; // Behind the start-of-image marker.
    loop {
        let (marker, body) =
            next_marker(bytes, at).ok_or("truncated JPEG: no end-of-image marker")?;
        if marker == END_OF_IMAGE {
            return Ok(body - 2);
        }
        let length = bytes.get(body..body + 2).ok_or("truncated JPEG: a segment without length")?;
        if is_frame(marker) && bytes.get(body + 7).is_some_and(|&channels| channels > 3) {
            return Err("a JPEG with 4 channels (CMYK); save it as RGB".to_string());
        }
        at = body + usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
}

/// The same JPEG with a few more bytes of data before its `end`.
///
/// A decoder that has its whole picture never sees them. One that ran out of data would have gone on with zeros, and sees
/// another picture now.
pub(crate) fn lengthened(bytes: &[u8], end: usize) -> Vec<u8> {
    [&bytes[..end], &[0x95, 0x6a].repeat(64), &bytes[end..]].concat()
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

#[cfg(test)]
mod tests {
    use super::inspect;

    /// Start, a comment that holds an end marker, a frame of `channels`, a scan with stuffing and a restart, end.
    fn jpeg(channels: u8) -> Vec<u8> {
        let comment = [0xff, 0xfe, 0, 4, 0xff, 0xd9];
        let frame = [0xff, 0xc0, 0, 8, 8, 0, 1, 0, 1, channels];
        let scan = [0xff, 0xda, 0, 2, 1, 0xff, 0x00, 2, 0xff, 0xd0, 3, 0xff, 0xff, 0xd9];
        [&[0xff, 0xd8], &comment[..], &frame[..], &scan[..]].concat()
    }

    #[test]
    fn only_the_end_marker_behind_the_scan_ends_the_file() {
        let end = jpeg(3).len() - 2;
        assert_eq!(inspect(&jpeg(3)), Ok(end));
        assert_eq!(inspect(&[jpeg(1), b"trailer".to_vec()].concat()), Ok(end));
        for length in 2..jpeg(3).len() {
            assert!(inspect(&jpeg(3)[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn four_channels_are_refused() {
        assert!(inspect(&jpeg(4)).unwrap_err().contains("CMYK"));
    }
}
