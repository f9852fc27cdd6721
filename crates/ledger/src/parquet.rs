//! The ledger as one Parquet table, which pandas, polars and duckdb open in one line.
//!
//! | column            | type            | meaning                                        |
//! |-------------------|-----------------|------------------------------------------------|
//! | `run`, `arm`      | text            | as in [`Measurement`]                          |
//! | `learned_through` | unsigned        | number of the task learned last                |
//! | `step`            | unsigned        | optimizer steps within it                      |
//! | `example`         | unsigned        | id                                             |
//! | `split`           | text            | `train` or `held-out`                          |
//! | `task`, `class`   | unsigned        | of the example                                 |
//! | `quantity`        | text            | [`Quantity::name`](crate::Quantity::name)      |
//! | `level`           | number or null  | as [`Quantity::level`](crate::Quantity::level) says: t/T of an error, inverse temperature of an energy, null for all others |
//! | `value`           | number          | in the quantity's unit                         |
//!
//! The run manifest stands in the file's key-value metadata under [`MANIFEST_KEY`].

use crate::durable;
use crate::error::{Error, Result};
use crate::examples::{ExampleRow, ExampleTable};
use crate::manifest::RunManifest;
use crate::measurement::Measurement;
use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::{ColumnPath, Type};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Key of the run manifest (JSON) in the file's metadata.
pub const MANIFEST_KEY: &str = "lethe.manifest";

/// Rows of a row group: a compromise between memory while writing and scanning speed.
const ROWS_PER_GROUP: usize = 1 << 18;

/// Writes one row for each measured value, in the order of the ledger, and replaces `path` at once.
///
/// # Errors
/// [`Error::UnknownExample`], [`Error::Parquet`], [`Error::Io`]; the previous file is untouched then.
pub fn write_parquet(
    path: impl AsRef<Path>,
    manifest: &RunManifest,
    examples: &ExampleTable,
    measurements: &[Measurement],
) -> Result<()> {
    let path = path.as_ref();
    let failed = |source| Error::Parquet { path: path.to_owned(), source };
    let json = serde_json::to_string(manifest)
        .map_err(|source| Error::io(path, "encode the manifest")(source.into()))?;
    durable::replace(path, |file| {
        let schema = Arc::new(schema().map_err(failed)?);
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(properties(json))).map_err(failed)?;
        let mut columns = Columns::default();
        for measurement in measurements {
            columns.push(measurement, examples)?;
            if columns.values.len() >= ROWS_PER_GROUP {
                columns.flush(&mut writer).map_err(failed)?;
            }
        }
        columns.flush(&mut writer).map_err(failed)?;
        writer.close().map_err(failed)?;
        Ok(())
    })
}

fn schema() -> ParquetResult<Type> {
    let text = |name| {
        Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::String))
            .build()
    };
    let unsigned = |name| {
        Type::primitive_type_builder(name, Physical::INT64)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::integer(64, false)))
            .build()
    };
    let number = |name, repetition| {
        Type::primitive_type_builder(name, Physical::DOUBLE).with_repetition(repetition).build()
    };
    let fields = [
        text("run")?,
        text("arm")?,
        unsigned("learned_through")?,
        unsigned("step")?,
        unsigned("example")?,
        text("split")?,
        unsigned("task")?,
        unsigned("class")?,
        text("quantity")?,
        number("level", Repetition::OPTIONAL)?,
        number("value", Repetition::REQUIRED)?,
    ];
    Type::group_type_builder("measurements")
        .with_fields(fields.into_iter().map(Arc::new).collect())
        .build()
}

fn properties(manifest: String) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(true)
        // Values hardly repeat: a dictionary of them would be built and thrown away.
        .set_column_dictionary_enabled(ColumnPath::from("value"), false)
        .set_key_value_metadata(Some(vec![KeyValue::new(MANIFEST_KEY.to_owned(), manifest)]))
        .build()
}

/// The rows of the row group that is being gathered, column by column.
#[derive(Default)]
struct Columns {
    runs: Vec<ByteArray>,
    arms: Vec<ByteArray>,
    learned_through: Vec<i64>,
    steps: Vec<i64>,
    examples: Vec<i64>,
    splits: Vec<ByteArray>,
    tasks: Vec<i64>,
    classes: Vec<i64>,
    quantities: Vec<ByteArray>,
    /// Only the levels that exist; `has_level` says where.
    levels: Vec<f64>,
    has_level: Vec<i16>,
    values: Vec<f64>,
}

