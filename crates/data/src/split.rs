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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    /// Images of one pixel with these (id, label) pairs.
    fn set(rows: &[(u64, u32)]) -> ImageSet {
        let shape = Shape { width: 1, height: 1, channels: 1 };
        let classes = (0..10).map(|class| class.to_string()).collect();
        let (ids, labels) = rows.iter().copied().unzip();
        ImageSet::new(shape, classes, ids, labels, vec![0; rows.len()]).unwrap()
    }

    /// Ids 0 to 99 of class 0, interleaved with ids of class 1 if wanted.
    fn hundred(others: bool) -> ImageSet {
        let rows: Vec<(u64, u32)> =
            (0..200).map(|row| (row / 2 + row % 2 * 1000, (row % 2) as u32)).collect();
        let mut rows: Vec<(u64, u32)> =
            rows.into_iter().filter(|row| others || row.1 == 0).collect();
        rows.sort_unstable();
        set(&rows)
    }

    #[test]
    fn every_id_is_on_one_side_and_each_class_gives_its_share() {
        let images = hundred(true);
        let parts = split(&images, 0.13).unwrap();
        let mut all = [parts.train.clone(), parts.held_out.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, images.ids());
        assert_eq!(parts.held_out.iter().filter(|&&id| id < 1000).count(), 13);
        assert_eq!(parts.held_out.iter().filter(|&&id| id >= 1000).count(), 13);
        assert!(parts.train.is_sorted() && parts.held_out.is_sorted());
    }

    #[test]
    fn a_class_is_divided_whatever_the_others_are() {
        let alone = split(&hundred(false), 0.2).unwrap().held_out;
        let among: Vec<u64> = split(&hundred(true), 0.2).unwrap().held_out;
        assert_eq!(alone, among.into_iter().filter(|&id| id < 1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_larger_share_contains_the_smaller() {
        let small = split(&hundred(false), 0.1).unwrap().held_out;
        let large = split(&hundred(false), 0.5).unwrap().held_out;
        assert!(small.iter().all(|id| large.contains(id)));
    }

    #[test]
    fn the_division_is_the_same_on_every_machine() {
        // Checked against another implementation of blake3.
        assert_eq!(split(&hundred(false), 0.05).unwrap().held_out, [45, 47, 48, 57, 61]);
    }

    #[test]
    fn shares_are_rounded_and_bounded() {
        let three = set(&[(0, 0), (1, 0), (2, 0)]);
        let held_out = |share: f64| split(&three, share).map(|parts| parts.held_out.len());
        assert_eq!(held_out(0.0).unwrap(), 0);
        assert_eq!(held_out(0.16).unwrap(), 0);
        assert_eq!(held_out(0.17).unwrap(), 1);
        assert_eq!(held_out(0.999).unwrap(), 3);
        for share in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            let message = held_out(share).unwrap_err().to_string();
            assert!(message.starts_with("held_out: expected a fraction"), "{message}");
        }
    }
}
