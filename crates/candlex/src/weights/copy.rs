//! From one file to another under other names, checked as a load is, a chunk at a time: never a whole tensor in memory.

use super::load::{index, missing, other_shape, other_type, prevailing_type, unclaimed, unravel};
use super::{Fault, WeightFile, WeightsError};
use crate::params::{Declaration, Declarations};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What of a file becomes another file, found before a byte of it is written.
#[derive(Debug)]
pub struct Copying {
    /// Everything that does not fit; what is copied in spite of it is of no use.
    pub faults: Vec<Fault>,
    dtype: Dtype,
    /// The network's name → (its shape, the name in the file).
    tensors: BTreeMap<String, (Vec<usize>, String)>,
}

impl Copying {
    /// Looks up the declared parameters in `file`, where `rename` gives the network's name for a name in it, or none for
    /// what is not of this network. `is_same` says whether a shape in the file, where it is not the declared one, is the
    /// same in an older layout.
    ///
    /// # Errors
    /// [`WeightsError::NoTensor`] never in practice: the names are the file's own.
    pub fn plan(
        declarations: &Declarations,
        file: &WeightFile,
        rename: impl Fn(&str) -> Option<String>,
        is_same: impl Fn(&Declaration, &[usize]) -> bool,
    ) -> Result<Self, WeightsError> {
        let files = std::slice::from_ref(file);
        let (found, mut faults) = index(files, rename);
        let (dtype, mut tensors) = (prevailing_type(files, &found), BTreeMap::new());
        for declaration in declarations.as_slice() {
            let Some((_, name)) = found.get(&declaration.name) else {
                faults.push(missing(declaration, declarations, &found));
                continue;
            };
            let info = file.info(name)?;
            if info.shape != declaration.shape && !is_same(declaration, &info.shape) {
                faults.push(other_shape(name, declaration, info));
            } else if info.dtype != dtype {
                faults.push(other_type(name, dtype, info));
            } else {
                let shape = declaration.shape.clone();
                tensors.insert(declaration.name.clone(), (shape, name.clone()));
            }
        }
        faults.extend(unclaimed(declarations, &found));
        Ok(Self { faults, dtype, tensors })
    }

    /// Writes the tensors to a new file at `path`, of the type and with the bytes that `file` holds; the file is synced.
    /// Numbers that are not finite come back, the first one of each tensor.
    ///
    /// # Errors
    /// [`WeightsError::Io`] when either file refuses; what is at `path` is of no use then.
    pub fn write(&self, file: &mut WeightFile, path: &Path) -> Result<Vec<Fault>, WeightsError> {
        let io =
            |action| move |source| WeightsError::Io { path: path.to_path_buf(), action, source };
        let mut out = BufWriter::new(File::create(path).map_err(io("create"))?);
        out.write_all(&self.header()?).map_err(io("write"))?;
        let mut faults = Vec::new();
        for (shape, name) in self.tensors.values() {
            let (mut position, mut bad) = (0, None);
            file.for_each_chunk(name, |bytes, numbers| {
                for value in numbers {
                    if !value.is_finite() && bad.is_none() {
                        bad = Some((position, value));
                    }
                    position += 1;
                }
                out.write_all(bytes).map_err(io("write"))
            })?;
            faults.extend(bad.map(|(position, value)| Fault::NotFinite {
                name: name.clone(),
                index: unravel(position, shape),
                value,
            }));
        }
        let out = out.into_inner().map_err(|error| io("write")(error.into_error()))?;
        out.sync_all().map_err(io("sync"))?;
        Ok(faults)
    }

    /// Length and text of the header; readers of torch's tensors want the note of their format.
    fn header(&self) -> Result<Vec<u8>, WeightsError> {
        let fault = |reason: String| WeightsError::Tensor { name: "header".into(), reason };
        let mut end = 0;
        let entry = |(name, (shape, _)): (&String, &(Vec<usize>, String))| {
            let start = end;
            end += shape.iter().product::<usize>() * self.dtype.bitsize() / 8;
            let info =
                TensorInfo { dtype: self.dtype, shape: shape.clone(), data_offsets: (start, end) };
            (name.clone(), info)
        };
        let tensors = self.tensors.iter().map(entry).collect();
        let note = HashMap::from([("format".to_string(), "pt".to_string())]);
        let header =
            Metadata::new(Some(note), tensors).map_err(|error| fault(error.to_string()))?;
        let mut text = serde_json::to_vec(&header).map_err(|error| fault(error.to_string()))?;
        // Numbers begin at a multiple of eight bytes.
        text.resize(text.len().next_multiple_of(8), b' ');
        Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
    }
}
