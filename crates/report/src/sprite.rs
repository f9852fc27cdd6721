//! Sheets of equal tiles (PNG) and single tiles cut from them for the page.

use crate::error::{Error, Result};
use base64::Engine;
use lethe_ledger::SpriteLayout;
use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Limits, Transformations};
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

/// More pixels on a side than any sheet of ours has: a small file may claim a huge image.
const LARGEST_SIDE: u32 = 1 << 15;
const LARGEST_BYTES: usize = 1 << 28;

/// A decoded image, 8 bits a channel, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    color: ColorType,
    bytes: Vec<u8>,
}

impl Picture {
    /// Reads a PNG; none if there is no such file.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>> {
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let problem = "expected a file".to_string();
            return Err(Error::Image { path: path.to_owned(), problem });
        }
        match File::open(path) {
            Ok(file) => Self::decode(BufReader::new(file))
                .map(Some)
                .map_err(|problem| Error::Image { path: path.to_owned(), problem }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path, "open")(error)),
        }
    }

    fn decode(file: BufReader<File>) -> Result<Self, String> {
        let mut decoder = Decoder::new_with_limits(file, Limits { bytes: LARGEST_BYTES });
        decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
        let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
        let (width, height) = (reader.info().width, reader.info().height);
        if width > LARGEST_SIDE || height > LARGEST_SIDE {
            return Err(format!("{width}x{height} pixels, expected at most {LARGEST_SIDE} a side"));
        }
        let length = reader
            .output_buffer_size()
            .filter(|&length| length <= LARGEST_BYTES)
            .ok_or_else(|| format!("{width}x{height} pixels are too many"))?;
        let mut bytes = vec![0; length];
        let frame = reader.next_frame(&mut bytes).map_err(|error| error.to_string())?;
        if !matches!(frame.color_type, ColorType::Grayscale | ColorType::Rgb) {
            return Err(format!("{:?} pixels, expected grey or RGB", frame.color_type));
        }
        bytes.truncate(frame.buffer_size());
        Ok(Self { width, height, color: frame.color_type, bytes })
    }

    /// The part of the picture at `left`, `top`; none if it does not fit.
    pub(crate) fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Option<Self> {
        let fits =
            left.checked_add(width)? <= self.width && top.checked_add(height)? <= self.height;
        let samples = self.color.samples();
        let row = |y: u32| {
            let start = (y as usize * self.width as usize + left as usize) * samples;
            self.bytes.get(start..start + width as usize * samples)
        };
        let rows: Option<Vec<&[u8]>> = (top..top + height).map(row).collect();
        fits.then_some(Self { width, height, color: self.color, bytes: rows?.concat() })
    }

    /// The picture as PNG inside a `data:` address.
    pub(crate) fn data_uri(&self) -> Result<String, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(self.color);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::High);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.bytes)?;
        writer.finish()?;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        Ok(format!("data:image/png;base64,{text}"))
    }
}

/// A sheet with one tile for each row of the table of examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sheet {
    picture: Picture,
    layout: SpriteLayout,
}

impl Sheet {
    /// Reads a sheet of at least `n_tiles` tiles; none if there is no such file.
    pub(crate) fn load(path: &Path, layout: &SpriteLayout, n_tiles: usize) -> Result<Option<Self>> {
        let Some(picture) = Picture::load(path)? else { return Ok(None) };
        let rows = (n_tiles as u64).div_ceil(u64::from(layout.columns));
        let width = u64::from(layout.tile_width) * u64::from(layout.columns);
        let height = u64::from(layout.tile_height) * rows;
        if (u64::from(picture.width), u64::from(picture.height)) != (width, height) {
            let problem = format!(
                "expected {width}x{height} pixels ({n_tiles} tiles, {} in a row), got {}x{}",
                layout.columns, picture.width, picture.height
            );
            return Err(Error::Image { path: path.to_owned(), problem });
        }
        Ok(Some(Self { picture, layout: layout.clone() }))
    }

    /// The tile of the example at this position of the table; none if there is none.
    pub(crate) fn tile(&self, position: usize) -> Option<Picture> {
        let columns = self.layout.columns as usize;
        let column = u32::try_from(position % columns).ok()?;
        let row = u32::try_from(position / columns).ok()?;
        let (width, height) = (self.layout.tile_width, self.layout.tile_height);
        self.picture.crop(column.checked_mul(width)?, row.checked_mul(height)?, width, height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, color: ColorType) -> Picture {
        let n = (width * height) as usize * color.samples();
        Picture { width, height, color, bytes: (0..n).map(|i| (i * 7 % 251) as u8).collect() }
    }

    fn saved(picture: &Picture, path: &Path) {
        let uri = picture.data_uri().unwrap();
        let text = uri.strip_prefix("data:image/png;base64,").unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_tile_is_the_part_of_the_sheet_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let layout = SpriteLayout { tile_width: 3, tile_height: 2, channels: 3, columns: 4 };
        let picture = picture(12, 4, ColorType::Rgb);
        saved(&picture, &path);
        let sheet = Sheet::load(&path, &layout, 6).unwrap().unwrap();
        assert_eq!(sheet.picture, picture);
        let tile = sheet.tile(5).unwrap();
        for (y, x, channel) in [(0, 0, 0), (1, 2, 2), (0, 1, 1)] {
            let in_sheet = ((y + 2) * 12 + x + 3) * 3 + channel;
            assert_eq!(tile.bytes[(y * 3 + x) * 3 + channel], picture.bytes[in_sheet]);
        }
        assert!(sheet.tile(8).is_none() && sheet.tile(usize::MAX).is_none());
    }

    #[test]
    fn a_sheet_of_the_wrong_size_or_no_png_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let layout = SpriteLayout { tile_width: 3, tile_height: 2, channels: 1, columns: 4 };
        assert!(Sheet::load(&path, &layout, 6).unwrap().is_none());
        saved(&picture(12, 2, ColorType::Grayscale), &path);
        let message = Sheet::load(&path, &layout, 6).unwrap_err().to_string();
        assert!(message.contains("sheet.png: expected 12x4 pixels"), "{message}");
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            // The end marker alone may be missing: all pixels are there then.
            assert!(length + 12 >= bytes.len() || Picture::load(&path).is_err(), "{length}");
        }
    }
}
