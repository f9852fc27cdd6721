//! Parquet files in the schema in which the hub keeps image datasets.
//!
//! Layout (huggingface.co/docs/datasets): a struct column `img` or `image` with the encoded file in `bytes`, an integer
//! column `label`, and the class names as JSON under the key `huggingface` of the file's metadata; captions lie in a
//! column of texts, `text` unless another one is asked for. Only these columns are read, side by side and a few rows at
//! a time.

use std::path::{Path, PathBuf};

use parquet::basic::Type as Physical;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use serde_json::Value;

use crate::chunks::Chunks;
use crate::column::{Column, find_column, has_column};
use crate::contain::contain;
use crate::error::{malformed, one_line};
use crate::input::open_file;
use crate::rows::{Accept, Content, Place, Reader, Row};
use crate::{DataError, metadata};

const REMEDY: &str = "fetch the file again, or write it with snappy, gzip, zstd or no codec";

/// Parquet files with the same classes.
pub(crate) struct ParquetReader {
    files: Vec<PathBuf>,
    classes: Option<Vec<String>>,
    /// The column that the captions must be in, where one is asked for.
    caption: Option<String>,
    has_captions: bool,
}

impl ParquetReader {
    /// Opens every file once to see that it has the columns and that all name the same classes.
    pub(crate) fn open(files: &[PathBuf], caption: Option<&str>) -> Result<Self, DataError> {
        let described = |path: &PathBuf| {
            let file = HubFile::open(path, caption)?;
            Ok((file.class_names()?, file.caption.is_some()))
        };
        let first = files.first().map(described).transpose()?;
        let (classes, has_captions) = first.unwrap_or_default();
        for path in files.iter().skip(1) {
            let (found, is_captioned) = described(path)?;
            if is_captioned != has_captions {
                let found = if is_captioned { "captions" } else { "no captions" };
                let remedy = "give files of one dataset";
                return Err(malformed(path, "captions", "as in the first file", found, remedy));
            }
            if found != classes {
                let expected = format!("{classes:?} as in the first file");
                let remedy = "give files of one dataset";
                return Err(malformed(path, "class names", expected, format!("{found:?}"), remedy));
            }
        }
        let caption = caption.map(String::from);
        Ok(Self { files: files.to_vec(), classes, caption, has_captions })
    }
}

impl Reader for ParquetReader {
    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn has_captions(&self) -> bool {
        self.has_captions
    }

    fn rows(&self, accept: &mut Accept<'_>) -> Result<(), DataError> {
        let caption = self.caption.as_deref();
        self.files.iter().try_for_each(|path| HubFile::open(path, caption)?.rows(accept))
    }
}

/// One open file with the leaf columns that matter.
struct HubFile<'a> {
    path: &'a Path,
    reader: SerializedFileReader<Chunks>,
    image: usize,
    label: usize,
    caption: Option<usize>,
}

impl<'a> HubFile<'a> {
    fn open(path: &'a Path, caption: Option<&str>) -> Result<Self, DataError> {
        let (file, _) = open_file(path)?;
        let reader = decoded(path, || SerializedFileReader::new(Chunks(file)))?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let image =
            find_column(path, &schema, &["img.bytes", "image.bytes"], &[Physical::BYTE_ARRAY])?;
        let label = find_column(path, &schema, &["label"], &[Physical::INT64, Physical::INT32])?;
        let texts = [caption.unwrap_or(metadata::CAPTION)];
        let caption = match caption {
            None if !has_column(&schema, texts[0]) => None,
            _ => Some(find_column(path, &schema, &texts, &[Physical::BYTE_ARRAY])?),
        };
        Ok(Self { path, reader, image, label, caption })
    }

