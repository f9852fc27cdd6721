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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fixtures::{cifar_originals, golden, picture};

    fn pillow(name: &str) -> Vec<u8> {
        let text = std::fs::read(golden("images/pillow.json")).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        json[name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u8).collect()
    }

    #[test]
    fn grey_is_that_of_pillow_to_the_byte() {
        let cat = cifar_originals().swap_remove(0);
        let grey = cat.clone().coloured(Colour::Grey);
        assert_eq!(grey.shape, Shape { channels: 1, ..cat.shape });
        assert_eq!(grey.pixels, pillow("grey"));
        let white =
            Picture { shape: Shape { width: 1, height: 1, channels: 3 }, pixels: vec![255; 3] };
        assert_eq!(white.coloured(Colour::Grey).pixels, [255]);
    }

    #[test]
    fn grey_becomes_rgb_by_repetition_and_equal_colours_stay() {
        let grey =
            Picture { shape: Shape { width: 2, height: 1, channels: 1 }, pixels: vec![3, 9] };
        assert_eq!(grey.clone().coloured(Colour::Rgb).pixels, [3, 3, 3, 9, 9, 9]);
        assert_eq!(grey.clone().coloured(Colour::Grey), grey);
        let rgb = picture(3, 2, 3, 5);
        assert_eq!(rgb.clone().coloured(Colour::Rgb), rgb);
    }

    #[test]
    fn sizes_up_and_down_are_those_of_pillow() {
        let cat = cifar_originals().swap_remove(0);
        for side in [16, 24, 48] {
            let fitted = cat.clone().fitted(side);
            assert_eq!(fitted.shape, Shape { width: side, height: side, channels: 3 });
            let expected = pillow(&format!("bilinear {side}"));
            for (at, (&found, expected)) in fitted.pixels.iter().zip(expected).enumerate() {
                // Pillow rounds to bytes between its two passes; here both run in floating point.
                assert!(
                    found.abs_diff(expected) <= 1,
                    "side {side} byte {at}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn the_square_is_cut_from_the_middle() {
        let wide = Picture {
            shape: Shape { width: 5, height: 2, channels: 1 },
            pixels: vec![0, 1, 2, 3, 4, 10, 11, 12, 13, 14],
        };
        assert_eq!(wide.fitted(2).pixels, [1, 2, 11, 12]);
        let tall = Picture {
            shape: Shape { width: 1, height: 4, channels: 3 },
            pixels: (0..12).collect(),
        };
        assert_eq!(tall.fitted(1).pixels, [3, 4, 5]);
    }

    #[test]
    fn a_constant_picture_stays_constant_in_every_size() {
        for (side, channels) in [(1, 1), (7, 3), (64, 1)] {
            let shape = Shape { width: 13, height: 9, channels };
            let fitted = Picture { shape, pixels: vec![201; shape.bytes()] }.fitted(side);
            assert_eq!(fitted.pixels, vec![201; side * side * channels]);
        }
    }
}
