//! What kind of dataset lies at a path.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cifar::{TEST_BATCH, training_batch};
use crate::error::{one_line, unreadable};
use crate::folder::{entries, folder_of};
use crate::input::{Input, open_file};
use crate::{DataError, Part, Source, metadata};

/// Splits that may lie in one folder of Parquet files, as the hub names them; the first is the one to train on.
const SPLITS: [&str; 6] = ["train", "test", "validation", "valid", "val", "dev"];

/// Says what lies at a path.
///
/// A folder may hold an idx pair, the batches of CIFAR-10's binary version (or `cifar-10-batches-bin` with them),
/// Parquet files, images with their `metadata.jsonl` or `metadata.csv`, or one folder per class; a file may be one of an
/// idx pair, a Parquet file or such metadata. Where training and test files lie together, the training files are meant,
/// and [`crate::check`] names the others; to name a test file, give its own path.
///
/// # Errors
/// [`DataError::Unreadable`] if the path cannot be listed or opened. [`DataError::Unrecognized`] if nothing or more than
/// one thing is recognized there, or if shards of a Parquet split are missing.
pub fn detect(path: &Path) -> Result<Source, DataError> {
    let is_folder = path.metadata().map_err(|cause| unreadable(path, &cause))?.is_dir();
    if is_folder { detect_folder(path) } else { detect_file(path) }
}

fn detect_file(path: &Path) -> Result<Source, DataError> {
    let mut start = [0; 4];
    let (mut file, _) = open_file(path)?;
    let is_parquet = file.read_exact(&mut start).is_ok() && &start == b"PAR1";
    if is_parquet {
        return Ok(Source::Parquet { files: vec![path.to_path_buf()] });
    }
    if path.file_name() == Some(OsStr::new(TEST_BATCH)) {
        let folder = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        return Ok(Source::CifarBinary { folder, part: Part::Test });
    }
    if metadata::NAMES.iter().any(|name| path.file_name() == Some(OsStr::new(name))) {
        return Ok(Source::Listed { metadata: path.to_path_buf() });
    }
    let partner = |from, to| idx_partner(path, from, to);
    match idx_kind(path)? {
        Some(3) => partner("images", "labels")
            .map(|labels| Source::Idx { images: path.to_path_buf(), labels }),
        Some(1) => partner("labels", "images")
            .map(|images| Source::Idx { images, labels: path.to_path_buf() }),
        _ if start.starts_with(&[0x1f, 0x8b]) => {
            Err(unrecognized(path, "a gzip file without idx in it; unpack an archive first"))
        }
        _ => Err(unrecognized(path, "a file of no known kind")),
    }
}

/// The number of dimensions, if the file begins like idx.
fn idx_kind(path: &Path) -> Result<Option<u8>, DataError> {
    let mut start = Vec::new();
    let stream = Input::File(path.to_path_buf()).open()?;
    // Damaged gzip is no idx file; what it is instead does not matter here.
    let read = stream.bytes.take(4).read_to_end(&mut start);
    Ok(match (read, start.as_slice()) {
        (Ok(4), [0, 0, 8, dimensions]) => Some(*dimensions),
        _ => None,
    })
}

/// The other file of an idx pair: the same name with one word replaced, and idx1 for idx3, packed or not.
fn idx_partner(path: &Path, from: &str, to: &str) -> Result<PathBuf, DataError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (here, there) = if from == "images" { ("idx3", "idx1") } else { ("idx1", "idx3") };
    let plain =
        name.strip_suffix(".gz").unwrap_or(&name).replacen(from, to, 1).replacen(here, there, 1);
    let candidates = [path.with_file_name(&plain), path.with_file_name(format!("{plain}.gz"))];
    let found = candidates
        .into_iter()
        .find(|candidate| plain != name && candidate != path && candidate.is_file());
    found.ok_or_else(|| {
        unrecognized(path, &format!("an idx file of {from} without its {to} beside it ({plain})"))
    })
}

