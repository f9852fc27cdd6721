//! One leaf column of a Parquet row group, read a few values at a time.

use std::path::Path;

use parquet::basic::{LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use crate::DataError;
use crate::error::{malformed, one_line};

/// Values decoded at a time.
const BATCH: usize = 128;

/// The leaf column with one of these names, if it is the only one, has one of these types and is not repeated.
pub(crate) fn find_column(
    path: &Path,
    schema: &SchemaDescriptor,
    names: &[&str],
    types: &[Physical],
) -> Result<usize, DataError> {
    let is_named = |leaf: &usize| names.contains(&schema.column(*leaf).path().string().as_str());
    let suits = |column: &ColumnDescriptor| {
        types.contains(&column.physical_type())
            && column.max_rep_level() == 0
            && !is_measure(column.logical_type_ref())
    };
    let named: Vec<usize> = (0..schema.num_columns()).filter(is_named).collect();
    match named.as_slice() {
        [only] if suits(&schema.column(*only)) => Ok(*only),
        _ => {
            let field = format!("column {}", names.join(" or "));
            let expected = format!("exactly one of type {types:?}, not repeated");
            let remedy =
                "write `img` as struct<bytes, path>, `label` as int64 and captions as texts";
            Err(malformed(path, field, expected, described(schema), remedy))
        }
    }
}

/// Whether integers are days, hours or digits behind a point, which no label is.
fn is_measure(meaning: Option<&LogicalType>) -> bool {
    use LogicalType::{Date, Decimal, Time, Timestamp};
    matches!(meaning, Some(Date | Decimal { .. } | Time { .. } | Timestamp { .. }))
}

/// Whether there is a column of this name, whatever lies in it.
pub(crate) fn has_column(schema: &SchemaDescriptor, name: &str) -> bool {
    let is_it = |first: Option<&String>| first.is_some_and(|first| first == name);
    schema.columns().iter().any(|column| is_it(column.path().parts().first()))
}

/// "img.bytes (BYTE_ARRAY), label (INT64)".
fn described(schema: &SchemaDescriptor) -> String {
    let columns = schema.columns().iter().map(|column| {
        format!("{} ({})", one_line(&column.path().string()), column.physical_type())
    });
    let columns: Vec<String> = columns.collect();
    if columns.is_empty() { "no column".to_string() } else { columns.join(", ") }
}

/// A column of one row group between its first value and its last.
pub(crate) struct Column {
    reader: ColumnReader,
    /// The definition level of a value that is not null.
    present: i16,
}

impl Column {
    /// A column at its first value.
    pub(crate) fn new(reader: ColumnReader, descriptor: &ColumnDescriptor) -> Self {
        Self { reader, present: descriptor.max_def_level() }
    }

    /// The next texts of bytes, nulls included; empty at the end.
    pub(crate) fn bytes(&mut self) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                batch::<ByteArrayType>(reader, self.present)
            }
            _ => Err(ParquetError::General("a column that is no byte array".to_string())),
        }
    }

    /// The next integers, nulls included; empty at the end.
    pub(crate) fn integers(&mut self) -> Result<Vec<Option<i64>>, ParquetError> {
        match &mut self.reader {
            ColumnReader::Int64ColumnReader(reader) => batch::<Int64Type>(reader, self.present),
            ColumnReader::Int32ColumnReader(reader) => {
                let values = batch::<Int32Type>(reader, self.present)?;
                Ok(values.into_iter().map(|value| value.map(i64::from)).collect())
            }
            _ => Err(ParquetError::General("a column that is no integer".to_string())),
        }
    }
}

fn batch<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    present: i16,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (records, _, _) = reader.read_records(BATCH, Some(&mut levels), None, &mut values)?;
    if present == 0 {
        // A required column has no definition levels.
        return Ok(values.into_iter().map(Some).collect());
    }
    let is_present = |level: &&i16| **level == present;
    if levels.len() != records || levels.iter().filter(is_present).count() != values.len() {
        return Err(ParquetError::General("definition levels and values do not match".to_string()));
    }
    let mut values = values.into_iter();
    Ok(levels.iter().map(|&level| if level == present { values.next() } else { None }).collect())
}
