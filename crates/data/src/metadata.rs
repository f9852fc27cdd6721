//! What a folder's `metadata.jsonl` or `metadata.csv` says of its images, line by line.
//!
//! The hub's convention (huggingface.co/docs/datasets, "imagefolder"): the column `file_name` names an image, relative to
//! the folder of the metadata; `label`, if it is there, its class, as a name or a whole number; `text`, or whatever column
//! is asked for, its caption. Other columns are not looked at. Lines count from 1, as editors count them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::DataError;
use crate::error::{malformed, one_line};
use crate::input::open_file;

/// The names that such a file has.
pub(crate) const NAMES: [&str; 2] = ["metadata.jsonl", "metadata.csv"];
/// The column of the captions, unless another one is asked for.
pub(crate) const CAPTION: &str = "text";

/// Columns that would hold captions, and would be passed over in silence.
const LIKELY: [&str; 3] = ["caption", "captions", "prompt"];

const FILE: &str = "file_name";
const LABEL: &str = "label";
/// Largest file, in bytes: what lies above is a mistake or an attack.
const MAX_BYTES: u64 = 256 << 20;
/// Longest caption, likewise.
pub(crate) const MAX_CAPTION: usize = 16 << 10;

/// A metadata file, read whole.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) lines: Vec<Line>,
    pub(crate) has_labels: bool,
    pub(crate) has_captions: bool,
}

/// What one line says.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: u64,
    /// Relative to the folder of the metadata, and in it.
    pub(crate) file: PathBuf,
    pub(crate) label: Option<Label>,
    pub(crate) caption: Option<String>,
}

/// A class as the metadata says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Label {
    Number(i64),
    Name(String),
}

/// The columns that matter, of one line.
struct Record {
    number: u64,
    file: Value,
    label: Value,
    caption: Value,
}

/// Records, and the names of all columns.
type Table = (Vec<Record>, BTreeSet<String>);

/// Reads a metadata file; `caption` names the column of the captions where it must be there.
pub(crate) fn read(path: &Path, caption: Option<&str>) -> Result<Metadata, DataError> {
    let bytes = bytes(path)?;
    let is_csv = path.extension().is_some_and(|ending| ending == "csv");
    let column = caption.unwrap_or(CAPTION);
    let (records, columns) =
        if is_csv { csv_table(path, &bytes, column)? } else { json_table(path, &bytes, column)? };
    let has = |name: &str| columns.contains(name);
    let is_enough = has(column) || caption.is_none() && has(LABEL);
    if !(has(FILE) && is_enough) {
        let or_label = if caption.is_none() { " or `label`" } else { "" };
        let expected = format!("`{FILE}`, and `{column}`{or_label}");
        let mut found: Vec<String> = columns.iter().map(|name| one_line(name)).collect();
        if found.is_empty() {
            found.push("none".into());
        }
        let remedy =
            "write what is missing, or name the column of the captions (data.caption_column)";
        return Err(malformed(path, "columns", expected, found.join(", "), remedy));
    }
    if let Some(other) =
        LIKELY.into_iter().find(|&name| caption.is_none() && !has(CAPTION) && has(name))
    {
        let expected = format!("captions in the column `{CAPTION}`, or data.caption_column");
        let found = format!("a column `{other}`");
        let remedy = "name that column in data.caption_column; latent.templates decide whether captions are told";
        return Err(malformed(path, "columns", expected, found, remedy));
    }
    let (has_labels, has_captions) = (has(LABEL), has(column));
    let lines = records.into_iter().map(|record| line(path, record));
    let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
    if is_csv {
        number_labels(&mut lines);
    }
    expect_once(path, &lines)?;
    Ok(Metadata { lines, has_labels, has_captions })
}

fn bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    let (_, length) = open_file(path)?;
    if length > MAX_BYTES {
        let (expected, found) = (format!("at most {MAX_BYTES} bytes"), length.to_string());
        return Err(malformed(path, "length", expected, found, "divide the data set"));
    }
    let mut bytes = std::fs::read(path).map_err(|cause| crate::error::unreadable(path, &cause))?;
    // Spreadsheets begin a file with a byte order mark.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

fn json_table(path: &Path, bytes: &[u8], caption: &str) -> Result<Table, DataError> {
    let (mut records, mut columns) = (Vec::new(), BTreeSet::new());
    for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let refused = |cause: String| {
            let (field, remedy) = (format!("line {number}"), "write one JSON object on each line");
            malformed(path, field, "a JSON object", one_line(&cause), remedy)
        };
        let text = std::str::from_utf8(line).map_err(|cause| refused(cause.to_string()))?;
        let Object(mut object) =
            serde_json::from_str(text).map_err(|cause| refused(cause.to_string()))?;
        let mut take = |name: &str| object.get_mut(name).map_or(Value::Null, Value::take);
        let (file, label, caption) = (take(FILE), take(LABEL), take(caption));
        records.push(Record { number, file, label, caption });
        columns.extend(object.into_iter().map(|(name, _)| name));
    }
    Ok((records, columns))
}