    /// The names of the labels, if the file's metadata has them.
    fn class_names(&self) -> Result<Option<Vec<String>>, DataError> {
        const FIELD: &str = "label names in the metadata under huggingface";
        let refused = |cause: serde_json::Error| {
            malformed(self.path, FIELD, "a list of texts in JSON", cause.to_string(), REMEDY)
        };
        let metadata = self.reader.metadata().file_metadata().key_value_metadata();
        let entry = metadata.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"));
        let Some(text) = entry.and_then(|pair| pair.value.as_deref()) else { return Ok(None) };
        let mut json: Value = serde_json::from_str(text).map_err(refused)?;
        let names = json.pointer_mut("/info/features/label/names").map(Value::take);
        names.map(serde_json::from_value).transpose().map_err(refused)
    }

    fn rows(&self, accept: &mut Accept<'_>) -> Result<(), DataError> {
        let mut row = 0;
        for index in 0..self.reader.num_row_groups() {
            let group = decoded(self.path, || self.reader.get_row_group(index))?;
            self.group(group.as_ref(), &mut row, accept)?;
        }
        match self.reader.metadata().file_metadata().num_rows() {
            declared if declared == row as i64 => Ok(()),
            declared => Err(self.wrong_rows(declared.to_string(), row.to_string())),
        }
    }

    /// Hands on the rows of one row group, images, labels and captions side by side.
    fn group(
        &self,
        group: &dyn RowGroupReader,
        row: &mut u64,
        accept: &mut Accept<'_>,
    ) -> Result<(), DataError> {
        let mut images = self.column(group, self.image)?;
        let mut labels = self.column(group, self.label)?;
        let mut captions = self.caption.map(|leaf| self.column(group, leaf)).transpose()?;
        loop {
            let images = decoded(self.path, || images.bytes())?;
            let labels = decoded(self.path, || labels.integers())?;
            let captions = match &mut captions {
                Some(column) => decoded(self.path, || column.bytes())?,
                None => vec![None; images.len()],
            };
            if images.len() != labels.len() || images.len() != captions.len() {
                let (images, labels, captions) = (images.len(), labels.len(), captions.len());
                let found = format!("{images} images, {labels} labels and {captions} captions");
                return Err(self.wrong_rows("as many images as labels".to_string(), found));
            }
            if images.is_empty() {
                return Ok(());
            }
            for ((image, label), caption) in images.iter().zip(labels).zip(&captions) {
                let (place, content) = (Place::Row(self.path, *row), content(image));
                let caption = caption.as_ref().map(|text| self.text(text, *row)).transpose()?;
                accept(Row { place, label, caption, content })?;
                *row += 1;
            }
        }
    }

    fn column(&self, group: &dyn RowGroupReader, leaf: usize) -> Result<Column, DataError> {
        let reader = decoded(self.path, || group.get_column_reader(leaf))?;
        let schema = self.reader.metadata().file_metadata().schema_descr();
        Ok(Column::new(reader, &schema.column(leaf)))
    }

    fn text<'b>(&self, bytes: &'b ByteArray, row: u64) -> Result<&'b str, DataError> {
        let refused = |expected: String, found: String| {
            let field = format!("row {row}: caption");
            malformed(self.path, field, expected, found, "write the captions as texts")
        };
        if bytes.len() > metadata::MAX_CAPTION {
            let expected = format!("at most {} bytes", metadata::MAX_CAPTION);
            return Err(refused(expected, bytes.len().to_string()));
        }
        std::str::from_utf8(bytes.data())
            .map_err(|cause| refused("UTF-8".to_string(), cause.to_string()))
    }

    fn wrong_rows(&self, expected: String, found: String) -> DataError {
        malformed(self.path, "number of rows", expected, found, REMEDY)
    }
}

fn content(image: &Option<ByteArray>) -> Content<'_> {
    match image {
        Some(bytes) => Content::Encoded(bytes.data()),
        None => Content::Missing("the image is null"),
    }
}

/// What the Parquet library returns; its errors and its panics name the file.
fn decoded<T>(
    path: &Path,
    decode: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, DataError> {
    let given_up = || ParquetError::General("a damaged page".to_string());
    contain(given_up, decode).map_err(|cause| {
        malformed(path, "Parquet", "an undamaged file", one_line(&cause.to_string()), REMEDY)
    })
}

#[cfg(test)]
mod tests;
