//! From the bytes of a PNG, JPEG or WebP file to a picture.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::Shape;
use crate::contain::contain;
use crate::jpeg;
use crate::picture::Picture;

/// Largest width and height, in pixels.
pub(crate) const MAX_SIDE: u32 = 16_384;
/// Most pixels: to decode them takes ten times their number of bytes.
const MAX_PIXELS: u64 = 64 << 20;
/// Largest file and largest decoded image, in bytes: what lies above is a mistake or an attack.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// The bytes of an image file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let length = path.metadata().map_err(|cause| cause.to_string())?.len();
    if length > MAX_BYTES {
        return Err(format!("{length} bytes, more than an image may have ({MAX_BYTES})"));
    }
    std::fs::read(path).map_err(|cause| cause.to_string())
}

/// Decodes an image; its format is known by its content, never by a name.
///
/// Palettes are resolved, 16 bits are rounded to 8, transparency is laid over white, the EXIF orientation is applied,
/// and of an animation the first frame counts. Refused, with the reason: other formats, truncated files, CMYK, more
/// than 16,384 pixels a side or 67,108,864 in all, more than 256 MiB of a file or decoded.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    if bytes.len() as u64 > MAX_BYTES {
        let found = bytes.len();
        return Err(format!("{found} bytes, more than an image may have ({MAX_BYTES})"));
    }
    let format = format_of(bytes)?;
    let mut end = None;
    match format {
        ImageFormat::Jpeg => end = Some(jpeg::inspect(bytes)?),
        ImageFormat::WebP => check_riff_length(bytes)?,
        _ => check_png_end(bytes)?,
    }
    let needed = match format {
        ImageFormat::Png => without_texts(bytes),
        _ => Cow::Borrowed(bytes),
    };
    let decoded = |bytes: &[u8]| {
        contain(|| "the decoder gave up on damaged data".to_string(), || picture(bytes, format))
    };
    let picture = decoded(&needed)?;
    match end.map(|end| decoded(&jpeg::lengthened(bytes, end))) {
        Some(again) if again.as_ref() != Ok(&picture) => {
            Err("truncated JPEG: its data end before the picture does".to_string())
        }
        _ => Ok(picture),
    }
}

/// A PNG without texts and colour profile, which are not looked at, and of which a few bytes may unpack to gigabytes.
///
/// What is no sequence of chunks stays as it is: the decoder says what is wrong with it.
fn without_texts(bytes: &[u8]) -> Cow<'_, [u8]> {
    const IGNORED: [&[u8]; 4] = [b"iCCP", b"zTXt", b"iTXt", b"tEXt"];
    const SIGNATURE: usize = 8;
    let (mut kept, mut at) = (bytes[..bytes.len().min(SIGNATURE)].to_vec(), SIGNATURE);
    while let Some(&[a, b, c, d, ref kind @ ..]) = bytes.get(at..at + 8) {
        // Length, kind, content, checksum.
        let length = 12 + u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(chunk) = bytes.get(at..at + length) else { return Cow::Borrowed(bytes) };
        if !IGNORED.contains(&kind) {
            kept.extend_from_slice(chunk);
        }
        at += length;
    }
    if kept.len() == bytes.len() { Cow::Borrowed(bytes) } else { Cow::Owned(kept) }
}

fn picture(bytes: &[u8], format: ImageFormat) -> Result<Picture, String> {
    let mut decoder = open(bytes, format)?;
    let orientation = decoder.orientation().map_err(reason)?;
    let image = DynamicImage::from_decoder(decoder).map_err(reason)?;
    Ok(flatten(image, orientation))
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat, String> {
    if bytes.is_empty() {
        return Err("an empty file".to_string());
    }
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => Ok(format),
        Ok(other) => Err(format!("a {} file, not PNG, JPEG or WebP", other.to_mime_type())),
        Err(_) => {
            let start = bytes[..bytes.len().min(8)].escape_ascii();
            Err(format!("not PNG, JPEG or WebP: begins with \"{start}\""))
        }
    }
}

/// The decoder is content once it has all pixels; a file that breaks off behind them is still broken.
fn check_png_end(bytes: &[u8]) -> Result<(), String> {
    const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
    match bytes.windows(END.len()).rev().any(|chunk| chunk == END) {
        true => Ok(()),
        false => Err("truncated PNG: no IEND chunk".to_string()),
    }
}

/// A WebP declares its length, without the 8 bytes up to there, at offset 4; the decoder itself reads as far as it gets.
fn check_riff_length(bytes: &[u8]) -> Result<(), String> {
    let [_, _, _, _, a, b, c, d, ..] = *bytes else {
        return Err("truncated WebP: no header".to_string());
    };
    let declared = u64::from(u32::from_le_bytes([a, b, c, d])) + 8;
    match bytes.len() as u64 {
        found if found < declared => {
            Err(format!("truncated WebP: expected {declared} bytes, found {found}"))
        }
        _ => Ok(()),
    }
}

fn open(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder, String> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(reason)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width}x{height} pixels, more than an image may have ({MAX_PIXELS})"));
    }
    match decoder.total_bytes() {
        total if total > MAX_BYTES => {
            Err(format!("{total} bytes decoded, more than an image may have ({MAX_BYTES})"))
        }
        0 => Err("no pixels".to_string()),
        _ => Ok(decoder),
    }
}

/// 8 bits, grey or RGB, upright, opaque.
fn flatten(mut image: DynamicImage, orientation: Orientation) -> Picture {
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (has_colour, has_alpha) = (image.color().has_color(), image.color().has_alpha());
    let pixels = match (has_colour, has_alpha) {
        (false, false) => image.into_luma8().into_raw(),
        (true, false) => image.into_rgb8().into_raw(),
        (false, true) => image
            .into_luma_alpha8()
            .pixels()
            .map(|pixel| over_white(pixel.0[0], pixel.0[1]))
            .collect(),
        (true, true) => image.into_rgba8().pixels().flat_map(|pixel| opaque(pixel.0)).collect(),
    };
    let channels = if has_colour { 3 } else { 1 };
    Picture { shape: Shape { width, height, channels }, pixels }
}

fn opaque([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    [red, green, blue].map(|value| over_white(value, alpha))
}

/// (value · alpha + 255 · (255 - alpha)) / 255, rounded.
fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn reason(error: image::ImageError) -> String {
    crate::error::one_line(&error.to_string())
}

#[cfg(test)]
mod tests;
