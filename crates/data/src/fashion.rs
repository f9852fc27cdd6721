//! The embedded subset of Fashion-MNIST; its origin, rule and licence lie beside it in `fashion-mnist/`.

use std::path::{Path, PathBuf};

use crate::DataError;
use crate::error::malformed;
use crate::idx::IdxReader;
use crate::input::Input;

const IMAGES: &[u8] = include_bytes!("../fashion-mnist/images.idx3.gz");
const LABELS: &[u8] = include_bytes!("../fashion-mnist/labels.idx1.gz");

/// blake3 digests of the two files as embedded.
const IMAGES_DIGEST: &str = "01f48341b6733aee41ef1d84e71276406dce02f32df05d4d9f32062bfcd6b500";
const LABELS_DIGEST: &str = "c502935967d09ea06e286c033814938dfd3e3173c43cd44f1388fe67d8d331b1";

/// In label order, as Zalando's description of the data set names them.
const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// The embedded pair of idx files, once their digests are found right.
pub(crate) fn reader() -> Result<IdxReader, DataError> {
    let images = verified("embedded Fashion-MNIST images", IMAGES, IMAGES_DIGEST)?;
    let labels = verified("embedded Fashion-MNIST labels", LABELS, LABELS_DIGEST)?;
    Ok(IdxReader { images, labels, classes: Some(CLASSES.map(String::from).to_vec()) })
}

fn verified(name: &str, bytes: &'static [u8], digest: &str) -> Result<Input, DataError> {
    let found = blake3::hash(bytes).to_hex().to_string();
    if found == digest {
        return Ok(Input::Embedded(PathBuf::from(name), bytes));
    }
    let remedy = "build the program again from an undamaged checkout";
    Err(malformed(Path::new(name), "blake3 digest", digest, found, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReadOptions, Source, read};

    #[test]
    fn six_hundred_of_each_class_in_the_order_of_the_training_file() {
        let images = read(&Source::FashionMnist, &ReadOptions::default()).unwrap().images;
        assert_eq!(images.shape().to_string(), "28x28 grey");
        assert_eq!(images.counts(), [600; 10]);
        assert_eq!(images.classes(), CLASSES);
        // The labels with which the training file begins.
        assert_eq!(images.labels()[..10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
        let digest = "85a102e43d7e4107d10371c94a34505b104854f2b809e535678a86240e6e9e12";
        assert_eq!(images.digest(), digest);
    }

    #[test]
    fn damage_to_the_embedded_bytes_is_named() {
        let message =
            verified("embedded images", &[1, 2, 3], IMAGES_DIGEST).unwrap_err().to_string();
        assert!(
            message.starts_with("embedded images: blake3 digest: expected 01f48341"),
            "{message}"
        );
    }
}
