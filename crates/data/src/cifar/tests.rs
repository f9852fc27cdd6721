//! CIFAR-10's binary version: the original images, and files that are broken.

use tempfile::TempDir;

use super::*;
use crate::fixtures::{CIFAR_LABELS, cifar_originals, golden, write};
use crate::{ImageSet, ReadOptions, Source, read};

/// A record by the published layout: the label, then the red, the green and the blue plane, row by row.
fn record(label: u8, picture: &Picture) -> Vec<u8> {
    let plane = |channel: usize| picture.pixels.iter().copied().skip(channel).step_by(3);
    [label].into_iter().chain(plane(0)).chain(plane(1)).chain(plane(2)).collect()
}

/// The 20 originals as a test batch in a folder.
fn originals() -> TempDir {
    let folder = TempDir::new().unwrap();
    let records = CIFAR_LABELS.iter().zip(cifar_originals());
    let bytes: Vec<u8> = records.flat_map(|(&label, image)| record(label as u8, &image)).collect();
    write(folder.path().join(TEST_BATCH), bytes);
    folder
}

/// Five training batches of one record each, labelled 0 to 4, and a test batch with label 9.
fn batches() -> TempDir {
    let folder = TempDir::new().unwrap();
    let flat = |label: u8| Picture { shape: SHAPE, pixels: vec![label; 3 * PLANE] };
    for number in 1..=5 {
        let label = number as u8 - 1;
        write(folder.path().join(training_batch(number)), record(label, &flat(label)));
    }
    write(folder.path().join(TEST_BATCH), record(9, &flat(9)));
    folder
}

fn outcome(folder: &Path, part: Part) -> Result<ImageSet, String> {
    let source = Source::CifarBinary { folder: folder.to_path_buf(), part };
    let loaded = read(&source, &ReadOptions::default()).map_err(|error| error.to_string())?;
    Ok(loaded.images)
}

#[test]
fn the_twenty_originals_come_out_upright_and_in_their_colours() {
    let images = outcome(originals().path(), Part::Test).unwrap();
    assert_eq!((images.len(), images.labels()), (20, &CIFAR_LABELS[..]));
    for (index, original) in cifar_originals().iter().enumerate() {
        assert_eq!(images.image(index), original.pixels, "image {index}");
    }
    // Written down from the originals by another program: top left, top right, bottom left of the cat.
    let pixel = |row: usize, column: usize| &images.image(0)[3 * (32 * row + column)..][..3];
    assert_eq!(pixel(0, 0), [158, 112, 49]);
    assert_eq!(pixel(0, 31), [116, 85, 33]);
    assert_eq!(pixel(31, 0), [54, 107, 160]);
}

#[test]
fn binary_and_parquet_give_the_same_digest() {
    let binary = outcome(originals().path(), Part::Test).unwrap();
    let source = Source::Parquet { files: vec![golden("cifar10/hub.parquet")] };
    let parquet = read(&source, &ReadOptions::default()).unwrap().images;
    assert_eq!(binary.digest(), parquet.digest());
}

#[test]
fn a_part_takes_its_batches_in_order() {
    let folder = batches();
    let labels = |part| outcome(folder.path(), part).unwrap().labels().to_vec();
    assert_eq!(labels(Part::Training), [0, 1, 2, 3, 4]);
    assert_eq!(labels(Part::Test), [9]);
    assert_eq!(labels(Part::Both), [0, 1, 2, 3, 4, 9]);
    assert_eq!(outcome(folder.path(), Part::Both).unwrap().ids(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_wrong_length_names_file_expected_and_found() {
    let folder = batches();
    for length in [0, 1, RECORD - 1, RECORD + 1] {
        write(folder.path().join("data_batch_3.bin"), vec![0; length]);
        let message = outcome(folder.path(), Part::Training).unwrap_err();
        let words = "data_batch_3.bin: length in bytes: expected a multiple of 3073";
        assert!(message.contains(words), "{message}");
        assert!(message.contains(&format!("found {length};")), "{message}");
    }
    assert_eq!(outcome(folder.path(), Part::Test).unwrap().len(), 1);
}

#[test]
fn a_missing_batch_is_named() {
    let folder = batches();
    std::fs::remove_file(folder.path().join("data_batch_4.bin")).unwrap();
    assert!(
        outcome(folder.path(), Part::Both).unwrap_err().contains("data_batch_4.bin: cannot be")
    );
}

#[test]
fn a_label_above_nine_names_file_and_record() {
    let folder = batches();
    let bytes = [vec![0; RECORD], vec![10; RECORD]].concat();
    write(folder.path().join(TEST_BATCH), bytes);
    let message = outcome(folder.path(), Part::Test).unwrap_err();
    assert!(message.contains("test_batch.bin row 1: label: expected 0 to 9"), "{message}");
    assert!(message.contains("found 10"), "{message}");
}

#[test]
fn class_names_come_from_the_metadata_or_are_the_known_ones() {
    let folder = batches();
    let classes = || outcome(folder.path(), Part::Test).map(|images| images.classes().to_vec());
    assert_eq!(classes().unwrap(), CLASSES);
    let meta = folder.path().join("batches.meta.txt");
    write(&meta, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n");
    assert_eq!(classes().unwrap()[9], "j");
    write(&meta, "a\nb\n");
    assert!(
        classes()
            .unwrap_err()
            .contains("batches.meta.txt: class names: expected 10 lines, found 2")
    );
}
