//! idx files through our reader and through candle-datasets' own: the same images and labels.

use candle_datasets::vision::mnist;
use lethe::data::{ReadOptions, detect, read};
use std::fs;
use std::path::Path;

/// An idx file: magic number, dimensions, bytes.
fn write_idx(path: &Path, dimensions: &[u32], body: &[u8]) {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    dimensions.iter().for_each(|dimension| bytes.extend(dimension.to_be_bytes()));
    bytes.extend(body);
    fs::write(path, bytes).unwrap();
}

/// `n` images of 5x4 pixels and their labels, every pixel its own.
fn write_pair(folder: &Path, part: &str, n: u32) {
    let pixels: Vec<u8> = (0..n * 20).map(|i| (i * 37 + 11) as u8).collect();
    let labels: Vec<u8> = (0..n).map(|i| (i % 3) as u8).collect();
    write_idx(&folder.join(format!("{part}-images-idx3-ubyte")), &[n, 5, 4], &pixels);
    write_idx(&folder.join(format!("{part}-labels-idx1-ubyte")), &[n], &labels);
}

#[test]
fn idx_files_hold_what_candle_datasets_reads() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "train", 9);
    write_pair(folder.path(), "t10k", 3);
    let source = detect(folder.path()).unwrap();
    let ours = read(&source, &ReadOptions::default()).unwrap().images;
    let theirs = mnist::load_dir(folder.path()).unwrap();
    let labels: Vec<u32> = (0..ours.len()).map(|index| ours.label(index)).collect();
    let expected = theirs.train_labels.to_vec1::<u8>().unwrap();
    assert_eq!(labels, expected.iter().map(|&label| u32::from(label)).collect::<Vec<_>>());
    let expected = theirs.train_images.to_vec2::<f32>().unwrap();
    for (index, expected) in expected.iter().enumerate() {
        let bytes: Vec<u8> = expected.iter().map(|pixel| (pixel * 255.).round() as u8).collect();
        assert_eq!(ours.image(index), bytes, "image {index}");
    }
}
