//! Named class orders: in which order a stream meets the classes.

use std::{fmt, str::FromStr};

use crate::{
    ClassId, ContinualError,
    error::{Result, field},
};

/// Where CLoG puts each of ten classes: its class `c` becomes class `POSITIONS[order][c]`.
///
/// Source: `dataloader/seq.py` of github.com/linhaowei1/CLoG (commit 415884a), data sets of ten
/// classes. It uses the lists to *rename* labels before it cuts them into tasks, so that the class
/// order is the inverse permutation: its order 1 starts with class 4, not with class 3.
const CLOG_POSITIONS: [[u32; 10]; 5] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [3, 9, 1, 8, 0, 2, 6, 4, 5, 7],
    [6, 0, 2, 8, 1, 9, 7, 3, 5, 4],
    [2, 6, 1, 5, 9, 8, 0, 4, 3, 7],
    [1, 5, 7, 2, 0, 3, 4, 6, 8, 9],
];

/// The order in which a stream meets the classes.
///
/// Parsed from, and displayed as, `natural`, `reversed`, `clog-0` to `clog-4` and `shuffled:SEED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassOrder {
    /// 0, 1, 2, …
    Natural,
    /// …, 2, 1, 0.
    Reversed,
    /// One of the five orders of the CLoG benchmark (arXiv 2406.04584), for ten classes.
    Clog(ClogOrder),
    /// Classes sorted by the BLAKE3 hash of ("class-order", seed, class): a uniform order that
    /// depends on nothing but its own name.
    Shuffled(u64),
}

/// The number of a CLoG order, 0 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClogOrder(u8);

impl ClassOrder {
    /// The classes 0 to `n_classes` - 1 in this order.
    ///
    /// # Errors
    /// [`ContinualError::Field`] for a CLoG order over another number of classes than ten.
    pub fn arrange(self, n_classes: u32) -> Result<Vec<ClassId>> {
        let mut classes: Vec<ClassId> = (0..n_classes).map(ClassId).collect();
        match self {
            Self::Natural => {}
            Self::Reversed => classes.reverse(),
            Self::Clog(order) => order.sort(&mut classes)?,
            Self::Shuffled(seed) => classes.sort_by_cached_key(|&class| (hash(seed, class), class)),
        }
        Ok(classes)
    }
}

impl ClogOrder {
    fn sort(self, classes: &mut [ClassId]) -> Result<()> {
        let positions = &CLOG_POSITIONS[usize::from(self.0)];
        if classes.len() != positions.len() {
            let got = format!("{} classes under order clog-{}", classes.len(), self.0);
            return Err(field("stream.order", "ten classes for a CLoG order", got));
        }
        classes.sort_by_key(|class| positions[class.0 as usize]);
        Ok(())
    }
}

fn hash(seed: u64, class: ClassId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"class-order");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&class.0.to_le_bytes());
    *hasher.finalize().as_bytes()
}

impl FromStr for ClassOrder {
    type Err = ContinualError;

    fn from_str(name: &str) -> Result<Self> {
        let numbered = |prefix| name.strip_prefix(prefix).filter(|n| !n.starts_with('+'));
        let clog = numbered("clog-").and_then(|n| n.parse().ok()).filter(|&n| n < 5);
        let seed = numbered("shuffled:").and_then(|n| n.parse().ok());
        match name {
            "natural" => Ok(Self::Natural),
            "reversed" => Ok(Self::Reversed),
            _ => None
                .or(clog.map(|n| Self::Clog(ClogOrder(n))))
                .or(seed.map(Self::Shuffled))
                .ok_or_else(|| unknown(name)),
        }
    }
}

fn unknown(name: &str) -> ContinualError {
    let expected = "natural, reversed, clog-0 to clog-4, or shuffled:SEED".to_owned();
    ContinualError::UnknownName { kind: "class order", name: name.to_owned(), expected }
}

impl fmt::Display for ClassOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Natural => f.write_str("natural"),
            Self::Reversed => f.write_str("reversed"),
            Self::Clog(order) => write!(f, "clog-{}", order.0),
            Self::Shuffled(seed) => write!(f, "shuffled:{seed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::tests::chi_square;

    fn arrange(name: &str, n_classes: u32) -> Vec<u32> {
        let order: ClassOrder = name.parse().unwrap();
        order.arrange(n_classes).unwrap().into_iter().map(|class| class.0).collect()
    }

    #[test]
    fn plain_orders() {
        assert_eq!(arrange("natural", 4), [0, 1, 2, 3]);
        assert_eq!(arrange("reversed", 4), [3, 2, 1, 0]);
        assert_eq!(arrange("natural", 0), [0_u32; 0]);
    }

    #[test]
    fn clog_lists_are_positions_not_orders() {
        assert_eq!(arrange("clog-0", 10), arrange("natural", 10));
        // CLoG's first task of two classes in order 1 keeps renamed labels {0, 1}: classes 4 and 2.
        assert_eq!(arrange("clog-1", 10), [4, 2, 5, 0, 7, 8, 6, 9, 3, 1]);
        for (number, positions) in CLOG_POSITIONS.iter().enumerate() {
            let order = arrange(&format!("clog-{number}"), 10);
            for (position, &class) in order.iter().enumerate() {
                assert_eq!(positions[class as usize] as usize, position);
            }
        }
    }

    #[test]
    fn clog_orders_are_for_ten_classes() {
        let order: ClassOrder = "clog-3".parse().unwrap();
        let error = order.arrange(9).unwrap_err().to_string();
        assert!(error.contains("stream.order") && error.contains("9 classes"), "{error}");
    }

    #[test]
    fn a_shuffled_order_is_pinned_by_its_name() {
        assert_eq!(arrange("shuffled:7", 10), PINNED);
        assert_ne!(arrange("shuffled:7", 10), arrange("shuffled:8", 10));
    }
    /// Made once with this code; a change would silently change every protocol that names it.
    const PINNED: [u32; 10] = [3, 6, 9, 2, 1, 7, 4, 0, 5, 8];

    #[test]
    fn shuffled_orders_are_uniform() {
        let mut first = [0; 10];
        for seed in 0..5_000 {
            let order = arrange(&format!("shuffled:{seed}"), 10);
            first[order[0] as usize] += 1;
        }
        // 9 degrees of freedom: the 1e-6 quantile is 44.8.
        assert!(chi_square(&first) <= 44.8, "{first:?}");
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["natural", "reversed", "clog-0", "clog-4", "shuffled:18446744073709551615"] {
            assert_eq!(name.parse::<ClassOrder>().unwrap().to_string(), name);
        }
        for name in ["", "Natural", "clog-5", "clog-", "clog-+1", "shuffled", "shuffled:-1"] {
            let error = name.parse::<ClassOrder>().unwrap_err().to_string();
            assert!(error.contains("shuffled:SEED"), "{error}");
        }
    }
}
