//! One decoded image and what options do to it: colour, square, size.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma, Pixel, Rgb};

use crate::{Colour, Shape};

/// An image of bytes, `[height, width, channels]`, with 1 or 3 channels and at least one pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) shape: Shape,
    pub(crate) pixels: Vec<u8>,
}

impl Picture {
    /// The picture in the colour asked for.
    ///
    /// RGB becomes grey by the luma of ITU-R BT.601 in the 16-bit fixed point of Pillow's `convert("L")`, so that both
    /// give the same bytes; grey becomes RGB by repetition.
    pub(crate) fn coloured(self, colour: Colour) -> Self {
        let pixels = match (self.shape.channels, colour) {
            (3, Colour::Grey) => self.pixels.as_chunks::<3>().0.iter().map(luma).collect(),
            (1, Colour::Rgb) => self.pixels.iter().flat_map(|&value| [value; 3]).collect(),
            _ => return self,
        };
        Self { shape: Shape { channels: colour.channels(), ..self.shape }, pixels }
    }

    /// The central square, resized to `side` by `side`.
    ///
    /// The filter is a triangle over source pixels (bilinear when growing, antialiased when shrinking). Unlike a resize
    /// followed by a crop, the crop comes first, so that nothing outside the square bleeds into it and a very long
    /// image costs no more than its square.
    pub(crate) fn fitted(self, side: usize) -> Self {
        let square = self.squared();
        match square.shape {
            Shape { width, .. } if width == side => square,
            Shape { channels: 1, .. } => square.resized::<Luma<u8>>(side),
            _ => square.resized::<Rgb<u8>>(side),
        }
    }

    /// The central square; with an odd remainder the extra row or column goes from the end.
    fn squared(self) -> Self {
        let Shape { width, height, channels } = self.shape;
        let side = width.min(height);
        if width == height {
            return self;
        }
        let (left, top) = ((width - side) / 2, (height - side) / 2);
        let rows = self.pixels.chunks_exact(width * channels).skip(top).take(side);
        let pixels =
            rows.flat_map(|row| &row[left * channels..][..side * channels]).copied().collect();
        Self { shape: Shape { width: side, height: side, channels }, pixels }
    }

    fn resized<P: Pixel<Subpixel = u8> + 'static>(self, side: usize) -> Self {
        let Shape { width, height, channels } = self.shape;
        let buffer = ImageBuffer::<P, _>::from_raw(width as u32, height as u32, self.pixels)
            .expect("a picture holds width x height x channels bytes and P has as many channels");
        let pixels = resize(&buffer, side as u32, side as u32, FilterType::Triangle).into_raw();
        Self { shape: Shape { width: side, height: side, channels }, pixels }
    }
}

/// 0.299 R + 0.587 G + 0.114 B, rounded.
fn luma(&[red, green, blue]: &[u8; 3]) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    ((19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16) as u8
}
