//! idx files, good and broken.

use std::cell::Cell;
use std::rc::Rc;

use tempfile::TempDir;

use super::*;
use crate::fixtures::{gzip, idx, write};
use crate::{ReadOptions, Source, read};

const BODY: [u8; 18] = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26];

/// Three images of 2 rows and 3 columns.
fn images() -> Vec<u8> {
    idx(&[3, 2, 3], &BODY)
}

fn labels() -> Vec<u8> {
    idx(&[3], &[7, 0, 9])
}

/// What reading these two files gives.
fn outcome(images: &[u8], labels: &[u8]) -> Result<crate::Loaded, String> {
    let folder = TempDir::new().unwrap();
    let source =
        Source::Idx { images: folder.path().join("images"), labels: folder.path().join("labels") };
    write(folder.path().join("images"), images);
    write(folder.path().join("labels"), labels);
    read(&source, &ReadOptions::default()).map_err(|error| error.to_string())
}

fn refusal(images: &[u8], labels: &[u8]) -> String {
    outcome(images, labels).expect_err("a damaged pair")
}

#[test]
fn plain_and_packed_files_hold_the_same() {
    let plain = outcome(&images(), &labels()).unwrap().images;
    assert_eq!(plain.shape(), Shape { width: 3, height: 2, channels: 1 });
    assert_eq!((plain.ids(), plain.labels()), (&[0, 1, 2][..], &[7, 0, 9][..]));
    assert_eq!(plain.image(1), &BODY[6..12]);
    assert_eq!(outcome(&gzip(&images()), &labels()).unwrap().images, plain);
    assert_eq!(outcome(&images(), &gzip(&labels())).unwrap().images, plain);
    let members = [gzip(&images()[..20]), gzip(&images()[20..])].concat();
    assert_eq!(outcome(&members, &labels()).unwrap().images, plain);
}

#[test]
fn every_truncation_is_refused_with_expected_and_found_length() {
    for length in 0..images().len() {
        let message = refusal(&images()[..length], &labels());
        let expected = if length < 16 { 16 } else { 34 };
        let words = format!("images: length in bytes: expected {expected}, found {length};");
        assert!(message.contains(&words), "{length}: {message}");
    }
    for length in 0..labels().len() {
        let message = refusal(&images(), &labels()[..length]);
        assert!(message.contains("labels: length in bytes: expected"), "{length}: {message}");
        assert!(message.contains(&format!("found {length};")), "{length}: {message}");
    }
}

#[test]
fn every_truncation_of_a_packed_file_is_refused() {
    let (images, labels) = (gzip(&images()), gzip(&labels()));
    for length in 0..images.len() {
        assert!(refusal(&images[..length], &labels).contains("images: "), "{length}");
    }
    for length in 0..labels.len() {
        assert!(refusal(&images, &labels[..length]).contains("labels: "), "{length}");
    }
    let message = refusal(&images[..images.len() - 4], &labels);
    assert!(
        message.contains("gzip stream: expected 34 bytes unpacked, found the end"),
        "{message}"
    );
}

#[test]
fn trailing_bytes_are_refused() {
    let longer = [images(), vec![0]].concat();
    assert!(refusal(&longer, &labels()).contains("expected 34, found 35"));
    assert!(refusal(&gzip(&longer), &labels()).contains("expected 34, found more than 34"));
    assert!(refusal(&images(), &[labels(), vec![0]].concat()).contains("expected 11, found 12"));
    let garbage = [gzip(&images()), b"garbage".to_vec()].concat();
    assert!(refusal(&garbage, &labels()).contains("gzip stream"));
}

#[test]
fn damaged_gzip_is_refused() {
    let mut packed = gzip(&images());
    let checksum = packed.len() - 6;
    packed[checksum] ^= 1;
    assert!(refusal(&packed, &labels()).contains("images: gzip stream"));
    assert!(refusal(b"\x1f\x8bnonsense", &labels()).contains("images: "));
}

#[test]
fn another_magic_number_is_refused() {
    let message = refusal(&labels(), &images());
    let words =
        "images: magic number: expected 0x00000803 (3 dimensions of bytes), found 0x00000801";
    assert!(message.contains(words), "{message}");
    assert!(refusal(b"<!DOCTYPE html>..", &labels()).contains("found 0x3c21444f"));
}

#[test]
fn counts_that_differ_are_refused() {
    let message = refusal(&images(), &idx(&[2], &[7, 0]));
    assert!(message.contains("labels: number of labels: expected 3, as"), "{message}");
    assert!(message.contains("found 2"), "{message}");
}

#[test]
fn a_label_out_of_range_names_its_row() {
    let message = refusal(&images(), &idx(&[3], &[7, 10, 9]));
    assert!(message.contains("images row 1: label: expected 0 to 9 (10 classes), found 10"));
}

#[test]
fn impossible_dimensions_are_refused_before_anything_is_allocated() {
    for [count, height, width] in [[0, 2, 3], [3, 0, 3], [3, 2, 0], [3, u32::MAX, u32::MAX]] {
        let message = refusal(&gzip(&idx(&[count, height, width], &[])), &labels());
        assert!(message.contains("images: dimensions: expected at least 1 image"), "{message}");
    }
    // 2^32 - 1 images of 268 MB each are possible, but they are not there, and never so well packed.
    let message =
        refusal(&gzip(&idx(&[u32::MAX, 16_384, 16_384], &[])), &gzip(&idx(&[u32::MAX], &[0])));
    assert!(message.contains("images: gzip stream: expected at most 67108864"), "{message}");
    // A thousand images of 64 KB are, even of zeros; they are not there either.
    let message = refusal(&gzip(&idx(&[1000, 256, 256], &[])), &gzip(&idx(&[1000], &[0; 1000])));
    assert!(message.contains("images: length in bytes: expected 65536016"), "{message}");
}

/// Endless zeros that count how many of them were taken.
struct Endless(Rc<Cell<u64>>);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(0);
        self.0.set(self.0.get() + buffer.len() as u64);
        Ok(buffer.len())
    }
}

#[test]
fn an_endless_stream_is_read_one_byte_too_far_and_no_further() {
    let taken = Rc::new(Cell::new(0));
    let bytes = Box::new(Endless(taken.clone()));
    let path = PathBuf::from("bomb");
    let mut file = IdxFile { path, bytes, length: None, most: 40, at: 0, declared: 40, count: 2 };
    assert_eq!(file.record(40).unwrap().len(), 40);
    let message = file.end().unwrap_err().to_string();
    assert!(message.contains("expected 40, found more than 40"), "{message}");
    assert_eq!(taken.get(), 41);
}
