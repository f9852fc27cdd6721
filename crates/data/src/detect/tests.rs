//! Which reader a path gets.

use tempfile::TempDir;

use super::*;
use crate::fixtures::{gzip, idx, write};

/// A folder with these files; a name decides on the content that a file begins with.
fn folder(names: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in names {
        let plain = match name {
            name if name.contains("images") => idx(&[1, 1, 1], &[0]),
            name if name.contains("labels") => idx(&[1], &[0]),
            name if name.contains("parquet") => b"PAR1".to_vec(),
            _ => b"text".to_vec(),
        };
        let bytes = if name.ends_with(".gz") { gzip(&plain) } else { plain };
        write(folder.path().join(name), bytes);
    }
    folder
}

fn refusal(path: &Path) -> String {
    detect(path).unwrap_err().to_string()
}

/// The idx pair with these names, as found through the folder and through each of its files.
fn assert_pair(images: &str, labels: &str) {
    let folder = folder(&[images, labels]);
    let [images, labels] = [images, labels].map(|name| folder.path().join(name));
    let expected = Source::Idx { images: images.clone(), labels: labels.clone() };
    for path in [folder.path(), &images, &labels] {
        assert_eq!(detect(path).unwrap(), expected);
    }
}

#[test]
fn idx_pairs_are_known_by_their_usual_names() {
    assert_pair("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    assert_pair("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz");
    assert_pair("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte");
    assert_pair("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte");
    assert_pair("images.idx3.gz", "labels.idx1.gz");
}

#[test]
fn the_training_pair_is_meant_where_both_lie_together() {
    let names = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"];
    let folder = folder(&[&names[..], &["train-labels-idx1-ubyte.gz"]].concat());
    let is_training = |source: &Source| source.to_string().contains("train-images-idx3-ubyte.gz");
    assert!(detect(folder.path()).is_ok_and(|source| is_training(&source)));
    let test = detect(&folder.path().join(names[0])).unwrap();
    assert!(test.to_string().contains("t10k-images"));
}

#[test]
fn a_packed_file_beside_its_unpacked_one_is_no_second_pair() {
    let names =
        ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"];
    let folder = folder(&names);
    let Source::Idx { images, .. } = detect(folder.path()).unwrap() else { panic!("idx") };
    assert_eq!(images, folder.path().join(names[0]));
}

#[test]
fn half_a_pair_and_several_pairs_are_refused() {
    let half = folder(&["train-images-idx3-ubyte"]);
    let message = refusal(half.path());
    assert!(
        message.contains("without its labels beside it (train-labels-idx1-ubyte)"),
        "{message}"
    );
    let several = folder(&["emnist-a-train-images-idx3-ubyte", "emnist-b-train-images-idx3-ubyte"]);
    assert!(refusal(several.path()).contains("several idx pairs (emnist-a"));
}

#[test]
fn cifar_is_known_by_its_batches() {
    let both = folder(&["data_batch_1.bin", "test_batch.bin"]);
    let source = |folder: &Path, part| Source::CifarBinary { folder: folder.to_path_buf(), part };
    assert_eq!(detect(both.path()).unwrap(), source(both.path(), Part::Training));
    let file = both.path().join("test_batch.bin");
    assert_eq!(detect(&file).unwrap(), source(both.path(), Part::Test));
    let test = folder(&["test_batch.bin"]);
    assert_eq!(detect(test.path()).unwrap(), source(test.path(), Part::Test));
    let outer = folder(&["cifar-10-batches-bin/data_batch_1.bin", "readme.html"]);
    let inner = outer.path().join("cifar-10-batches-bin");
    assert_eq!(detect(outer.path()).unwrap(), source(&inner, Part::Training));
}

#[test]
fn cifar_beside_another_folder_is_ambiguous() {
    let names = ["cifar-10-batches-bin/data_batch_1.bin", "idx/train-images-idx3-ubyte"];
    let message = refusal(folder(&names).path());
    assert!(message.contains("cifar-10-batches-bin beside other folders (idx); give"), "{message}");
}

/// What is told to lie beside what is detected among these.
fn beside(names: &[&str]) -> Vec<String> {
    left_out(&detect(folder(names).path()).unwrap())
}

#[test]
fn what_is_passed_over_is_named() {
    let [train, test] = ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"];
    assert_eq!(beside(&[train, test, "README.md", "raw/x.png"]), ["raw", test]);
    assert_eq!(beside(&[train]), [""; 0]);
    let idx = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"];
    assert_eq!(beside(&idx), [""; 0]);
    let t10k = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    assert_eq!(beside(&[&idx[..], &t10k].concat()), t10k[..1]);
    assert_eq!(beside(&["data_batch_1.bin", "test_batch.bin", "readme.html"]), ["test_batch.bin"]);
    assert_eq!(beside(&["test_batch.bin"]), [""; 0]);
    assert_eq!(beside(&["cat/1.png", "dog/1.png"]), [""; 0]);
}

/// The Parquet files chosen among these.
fn chosen(names: &[&str]) -> Result<Vec<String>, String> {
    let folder = folder(names);
    match detect(folder.path()) {
        Ok(Source::Parquet { files }) => Ok(files.iter().map(|file| name_of(file)).collect()),
        Ok(other) => panic!("{other}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn parquet_files_of_one_split_are_taken_in_order() {
    let train = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
    let test = "test-00000-of-00001.parquet";
    assert_eq!(chosen(&[train[1], test, train[0]]).unwrap(), train);
    assert_eq!(chosen(&[test]).unwrap(), [test]);
    assert_eq!(chosen(&["b.parquet", "a.parquet"]).unwrap(), ["a.parquet", "b.parquet"]);
    assert!(chosen(&[test, "validation.parquet"]).unwrap_err().contains("several splits"));
    assert!(chosen(&[train[1]]).unwrap_err().contains("1 of 2 shards of train-00001"));
    let twice = [train[0], "train-00000-of-00002 (1).parquet", "train-0-of-2.parquet"];
    assert!(chosen(&twice[..2]).unwrap_err().contains("beside shards of 2"));
    assert!(chosen(&[twice[0], twice[2]]).unwrap_err().contains("beside shards of 2"));
    let hashed = ["train-00000-of-00002-a1b2.parquet", "train-00001-of-00002-c3d4.parquet"];
    assert_eq!(chosen(&hashed).unwrap(), hashed);
    assert!(chosen(&hashed[..1]).unwrap_err().contains("1 of 2 shards"));
    let from_one = ["train-1-of-2.parquet", "train-2-of-2.parquet"];
    assert_eq!(chosen(&from_one).unwrap(), from_one);
    assert!(chosen(&["train-1-of-2.parquet", "train-7-of-2.parquet"]).is_err());
    let file = folder(&["any.parquet"]);
    let path = file.path().join("any.parquet");
    assert_eq!(detect(&path).unwrap(), Source::Parquet { files: vec![path] });
}

#[test]
fn folders_in_a_folder_are_classes() {
    let folder = folder(&["cat/1.png", "dog/2.png", ".hidden"]);
    assert_eq!(detect(folder.path()).unwrap(), Source::Folder { folder: folder.path().into() });
}

#[test]
fn what_is_no_dataset_is_described_with_what_is_accepted() {
    let message = refusal(&folder(&["a.txt", "b.jpg"]).path().join("a.txt"));
    assert!(message.contains("a.txt: a file of no known kind; expected an idx pair"), "{message}");
    let message = refusal(folder(&["a.txt", "b.jpg"]).path());
    assert!(
        message.contains("a folder with no folder in it and the files a.txt, b.jpg;"),
        "{message}"
    );
    assert!(refusal(folder(&[".only-hidden"]).path()).contains("an empty folder"));
    assert!(refusal(&folder(&["x.tar.gz"]).path().join("x.tar.gz")).contains("unpack an archive"));
    assert!(refusal(Path::new("nowhere")).contains("nowhere: cannot be read"));
    let two = folder(&["data_batch_1.bin", "train.parquet"]);
    assert!(refusal(two.path()).contains("more than one dataset: CIFAR-10 binary"));
}
