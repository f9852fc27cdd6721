//! Which examples a network never sees: a division by id alone.

use std::collections::BTreeMap;

use crate::{DataError, ImageSet};

/// The ids of a set, divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Ids to train on, ascending.
    pub train: Vec<u64>,
    /// Ids held out, ascending.
    pub held_out: Vec<u64>,
}

/// Divides a set into training and held-out ids, class by class.
///
/// Within a class of n examples, those with the round(`held_out` · n) smallest blake3 digests of their id (8 bytes,
/// little endian) are held out. So the division depends on the ids of the class alone: not on the order, the pixels,
/// the other classes, nor on a seed, and it is the same on every machine.
///
/// # Errors
/// [`DataError::Option`] unless 0 <= `held_out` < 1.
pub fn split(images: &ImageSet, held_out: f64) -> Result<Split, DataError> {
    if !(0.0..1.0).contains(&held_out) {
        let expected = "a fraction from 0 to below 1".to_string();
        return Err(DataError::Option { name: "held_out", expected, found: held_out.to_string() });
    }
    let mut classes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    images.iter().for_each(|example| classes.entry(example.label).or_default().push(example.id));
    let mut parts = Split { train: Vec::new(), held_out: Vec::new() };
    for ids in classes.values_mut() {
        ids.sort_by_cached_key(|id| *blake3::hash(&id.to_le_bytes()).as_bytes());
        let (out, train) = ids.split_at((held_out * ids.len() as f64).round() as usize);
        parts.held_out.extend_from_slice(out);
        parts.train.extend_from_slice(train);
    }
    parts.train.sort_unstable();
    parts.held_out.sort_unstable();
    Ok(parts)
}