impl Columns {
    fn push(&mut self, measurement: &Measurement, table: &ExampleTable) -> Result<()> {
        let n = measurement.values.len();
        let extend = |column: &mut Vec<ByteArray>, text: &str| {
            column.extend(std::iter::repeat_n(ByteArray::from(text), n));
        };
        extend(&mut self.runs, &measurement.run);
        extend(&mut self.arms, &measurement.arm);
        extend(&mut self.quantities, measurement.quantity.name());
        self.learned_through.extend(std::iter::repeat_n(i64::from(measurement.learned_through), n));
        self.steps.extend(std::iter::repeat_n(as_stored(measurement.step), n));
        self.has_level.extend(std::iter::repeat_n(i16::from(measurement.level.is_some()), n));
        self.levels
            .extend(measurement.level.into_iter().flat_map(|level| std::iter::repeat_n(level, n)));
        self.values.extend_from_slice(&measurement.values);
        for &id in &measurement.examples {
            let row = find(table, id, measurement)?;
            self.examples.push(as_stored(id));
            self.splits.push(ByteArray::from(row.split.name()));
            self.tasks.push(i64::from(row.task));
            self.classes.push(i64::from(row.class));
        }
        Ok(())
    }

    fn flush<W: Write + Send>(
        &mut self,
        writer: &mut SerializedFileWriter<W>,
    ) -> ParquetResult<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let mut group = writer.next_row_group()?;
        write::<ByteArrayType, W>(&mut group, &self.runs, None)?;
        write::<ByteArrayType, W>(&mut group, &self.arms, None)?;
        write::<Int64Type, W>(&mut group, &self.learned_through, None)?;
        write::<Int64Type, W>(&mut group, &self.steps, None)?;
        write::<Int64Type, W>(&mut group, &self.examples, None)?;
        write::<ByteArrayType, W>(&mut group, &self.splits, None)?;
        write::<Int64Type, W>(&mut group, &self.tasks, None)?;
        write::<Int64Type, W>(&mut group, &self.classes, None)?;
        write::<ByteArrayType, W>(&mut group, &self.quantities, None)?;
        write::<DoubleType, W>(&mut group, &self.levels, Some(&self.has_level))?;
        write::<DoubleType, W>(&mut group, &self.values, None)?;
        group.close()?;
        *self = Self::default();
        Ok(())
    }
}

fn find<'a>(table: &'a ExampleTable, id: u64, measurement: &Measurement) -> Result<&'a ExampleRow> {
    table.position(id).map(|position| &table.rows()[position]).ok_or(Error::UnknownExample {
        quantity: measurement.quantity.name(),
        example: id,
        held: table.rows().len(),
    })
}

/// Parquet stores an unsigned 64-bit integer in the bits of a signed one.
fn as_stored(number: u64) -> i64 {
    number.cast_signed()
}

fn write<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    is_present: Option<&[i16]>,
) -> ParquetResult<()> {
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
    column.typed::<T>().write_batch(values, is_present, None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::Split;
    use crate::manifest::tests::manifest;
    use crate::quantity::Quantity;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;

    fn table() -> ExampleTable {
        let row = |id, split| ExampleRow { id, class: 1, task: 2, split };
        ExampleTable::new(vec![row(u64::MAX, Split::Train), row(4, Split::HeldOut)]).unwrap()
    }

    fn measurements() -> Vec<Measurement> {
        let measurement = |quantity, level, values: &[f64]| Measurement {
            run: "seed-1".into(),
            arm: "nöne".into(),
            learned_through: 2,
            step: 300,
            quantity,
            level,
            examples: vec![4, u64::MAX],
            values: values.to_vec(),
        };
        vec![
            measurement(Quantity::ReconstructionError, Some(0.3), &[0.1, 0.2]),
            measurement(Quantity::VariationalBound, None, &[3.5, 4.5]),
        ]
    }

    #[test]
    fn each_value_is_one_row_with_its_example_joined() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.parquet");
        write_parquet(&path, &manifest(), &table(), &measurements()).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0].get_string(1).unwrap(), "nöne");
        assert_eq!(rows[0].get_string(5).unwrap(), "held-out");
        assert_eq!(rows[1].get_ulong(4).unwrap(), u64::MAX);
        assert_eq!((rows[0].get_ulong(2).unwrap(), rows[0].get_ulong(3).unwrap()), (2, 300));
        assert_eq!((rows[0].get_ulong(6).unwrap(), rows[0].get_ulong(7).unwrap()), (2, 1));
        assert_eq!(rows[1].get_double(9).unwrap(), 0.3);
        assert!(rows[2].get_double(9).is_err(), "a missing level is null");
        assert_eq!(rows[3].get_double(10).unwrap(), 4.5);
        let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let entry = metadata.iter().find(|entry| entry.key == MANIFEST_KEY).unwrap();
        let back: RunManifest = serde_json::from_str(entry.value.as_ref().unwrap()).unwrap();
        assert_eq!(back, manifest());
    }

    #[test]
    fn the_same_ledger_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = ["a.parquet", "b.parquet"].map(|name| {
            let path = folder.path().join(name);
            write_parquet(&path, &manifest(), &table(), &measurements()).unwrap();
            std::fs::read(path).unwrap()
        });
        assert_eq!(bytes[0], bytes[1]);
    }

    #[test]
    fn an_example_outside_the_table_is_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.parquet");
        let mut measurements = measurements();
        measurements[1].examples[0] = 77;
        let message =
            write_parquet(&path, &manifest(), &table(), &measurements).unwrap_err().to_string();
        assert!(message.contains("variational_bound was measured on example 77"), "{message}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
