//! Sheets of images: tiles from left to right, then down, as one PNG.

use crate::exit::Fault;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Tensor};

/// Tiles of one size on a grid.
#[derive(Clone, Debug)]
pub struct Sheet {
    tile: (usize, usize),
    channels: usize,
    columns: usize,
    /// Bytes of each tile, [height, width, channels]; `None` is left blank.
    tiles: Vec<Option<Vec<u8>>>,
}

/// What a blank tile is filled with.
const BLANK: u8 = 128;

impl Sheet {
    /// A sheet of `n` blank tiles of (height, width).
    pub fn blank(tile: (usize, usize), channels: usize, columns: usize, n: usize) -> Self {
        Self { tile, channels, columns, tiles: vec![None; n] }
    }

    /// Puts the images [n, height, width, channels], in [−1, 1], on the tiles `positions`.
    ///
    /// # Errors
    /// When an image has another size than the tiles, a number that is not finite, or there is no such tile.
    pub fn place(&mut self, images: &Tensor, positions: &[usize]) -> Result<()> {
        let (n, height, width, channels) = images.dims4()?;
        ensure!(
            (height, width, channels) == (self.tile.0, self.tile.1, self.channels)
                && n == positions.len(),
            "a sheet of {} tiles {:?} does not take images {:?}",
            positions.len(),
            self.tile,
            images.dims()
        );
        let rows = images.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
        for (row, &position) in rows.into_iter().zip(positions) {
            if !row.iter().all(|x| x.is_finite()) {
                let why = "a number of it is not finite; are the network's weights?";
                return Err(Fault::Diverged.because(anyhow!("image {position}: {why}")));
            }
            let tile = self
                .tiles
                .get_mut(position)
                .with_context(|| format!("a sheet has no tile {position}"))?;
            *tile = Some(row.into_iter().map(byte).collect());
        }
        Ok(())
    }

    /// The sheet as a PNG; the same tiles always give the same bytes.
    ///
    /// # Errors
    /// When it has more than one or three channels.
    pub fn png(&self) -> Result<Vec<u8>> {
        let (height, width) = self.tile;
        let columns = self.columns.max(1);
        let rows = self.tiles.len().div_ceil(columns).max(1);
        let stride = columns * width * self.channels;
        let mut pixels = vec![BLANK; rows * height * stride];
        for (position, tile) in self.tiles.iter().enumerate() {
            let Some(tile) = tile else { continue };
            let corner =
                position / columns * height * stride + position % columns * width * self.channels;
            for (i, line) in tile.chunks_exact(width * self.channels).enumerate() {
                pixels[corner + i * stride..][..line.len()].copy_from_slice(line);
            }
        }
        encode(&pixels, columns * width, rows * height, self.channels)
    }
}

/// −1 … 1 to 0 … 255; what lies outside is held at the ends.
fn byte(x: f32) -> u8 {
    ((x.clamp(-1., 1.) + 1.) * 127.5).round() as u8
}

fn encode(pixels: &[u8], width: usize, height: usize, channels: usize) -> Result<Vec<u8>> {
    let colour = match channels {
        1 => png::ColorType::Grayscale,
        3 => png::ColorType::Rgb,
        other => anyhow::bail!("a PNG has one or three channels, got {other}"),
    };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn tiles_lie_where_they_were_put() {
        let mut sheet = Sheet::blank((1, 2), 1, 2, 3);
        let images = Tensor::new(&[[[[-1f32], [1.]]], [[[0.], [9.]]]], &Device::Cpu).unwrap();
        sheet.place(&images, &[2, 0]).unwrap();
        let bytes = sheet.png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [128, 255, 128, 128, 0, 255, 128, 128]);
        assert!(sheet.place(&images, &[0, 7]).unwrap_err().to_string().contains("tile 7"));
    }
}
