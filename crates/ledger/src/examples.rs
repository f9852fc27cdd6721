//! Which examples were probed, and to which class, task and split each belongs: `examples.json`.

use crate::durable;
use crate::error::{Error, Result};
use crate::journal::{Journal, Record};
use crate::line;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Whether a training sees the example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Trained on in its task.
    Train,
    /// Never trained on.
    HeldOut,
}

impl Split {
    /// The name in files: `train` or `held-out`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::HeldOut => "held-out",
        }
    }
}

/// One probed example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleRow {
    /// The example's id.
    pub id: u64,
    /// Its class id.
    pub class: u32,
    /// Number of its task, from 1.
    pub task: u32,
    /// Its split.
    pub split: Split,
}

impl Record for ExampleRow {
    fn validate(&self) -> Result<()> {
        if self.task == 0 {
            let what = format!("example {}", self.id);
            let expected = "a task number from 1".to_owned();
            return Err(Error::InvalidField { what, field: "task", expected, got: "0".into() });
        }
        Ok(())
    }
}

/// The probed examples in the order of the image sheets, each id once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExampleTable {
    rows: Vec<ExampleRow>,
    positions: BTreeMap<u64, usize>,
}

impl ExampleTable {
    /// A table of these rows in this order.
    ///
    /// # Errors
    /// [`Error::InvalidField`] for an id that occurs twice or a task 0.
    pub fn new(rows: Vec<ExampleRow>) -> Result<Self> {
        let mut positions = BTreeMap::new();
        for (position, row) in rows.iter().enumerate() {
            row.validate()?;
            if let Some(first) = positions.insert(row.id, position) {
                return Err(Error::InvalidField {
                    what: "table of examples".into(),
                    field: "id",
                    expected: "each id once".into(),
                    got: format!("{} in rows {} and {}", row.id, first + 1, position + 1),
                });
            }
        }
        Ok(Self { rows, positions })
    }

    /// The rows, in the order of the image sheets.
    pub fn rows(&self) -> &[ExampleRow] {
        &self.rows
    }

    /// Position of an id in that order.
    pub fn position(&self, id: u64) -> Option<usize> {
        self.positions.get(&id).copied()
    }

    /// Reads `examples.json`: one checksummed JSON line for each example.
    ///
    /// # Errors
    /// As [`Journal::read`] and [`Self::new`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(Journal::<ExampleRow>::read(path)?)
    }

    /// Writes `examples.json`, replacing it at once.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let lines: Result<String, _> = self.rows.iter().map(line::encode).collect();
        let text = lines.map_err(|source| Error::io(path, "encode")(source.into()))?;
        durable::write_file(path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u64) -> ExampleRow {
        ExampleRow { id, class: 3, task: 1, split: Split::HeldOut }
    }

    #[test]
    fn a_table_comes_back_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("examples.json");
        let table = ExampleTable::new(vec![row(9), row(2), row(5)]).unwrap();
        table.save(&path).unwrap();
        assert_eq!(ExampleTable::load(&path).unwrap(), table);
        assert_eq!((table.position(2), table.position(3)), (Some(1), None));
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"split\":\"held-out\""));
    }

    #[test]
    fn an_id_may_occur_once() {
        let message = ExampleTable::new(vec![row(9), row(2), row(9)]).unwrap_err().to_string();
        assert!(message.contains("9 in rows 1 and 3"), "{message}");
    }
}