fn detect_folder(folder: &Path) -> Result<Source, DataError> {
    let paths: Vec<PathBuf> = entries(folder)?.iter().map(|entry| entry.path()).collect();
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.into_iter().partition(|path| path.is_dir());
    let nested = folder.join("cifar-10-batches-bin");
    let mut found: Vec<Source> = Vec::new();
    found.extend(cifar(folder, &files));
    found.extend(idx(folder, &files)?);
    found.extend(parquet(folder, &files)?);
    let metadata = metadata::NAMES.iter().map(|name| folder.join(name));
    let listed = metadata.filter(|path| files.contains(path));
    found.extend(listed.map(|metadata| Source::Listed { metadata }));
    match (found.len(), folders.is_empty()) {
        (1, _) => Ok(found.remove(0)),
        (0, false) if folders == [nested.as_path()] => detect_folder(&nested),
        (0, false) if folders.contains(&nested) => {
            let others = folders.iter().filter(|other| **other != nested);
            let others: Vec<String> = others.map(|other| name_of(other)).collect();
            let (cifar, others) = (name_of(&nested), others.join(", "));
            Err(unrecognized(
                folder,
                &format!("{cifar} beside other folders ({others}); give the path of one of them"),
            ))
        }
        (0, false) => Ok(Source::Folder { folder: folder.to_path_buf() }),
        (0, true) => Err(unrecognized(folder, &contents(&files))),
        _ => {
            let kinds: Vec<String> = found.iter().map(Source::to_string).collect();
            Err(unrecognized(folder, &format!("more than one dataset: {}", kinds.join("; "))))
        }
    }
}

fn cifar(folder: &Path, files: &[PathBuf]) -> Option<Source> {
    let has = |name: &str| files.contains(&folder.join(name));
    let part = match ((1..=5).any(|number| has(&training_batch(number))), has(TEST_BATCH)) {
        (true, _) => Part::Training,
        (false, true) => Part::Test,
        (false, false) => return None,
    };
    Some(Source::CifarBinary { folder: folder.to_path_buf(), part })
}

/// What lies beside the files of `source` and is no part of it: files of other splits, and folders, by their names.
pub(crate) fn left_out(source: &Source) -> Vec<String> {
    let (folder, is_read): (_, &dyn Fn(&Path) -> bool) = match source {
        Source::Parquet { files } if !files.is_empty() => (folder_of(&files[0]), &|path| {
            files.iter().any(|file| file == path) || !name_of(path).ends_with(".parquet")
        }),
        Source::Idx { images, .. } => {
            (folder_of(images), &|path| !is_images(path) || unpacked(path) == unpacked(images))
        }
        Source::CifarBinary { folder, part: Part::Training } => {
            (folder, &|path| name_of(path) != TEST_BATCH)
        }
        _ => return Vec::new(),
    };
    // A folder that cannot be listed names nothing.
    let paths = entries(folder).unwrap_or_default().into_iter().map(|entry| entry.path());
    paths.filter(|path| path.is_dir() || !is_read(path)).map(|path| name_of(&path)).collect()
}

fn is_images(path: &Path) -> bool {
    let name = name_of(path);
    name.contains("images") && (name.contains("idx3") || name.contains("ubyte"))
}

/// The name that a file has unpacked.
fn unpacked(path: &Path) -> String {
    let name = name_of(path);
    name.strip_suffix(".gz").unwrap_or(&name).to_string()
}

/// The pair with "train" in its name, or the only pair.
fn idx(folder: &Path, files: &[PathBuf]) -> Result<Option<Source>, DataError> {
    let mut images: Vec<&PathBuf> = files.iter().filter(|path| is_images(path)).collect();
    // A packed file beside its unpacked one is the same data.
    images.retain(|path| {
        !name_of(path).ends_with(".gz") || !files.contains(&path.with_extension(""))
    });
    if images.iter().any(|path| name_of(path).contains("train")) {
        images.retain(|path| name_of(path).contains("train"));
    }
    match images.as_slice() {
        [] => Ok(None),
        [only] => detect_file(only).map(Some),
        several => {
            let names: Vec<String> = several.iter().map(|path| name_of(path)).collect();
            Err(unrecognized(
                folder,
                &format!("several idx pairs ({}); give the path of one file", names.join(", ")),
            ))
        }
    }
}

