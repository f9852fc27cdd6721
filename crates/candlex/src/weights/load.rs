//! From files to a [`ParamStore`], or a list of everything that does not fit.

use super::{Fault, WeightFile, WeightsError};
use crate::params::{Declaration, Declarations, ParamStore, Values};
use candle_core::{DType, Device};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Weights that were loaded, and how.
#[derive(Debug)]
pub struct Loaded {
    /// The numbers.
    pub store: ParamStore,
    /// The type in which the files hold them.
    pub file_type: String,
}

/// Reads exactly the declared parameters from `paths`, which together hold each once.
///
/// `rename` gives the network's name for a name in a file: older generations of checkpoints call things differently.
/// Where it gives `None`, the tensor is known and not needed: it may be of any shape and type.
/// All tensors of the files must be of one floating type: f32, f64, f16 or bf16.
///
/// # Errors
/// [`WeightsError::Faults`] lists everything that does not fit; [`WeightsError::Io`] and [`WeightsError::Format`].
pub fn load<Name: Into<Option<String>>>(
    declarations: &Declarations,
    paths: &[PathBuf],
    rename: impl Fn(&str) -> Name,
    dtype: DType,
    device: &Device,
) -> Result<Loaded, WeightsError> {
    let mut files =
        paths.iter().map(|path| WeightFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    let (found, mut faults) = index(&files, |name| rename(name).into());
    let file_type = prevailing_type(&files, &found);
    // A configuration that asks for more than the files hold must not ask the machine for it.
    let n = declarations.n_elements().min(held(&files));
    let mut values = Values::with_capacity(n, dtype);
    for declaration in declarations.as_slice() {
        match found.get(&declaration.name) {
            None => faults.push(missing(declaration, declarations, &found)),
            Some((file, name)) => {
                read(&mut files[*file], name, declaration, file_type, &mut values, &mut faults)?
            }
        }
    }
    faults.extend(unclaimed(declarations, &found));
    let path = paths.first().map_or_else(|| Path::new("").to_path_buf(), PathBuf::clone);
    if !faults.is_empty() {
        return Err(WeightsError::Faults { path, expected: declarations.as_slice().len(), faults });
    }
    let store = ParamStore::from_values(declarations, values, dtype, device).map_err(|error| {
        WeightsError::Tensor { name: "all parameters".into(), reason: error.to_string() }
    })?;
    Ok(Loaded { store, file_type: format!("{file_type:?}") })
}

/// Network name → (file, name in it).
pub(super) type Index = BTreeMap<String, (usize, String)>;

pub(super) fn index(
    files: &[WeightFile],
    rename: impl Fn(&str) -> Option<String>,
) -> (Index, Vec<Fault>) {
    let (mut found, mut faults) = (Index::new(), Vec::new());
    for (at, file) in files.iter().enumerate() {
        for name in file.names() {
            let Some(renamed) = rename(name) else { continue };
            // The same parameter twice, in two files or under two generations of names.
            if found.insert(renamed, (at, name.to_string())).is_some() {
                faults.push(Fault::Unexpected { name: format!("{name} (a second time)") });
            }
        }
    }
    (found, faults)
}

/// Numbers in all files.
fn held(files: &[WeightFile]) -> usize {
    let infos = files.iter().flat_map(|file| file.names().filter_map(|name| file.info(name).ok()));
    infos.map(|info| info.shape.iter().product::<usize>()).sum()
}

/// The floating type that most of the tensors in `found` have.
pub(super) fn prevailing_type(files: &[WeightFile], found: &Index) -> Dtype {
    let infos = found.values().filter_map(|(file, name)| files[*file].info(name).ok());
    let types: Vec<Dtype> = infos.map(|info| info.dtype).collect();
    let count = |dtype: Dtype| types.iter().filter(|&&found| found == dtype).count();
    [Dtype::F64, Dtype::BF16, Dtype::F16, Dtype::F32]
        .into_iter()
        .max_by_key(|&dtype| count(dtype))
        .unwrap_or(Dtype::F32)
}

/// What the files hold and the network does not declare.
pub(super) fn unclaimed(declarations: &Declarations, found: &Index) -> Vec<Fault> {
    let known: BTreeSet<&str> = declarations.as_slice().iter().map(|d| d.name.as_str()).collect();
    let unclaimed = found.iter().filter(|(name, _)| !known.contains(name.as_str()));
    unclaimed.map(|(_, (_, name))| Fault::Unexpected { name: name.clone() }).collect()
}

pub(super) fn missing(
    declaration: &Declaration,
    declarations: &Declarations,
    found: &Index,
) -> Fault {
    // Among more names than any model has, a search would take longer than anybody waits.
    let searched = if found.len() <= MOST_NAMES { found } else { &Index::new() };
    let claimed = |name: &str| declarations.as_slice().iter().any(|d| d.name == name);
    let nearest = searched.iter().filter(|(name, _)| !claimed(name)).max_by(|(a, _), (b, _)| {
        closeness(a, &declaration.name).total_cmp(&closeness(b, &declaration.name))
    });
    Fault::Missing {
        name: declaration.name.clone(),
        nearest: nearest.map(|(_, (_, name))| name.clone()),
    }
}

/// Tensors of a file, at most, among which the nearest name is looked for.
const MOST_NAMES: usize = 8192;

fn closeness(a: &str, b: &str) -> f64 {
    strsim::normalized_levenshtein(a, b)
}

fn read(
    file: &mut WeightFile,
    name: &str,
    declaration: &Declaration,
    file_type: Dtype,
    values: &mut Values,
    faults: &mut Vec<Fault>,
) -> Result<(), WeightsError> {
    let info = file.info(name)?;
    if info.shape != declaration.shape {
        faults.push(other_shape(name, declaration, info));
        return Ok(());
    }
    if info.dtype != file_type {
        faults.push(other_type(name, file_type, info));
        return Ok(());
    }
    let (start, mut bad) = (values.len(), None);
    file.for_each_chunk(name, |bytes, numbers| {
        let from = values.len();
        let found = match values {
            // As most files are, and most networks: no number is looked at alone.
            Values::Narrow(values) if file_type == Dtype::F32 => narrow(bytes, values),
            _ => numbers.fold(None, |bad, value| {
                values.push(value);
                bad.or_else(|| (!value.is_finite()).then(|| (values.len() - 1 - from, value)))
            }),
        };
        bad = bad.or(found.map(|(position, value)| (from - start + position, value)));
        Ok(())
    })?;
    if let Some((position, value)) = bad {
        faults.push(Fault::NotFinite {
            name: name.to_string(),
            index: unravel(position, &declaration.shape),
            value,
        });
    }
    Ok(())
}

/// Adds numbers of 32 bits; the first that is not finite, and its position among them.
fn narrow(bytes: &[u8], values: &mut Vec<f32>) -> Option<(usize, f64)> {
    let (from, (words, _)) = (values.len(), bytes.as_chunks::<4>());
    values.extend(words.iter().map(|&word| f32::from_le_bytes(word)));
    let added = &values[from..];
    // Whole blocks first: a search that may end at any number is not done in vectors.
    let is_finite = |block: &[f32]| block.iter().fold(true, |all, x| all & x.is_finite());
    let block = added.chunks(1024).position(|block| !is_finite(block))?;
    let position = (block * 1024..).zip(&added[block * 1024..]).find(|(_, x)| !x.is_finite());
    position.map(|(position, &value)| (position, f64::from(value)))
}

/// `name` in the file has another shape than the network's.
pub(super) fn other_shape(name: &str, declaration: &Declaration, info: &TensorInfo) -> Fault {
    let (expected, got) = (declaration.shape.clone(), info.shape.clone());
    Fault::Shape { name: name.to_string(), expected, got }
}

/// `name` in the file has another type than its neighbours.
pub(super) fn other_type(name: &str, file_type: Dtype, info: &TensorInfo) -> Fault {
    let (expected, got) =
        (format!("{file_type:?} like most tensors here"), format!("{:?}", info.dtype));
    Fault::Type { name: name.to_string(), expected, got }
}

/// The index of the `position`-th element of a tensor.
pub(super) fn unravel(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let at = position % size;
            position /= size;
            at
        })
        .collect();
    index.reverse();
    index
}
