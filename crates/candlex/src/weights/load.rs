//! From files to a [`ParamStore`], or a list of everything that does not fit.

use super::{Fault, WeightFile, WeightsError};
use crate::params::{Declaration, Declarations, ParamStore, Values};
use candle_core::{DType, Device};
use rayon::prelude::*;
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
    let files = paths.iter().map(|path| WeightFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    let (found, mut faults) = index(&files, |name| rename(name).into());
    let file_type = prevailing_type(&files, &found);
    let mut fitting = Vec::new();
    for declaration in declarations.as_slice() {
        match found.get(&declaration.name) {
            None => faults.push(missing(declaration, declarations, &found)),
            Some((file, name)) => match fit(&files[*file], name, declaration, file_type)? {
                Ok(tensor) => fitting.push(tensor),
                Err(fault) => faults.push(fault),
            },
        }
    }
    let (values, unsound) = match dtype {
        DType::F64 => {
            let (values, unsound) = read(&fitting, |tensor, place| tensor.wide(place))?;
            (Values::Wide(values), unsound)
        }
        _ => {
            let (values, unsound) = read(&fitting, |tensor, place| tensor.narrow(place))?;
            (Values::Narrow(values), unsound)
        }
    };
    faults.extend(unsound);
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

/// A tensor of a file that has the shape and type which the network asks for.
struct Fitting<'a> {
    file: &'a WeightFile,
    name: &'a str,
    info: &'a TensorInfo,
}

fn fit<'a>(
    file: &'a WeightFile,
    name: &'a str,
    declaration: &Declaration,
    file_type: Dtype,
) -> Result<Result<Fitting<'a>, Fault>, WeightsError> {
    let info = file.info(name)?;
    Ok(if info.shape != declaration.shape {
        Err(other_shape(name, declaration, info))
    } else if info.dtype != file_type {
        Err(other_type(name, file_type, info))
    } else {
        Ok(Fitting { file, name, info })
    })
}

/// The first number of a tensor that is not finite, and its position.
type Unsound = Option<(usize, f64)>;

/// The numbers of all tensors one after another, each read by `of_tensor` to where it is wanted, several at once; and what
/// is not finite among them.
///
/// No more is taken than the files hold: their headers were measured against their lengths.
fn read<T: Copy + Default + Send>(
    tensors: &[Fitting],
    of_tensor: impl Fn(&Fitting, &mut [T]) -> Result<Unsound, WeightsError> + Sync,
) -> Result<(Vec<T>, Vec<Fault>), WeightsError> {
    let length = |tensor: &Fitting| tensor.info.shape.iter().product::<usize>();
    let mut values = vec![T::default(); tensors.iter().map(length).sum()];
    let mut places = Vec::with_capacity(tensors.len());
    let mut rest = values.as_mut_slice();
    for tensor in tensors {
        let (place, behind) = rest.split_at_mut(length(tensor));
        places.push(place);
        rest = behind;
    }
    let outcomes: Vec<Result<Unsound, WeightsError>> = tensors
        .par_iter()
        .zip(places)
        .with_max_len(1)
        .map(|(tensor, place)| of_tensor(tensor, place))
        .collect();
    let mut faults = Vec::new();
    for (tensor, outcome) in tensors.iter().zip(outcomes) {
        if let Some((position, value)) = outcome? {
            let (name, index) = (tensor.name.to_string(), unravel(position, &tensor.info.shape));
            faults.push(Fault::NotFinite { name, index, value });
        }
    }
    Ok((values, faults))
}

impl Fitting<'_> {
    /// Into 32 bits: where the file has them too, as most do, no number is looked at alone.
    fn narrow(&self, place: &mut [f32]) -> Result<Unsound, WeightsError> {
        if self.info.dtype != Dtype::F32 {
            // What is finite in 64 bits may be too large for 32.
            return self.converted(place, |x| x as f32, |x| (x as f32).is_finite());
        }
        let mut unsound = None;
        self.file.read_narrow(self.info, place, |from, numbers| {
            unsound = unsound
                .or_else(|| first_unsound(numbers).map(|at| (from + at, f64::from(numbers[at]))));
        })?;
        Ok(unsound)
    }

    fn wide(&self, place: &mut [f64]) -> Result<Unsound, WeightsError> {
        self.converted(place, |x| x, f64::is_finite)
    }

    fn converted<T>(
        &self,
        place: &mut [T],
        convert: impl Fn(f64) -> T,
        is_sound: impl Fn(f64) -> bool,
    ) -> Result<Unsound, WeightsError> {
        let (mut places, mut unsound) = (place.iter_mut().enumerate(), None);
        self.file.for_each(self.name, |value| {
            if let Some((at, place)) = places.next() {
                *place = convert(value);
                unsound = unsound.or_else(|| (!is_sound(value)).then_some((at, value)));
            }
        })?;
        Ok(unsound)
    }
}

/// Position of the first number that is not finite.
fn first_unsound(numbers: &[f32]) -> Option<usize> {
    // Whole blocks first: a search that may end at any number is not done in vectors.
    let is_finite = |block: &[f32]| block.iter().fold(true, |all, x| all & x.is_finite());
    let block = numbers.chunks(1024).position(|block| !is_finite(block))?;
    let within = numbers[block * 1024..].iter().position(|x| !x.is_finite())?;
    Some(block * 1024 + within)
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
