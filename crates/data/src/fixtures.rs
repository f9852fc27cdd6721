//! Small datasets for the tests of this crate.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{ExtendedColorType, ImageFormat};
use parquet::basic;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use crate::Shape;
use crate::decode::decode;
use crate::picture::Picture;

/// The labels of CIFAR-10's test images 0 to 19.
pub(crate) const CIFAR_LABELS: [u32; 20] =
    [3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8, 5, 7, 8, 6];

/// The hub's schema for CIFAR-10.
pub(crate) const HUB: &str = "message schema {
    optional group img { optional binary bytes; optional binary path (STRING); }
    optional int64 label;
}";

/// A file of `tests/golden`.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// The 20 original CIFAR-10 images, decoded from their PNG files.
pub(crate) fn cifar_originals() -> Vec<Picture> {
    let name = |(index, label)| format!("cifar10/cifar10_{index:02}_{label}.png");
    let read = |name: String| std::fs::read(golden(&name)).unwrap();
    CIFAR_LABELS.iter().enumerate().map(name).map(|name| decode(&read(name)).unwrap()).collect()
}

/// A picture whose bytes are all different from their neighbours'.
pub(crate) fn picture(width: usize, height: usize, channels: usize, seed: u8) -> Picture {
    let shape = Shape { width, height, channels };
    let pixels = (0..shape.bytes()).map(|i| (i as u8).wrapping_mul(37).wrapping_add(seed));
    Picture { shape, pixels: pixels.collect() }
}

/// The picture as a file of a lossless format.
pub(crate) fn encoded(picture: &Picture, format: ImageFormat) -> Vec<u8> {
    let Shape { width, height, channels } = picture.shape;
    let colour = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut file = Cursor::new(Vec::new());
    let (width, height) = (width as u32, height as u32);
    image::write_buffer_with_format(&mut file, &picture.pixels, width, height, colour, format)
        .unwrap();
    file.into_inner()
}

/// The picture as a PNG file.
pub(crate) fn png(picture: &Picture) -> Vec<u8> {
    encoded(picture, ImageFormat::Png)
}

/// A file and the folders above it.
pub(crate) fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// The bytes, packed.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// An idx file of bytes with these dimensions.
pub(crate) fn idx(dimensions: &[u32], body: &[u8]) -> Vec<u8> {
    let header = [0, 0, 8, dimensions.len() as u8].into_iter();
    header
        .chain(dimensions.iter().flat_map(|d| d.to_be_bytes()))
        .chain(body.iter().copied())
        .collect()
}

/// A Parquet file in the making.
pub(crate) struct HubFile<'a> {
    pub(crate) schema: &'a str,
    pub(crate) images: Vec<Option<Vec<u8>>>,
    pub(crate) labels: Vec<Option<i64>>,
    /// What a leaf named `text` or `prompt` gets.
    pub(crate) captions: Vec<Option<Vec<u8>>>,
    /// The text under `huggingface`.
    pub(crate) metadata: Option<&'a str>,
    pub(crate) compression: basic::Compression,
}

impl HubFile<'_> {
    /// In the hub's schema, without class names, uncompressed.
    pub(crate) fn new(images: Vec<Option<Vec<u8>>>, labels: Vec<Option<i64>>) -> Self {
        let compression = basic::Compression::UNCOMPRESSED;
        let captions = vec![None; images.len()];
        Self { schema: HUB, images, labels, captions, metadata: None, compression }
    }

    /// The file's bytes. A leaf named `bytes` gets the images, every other binary one their number, integers the labels.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let pair = |value: &str| vec![KeyValue::new("huggingface".to_string(), value.to_string())];
        let properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_key_value_metadata(self.metadata.map(pair));
        let schema = Arc::new(parse_message_type(self.schema).unwrap());
        let mut file = Vec::new();
        let properties = Arc::new(properties.build());
        let mut writer = SerializedFileWriter::new(&mut file, schema, properties).unwrap();
        let leaves: Vec<_> = writer.schema_descr().columns().to_vec();
        let mut group = writer.next_row_group().unwrap();
        for leaf in &leaves {
            let column = group.next_column().unwrap().unwrap();
            let present = leaf.max_def_level();
            let bytes = |image: &Option<Vec<u8>>| image.clone().map(ByteArray::from);
            match (leaf.physical_type(), leaf.name()) {
                (basic::Type::BYTE_ARRAY, "bytes") => {
                    fill::<ByteArrayType>(column, present, self.images.iter().map(bytes))
                }
                (basic::Type::BYTE_ARRAY, "text" | "prompt") => {
                    fill::<ByteArrayType>(column, present, self.captions.iter().map(bytes))
                }
                (basic::Type::BYTE_ARRAY, _) => {
                    fill::<ByteArrayType>(column, present, self.images.iter().map(|_| None))
                }
                (basic::Type::INT32, _) => {
                    let labels = self.labels.iter().map(|label| label.map(|label| label as i32));
                    fill::<Int32Type>(column, present, labels)
                }
                _ => fill::<Int64Type>(column, present, self.labels.iter().copied()),
            }
        }
        group.close().unwrap();
        writer.close().unwrap();
        file
    }
}

fn fill<T: DataType>(
    mut column: SerializedColumnWriter<'_>,
    present: i16,
    values: impl Iterator<Item = Option<T::T>>,
) {
    let values: Vec<Option<T::T>> = values.collect();
    let levels: Vec<i16> = values.iter().map(|v| if v.is_some() { present } else { 0 }).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    column.typed::<T>().write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
}
