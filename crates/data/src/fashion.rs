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
