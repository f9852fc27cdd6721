//! Quotas: how many examples of each class may stay.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::Candidate;
use crate::{ClassId, ContinualError, error::Result};

/// Candidates that share one quota.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The candidates, sorted by id.
    pub members: Vec<Candidate>,
    /// How many of them stay; at most as many as there are.
    pub quota: usize,
}

/// Whether classes compete for places in the buffer.
///
/// Parsed from, and displayed as, `per-class` and `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Every class of the task gets the same quota (the usual choice in the literature).
    #[default]
    PerClass,
    /// One quota for the whole task.
    None,
}

impl Balance {
    /// Divides candidates and a quota into groups, lowest class first.
    ///
    /// What a class has too few members to use goes to the others; remainders go to the lowest
    /// classes.
    ///
    /// # Errors
    /// [`ContinualError::ExampleTwice`].
    pub fn divide(self, candidates: &[Candidate], quota: usize) -> Result<Vec<Group>> {
        let candidates = sorted(candidates)?;
        let members = match self {
            Self::PerClass => by_class(candidates),
            Self::None => vec![candidates],
        };
        let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
        let quotas = fair_shares(&sizes, quota);
        let group = |(members, quota)| Group { members, quota };
        Ok(members.into_iter().zip(quotas).map(group).collect())
    }
}

/// Ascending ids: what follows cannot depend on the order of arrival.
fn sorted(candidates: &[Candidate]) -> Result<Vec<Candidate>> {
    let mut candidates = candidates.to_vec();
    candidates.sort_by_key(|candidate| candidate.id);
    match candidates.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(pair) => Err(ContinualError::ExampleTwice { example: pair[0].id }),
        None => Ok(candidates),
    }
}

fn by_class(candidates: Vec<Candidate>) -> Vec<Vec<Candidate>> {
    let mut classes = BTreeMap::<ClassId, Vec<Candidate>>::new();
    for candidate in candidates {
        classes.entry(candidate.class).or_default().push(candidate);
    }
    classes.into_values().collect()
}

/// Deals `total` places in turn to the groups, passing over those that are full.
///
/// Shares of groups with room differ by at most one and remainders go to the first groups.
/// What a small group cannot use goes to the others; the shares add up to
/// min(`total`, sum of `sizes`).
pub(super) fn fair_shares(sizes: &[usize], total: usize) -> Vec<usize> {
    let mut shares = vec![0; sizes.len()];
    let mut left = total.min(sizes.iter().sum());
    while left > 0 {
        for (share, &size) in shares.iter_mut().zip(sizes) {
            if left > 0 && *share < size {
                *share += 1;
                left -= 1;
            }
        }
    }
    shares
}

impl FromStr for Balance {
    type Err = ContinualError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "per-class" => Ok(Self::PerClass),
            "none" => Ok(Self::None),
            _ => Err(ContinualError::UnknownName {
                kind: "balance",
                name: name.to_owned(),
                expected: "per-class or none".to_owned(),
            }),
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PerClass => "per-class",
            Self::None => "none",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn remainders_go_to_the_first_and_small_groups_give_all() {
        assert_eq!(fair_shares(&[9, 9, 9], 8), [3, 3, 2]);
        assert_eq!(fair_shares(&[1, 9, 9], 8), [1, 4, 3]);
        assert_eq!(fair_shares(&[2, 0, 1], 8), [2, 0, 1]);
        assert_eq!(fair_shares(&[], 8), [0_usize; 0]);
    }

    #[test]
    fn names_round_trip() {
        for balance in [Balance::PerClass, Balance::None] {
            assert_eq!(balance.to_string().parse::<Balance>().unwrap(), balance);
        }
        assert!("class".parse::<Balance>().unwrap_err().to_string().contains("per-class or none"));
    }

    proptest! {
        #![proptest_config(crate::draws::tests::repeatable())]

        #[test]
        fn shares_are_full_and_fair(
            sizes in prop::collection::vec(0_usize..30, 0..8),
            total in 0_usize..200,
        ) {
            let shares = fair_shares(&sizes, total);
            prop_assert_eq!(shares.iter().sum::<usize>(), total.min(sizes.iter().sum()));
            for (i, &share) in shares.iter().enumerate() {
                prop_assert!(share <= sizes[i]);
                // Whoever has room left is at most one behind, and only behind an earlier group.
                if share < sizes[i] {
                    prop_assert!(shares[..i].iter().all(|&other| other <= share + 1));
                    prop_assert!(shares[i..].iter().all(|&other| other <= share));
                }
            }
        }
    }
}
