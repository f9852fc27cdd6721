//! Image datasets as 8-bit pixels with ids, labels and a digest.