fn csv_table(path: &Path, bytes: &[u8], caption: &str) -> Result<Table, DataError> {
    let refused = |cause: csv::Error| {
        let remedy = "write UTF-8 with as many cells in every line as in the first";
        malformed(path, "CSV", "lines of cells", one_line(&cause.to_string()), remedy)
    };
    // With \r\n at their ends the library counts lines one short.
    let mut bytes = bytes.to_vec();
    let ends: Vec<bool> = bytes.windows(2).map(|pair| pair == b"\r\n").collect();
    let mut ends = ends.into_iter();
    bytes.retain(|_| !ends.next().unwrap_or(false));
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let header: Vec<String> = reader.headers().map_err(refused)?.iter().map(String::from).collect();
    let columns: BTreeSet<String> = header.iter().cloned().collect();
    if columns.len() < header.len() {
        let (expected, found) = ("each column once", one_line(&header.join(", ")));
        return Err(malformed(path, "line 1", expected, found, "strike what is there twice"));
    }
    let place = |name: &str| header.iter().position(|column| column == name);
    let (file, label, caption) = (place(FILE), place(LABEL), place(caption));
    let mut records = Vec::new();
    for row in reader.into_records() {
        let row = row.map_err(refused)?;
        // An empty cell is how CSV says that there is nothing.
        let cell = |place: Option<usize>| match place.and_then(|place| row.get(place)) {
            None | Some("") => Value::Null,
            Some(text) => Value::from(text),
        };
        let number = row.position().map_or(0, csv::Position::line);
        let (file, label, caption) = (cell(file), cell(label), cell(caption));
        records.push(Record { number, file, label, caption });
    }
    Ok((records, columns))
}

fn line(path: &Path, record: Record) -> Result<Line, DataError> {
    let number = record.number;
    let refused = |name: &str, expected: &str, found: &Value| {
        let found: String = one_line(&found.to_string()).chars().take(80).collect();
        let remedy = "correct the line, or strike it";
        malformed(path, format!("line {number}: {name}"), expected, found, remedy)
    };
    let file = match &record.file {
        Value::String(text) => inner(Path::new(text)),
        _ => None,
    };
    let file = file.ok_or_else(|| {
        refused(FILE, "a path below the folder of the metadata, without `..`", &record.file)
    })?;
    let label = match &record.label {
        Value::Null => None,
        Value::String(name) if !name.is_empty() => Some(Label::Name(name.clone())),
        other => Some(Label::Number(
            other.as_i64().ok_or_else(|| refused(LABEL, "a name or a whole number", other))?,
        )),
    };
    let caption = match record.caption {
        Value::Null => None,
        Value::String(text) if text.len() <= MAX_CAPTION => Some(text),
        Value::String(text) => {
            let found = Value::from(format!("one of {} bytes", text.len()));
            return Err(refused("caption", &format!("at most {MAX_CAPTION} bytes"), &found));
        }
        other => return Err(refused("caption", "a text", &other)),
    };
    Ok(Line { number, file, label, caption })
}

/// The path without `.`, if it stays below where it starts.
fn inner(path: &Path) -> Option<PathBuf> {
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!inner.as_os_str().is_empty()).then_some(inner)
}

/// CSV knows texts alone: labels are numbers where all of them read as whole numbers.
fn number_labels(lines: &mut [Line]) {
    let number = |line: &Line| match &line.label {
        None => Some(None),
        Some(Label::Name(name)) => whole(name.trim()).map(|n| Some(Label::Number(n))),
        Some(number) => Some(Some(number.clone())),
    };
    if let Some(numbers) = lines.iter().map(number).collect::<Option<Vec<_>>>() {
        lines.iter_mut().zip(numbers).for_each(|(line, number)| line.label = number);
    }
}

/// A whole number, as spreadsheets and data frames may write it: 3 or 3.0.
fn whole(text: &str) -> Option<i64> {
    const EXACT: f64 = (1u64 << 53) as f64;
    let number =
        |text: &str| text.parse::<f64>().ok().filter(|x| x.fract() == 0. && x.abs() < EXACT);
    text.parse().ok().or_else(|| number(text).map(|x| x as i64))
}

/// A JSON object in which every key stands once; of two, nobody knows which is meant.
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
                let mut object = Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if object.contains_key(&key) {
                        return Err(A::Error::custom(format!("`{key}` stands twice")));
                    }
                    object.insert(key, value);
                }
                Ok(Object(object))
            }
        }
        from.deserialize_map(Keys)
    }
}

fn expect_once(path: &Path, lines: &[Line]) -> Result<(), DataError> {
    let mut order: Vec<&Line> = lines.iter().collect();
    order.sort_by(|a, b| (&a.file, a.number).cmp(&(&b.file, b.number)));
    match order.windows(2).find(|pair| pair[0].file == pair[1].file) {
        None => Ok(()),
        Some(pair) => {
            let field = format!("line {}: {FILE}", pair[1].number);
            let found =
                format!("{} as in line {}", crate::error::shown(&pair[1].file), pair[0].number);
            Err(malformed(path, field, "each image once", found, "strike one of the lines"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_under_another_name_are_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.csv");
        std::fs::write(&path, "file_name,label,caption\na.png,cat,a cat\n").unwrap();
        let refused = read(&path, None).unwrap_err().to_string();
        assert!(refused.contains("data.caption_column"), "{refused}");
        let found = read(&path, Some("caption")).unwrap();
        assert_eq!(found.lines[0].caption.as_deref(), Some("a cat"));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.jsonl");
        std::fs::write(&path, r#"{"file_name": "a.png", "text": "a cat", "text": "a dog"}"#)
            .unwrap();
        let refused = read(&path, None).unwrap_err().to_string();
        assert!(refused.contains("`text` stands twice") && refused.contains("line 1"), "{refused}");
    }

    #[test]
    fn numbers_of_a_data_frame_are_numbers() {
        let found = ["3", "3.0", "1e1", "-2.0", "3.5", "cat", "inf", "1e300"].map(whole);
        assert_eq!(found, [Some(3), Some(3), Some(10), Some(-2), None, None, None, None]);
    }
}