/// The files of the split "train", or of the only split.
fn parquet(folder: &Path, files: &[PathBuf]) -> Result<Option<Source>, DataError> {
    let mut files: Vec<PathBuf> =
        files.iter().filter(|path| name_of(path).ends_with(".parquet")).cloned().collect();
    if files.iter().any(|path| split_of(path) == Some(SPLITS[0])) {
        files.retain(|path| split_of(path) == Some(SPLITS[0]));
    }
    let Some(first) = files.first() else { return Ok(None) };
    if let Some(other) = files.iter().find(|path| split_of(path) != split_of(first)) {
        let (first, other) = (name_of(first), name_of(other));
        return Err(unrecognized(
            folder,
            &format!("several splits ({first}, {other}); give the path of one file"),
        ));
    }
    expect_shards(folder, &files)?;
    Ok(Some(Source::Parquet { files }))
}

/// Where one name declares shards, all of them are there, each once, and nothing beside them.
fn expect_shards(folder: &Path, files: &[PathBuf]) -> Result<(), DataError> {
    let Some((_, n)) = files.iter().find_map(|path| shard(path)) else { return Ok(()) };
    let mut found: Vec<usize> = Vec::new();
    for path in files {
        match shard(path) {
            Some((number, of)) if of == n && !found.contains(&number) => found.push(number),
            _ => {
                let what = format!("{} beside shards of {n}; move it away", name_of(path));
                return Err(unrecognized(folder, &what));
            }
        }
    }
    let [least, most] = [found.iter().min(), found.iter().max()].map(|end| *end.unwrap_or(&0));
    // Most count from 0, some from 1.
    if found.len() == n && least <= 1 && most - least == n - 1 {
        return Ok(());
    }
    let (some, first) = (found.len(), name_of(&files[0]));
    let what =
        format!("{some} of {n} shards of {first}, numbers {least} to {most}; fetch the others");
    Err(unrecognized(folder, &what))
}

/// The split that a name begins with: "train" of `train-00000-of-00002.parquet`.
fn split_of(path: &Path) -> Option<&'static str> {
    let name = name_of(path);
    let word = name.split(|c: char| !c.is_ascii_alphabetic()).next()?;
    SPLITS.into_iter().find(|split| *split == word)
}

/// The number of a shard, from 0, and how many there are: 0 and 2 of `train-00000-of-00002.parquet`.
fn shard(path: &Path) -> Option<(usize, usize)> {
    let name = name_of(path);
    let (start, end) = name.strip_suffix(".parquet")?.rsplit_once("-of-")?;
    // Older names end in a hash.
    let n = end.split_once('-').map_or(end, |(n, _)| n);
    Some((start.rsplit_once('-')?.1.parse().ok()?, n.parse().ok()?))
}

/// What a folder without a dataset holds, in a few words.
fn contents(files: &[PathBuf]) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = files.iter().take(SHOWN).map(|path| name_of(path)).collect();
    match files.len() {
        0 => "an empty folder".to_string(),
        n if n <= SHOWN => {
            format!("a folder with no folder in it and the files {}", names.join(", "))
        }
        n => format!("a folder with no folder in it and {n} files ({}, ...)", names.join(", ")),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| one_line(&name.to_string_lossy())).unwrap_or_default()
}

fn unrecognized(path: &Path, found: &str) -> DataError {
    DataError::Unrecognized { path: path.to_path_buf(), found: found.to_string() }
}

#[cfg(test)]
mod tests;
