//! From the bytes of a PNG, JPEG or WebP file to a picture.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::contain::contain;
use crate::picture::Picture;
use crate::{Shape, jpeg, png};

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
/// and of an animation the first frame counts. Refused, with the reason: other formats, truncated files, CMYK,
/// colours beyond a palette, more than 16,384 pixels a side or 67,108,864 in all, more than 256 MiB of a file or decoded.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    if bytes.len() as u64 > MAX_BYTES {
        let found = bytes.len();
        return Err(format!("{found} bytes, more than an image may have ({MAX_BYTES})"));
    }
    let format = format_of(bytes)?;
    // The file as it is decoded; and, where it shows what a decoder passes over, another one of the same picture.
    let (needed, other, fault) = match format {
        ImageFormat::Jpeg => {
            let other = jpeg::lengthened(bytes, jpeg::inspect(bytes)?);
            (
                Cow::Borrowed(bytes),
                Some(other),
                "truncated JPEG: its data end before the picture does",
            )
        }
        ImageFormat::WebP => {
            check_riff_length(bytes)?;
            (Cow::Borrowed(bytes), None, "")
        }
        _ => {
            png::check_end(bytes)?;
            png::check_transparency(bytes)?;
            let needed = png::without_texts(bytes);
            let other = png::with_whole_palette(&needed);
            (needed, other, png::BEYOND)
        }
    };
    let decoded = |bytes: &[u8]| {
        contain(|| "the decoder gave up on damaged data".to_string(), || picture(bytes, format))
    };
    let picture = decoded(&needed)?;
    match other.map(|other| decoded(&other)) {
        Some(again) if again.as_ref() != Ok(&picture) => Err(fault.to_string()),
        _ => Ok(picture),
    }
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

/// A WebP declares its length, without the 8 bytes up to there, at offset 4, and that of its first chunk at 16; the decoder
/// itself reads as far as it gets.
fn check_riff_length(bytes: &[u8]) -> Result<(), String> {
    let number = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u64::from(u32::from_le_bytes(*bytes)))
    };
    let (Some(declared), Some(chunk)) = (number(4), number(16)) else {
        return Err("truncated WebP: no header".to_string());
    };
    let (declared, least, found) = (declared + 8, chunk + 20, bytes.len() as u64);
    if found < declared {
        return Err(format!("truncated WebP: expected {declared} bytes, found {found}"));
    }
    if declared < least {
        return Err(format!(
            "a WebP that declares {declared} bytes, and {least} up to its first chunk's end"
        ));
    }
    Ok(())
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
