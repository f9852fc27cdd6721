//! Average ranks, computed once by sorting and again for any resample by counting.

use super::check_columns;
use crate::error::Result;

/// Ranks from 1; equal values share the mean of their ranks.
///
/// # Errors
/// [`Error::Undefined`](crate::Error::Undefined) if a value is not finite.
pub fn ranks(values: &[f64]) -> Result<Vec<f64>> {
    check_columns("rank", &[values])?;
    let mut ranks = vec![0.0; values.len()];
    Order::of(values).rank(&vec![1; values.len()], &mut ranks);
    Ok(ranks)
}

/// The order of a column's values, with runs of equal values marked.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Positions by ascending value.
    positions: Vec<u32>,
    /// Ends (exclusive) of the runs of equal values.
    ends: Vec<u32>,
}

impl Order {
    /// The order of finite values.
    pub(super) fn of(values: &[f64]) -> Self {
        let mut positions: Vec<u32> = (0..values.len() as u32).collect();
        positions.sort_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
        let value = |place: usize| values[positions[place] as usize];
        let ends = (1..=positions.len())
            .filter(|&end| end == positions.len() || value(end) != value(end - 1))
            .map(|end| end as u32)
            .collect();
        Self { positions, ends }
    }

    /// Average ranks in a sample that holds item `i` `counts[i]` times, in linear time.
    pub(super) fn rank(&self, counts: &[u32], ranks: &mut [f64]) {
        let (mut start, mut below) = (0, 0);
        for &end in &self.ends {
            let run = &self.positions[start..end as usize];
            let equal: u64 = run.iter().map(|&position| u64::from(counts[position as usize])).sum();
            let rank = below as f64 + (equal as f64 + 1.0) / 2.0;
            run.iter().for_each(|&position| ranks[position as usize] = rank);
            below += equal;
            start = end as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_the_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]).unwrap(), [4.0, 1.0, 4.0, 2.0, 4.0]);
        assert_eq!(ranks(&[0.0, -0.0]).unwrap(), [1.5, 1.5], "zero equals minus zero");
        assert!(ranks(&[]).unwrap().is_empty());
        assert!(ranks(&[1.0, f64::NAN]).is_err());
    }

    #[test]
    fn ranks_by_counting_equal_ranks_of_the_written_out_resample() {
        let values = [0.5, -1.0, 0.5, 7.0, 2.0, -1.0];
        let counts = [2, 0, 1, 3, 1, 1];
        let mut counted = vec![0.0; values.len()];
        Order::of(&values).rank(&counts, &mut counted);
        let items: Vec<usize> =
            (0..values.len()).flat_map(|i| std::iter::repeat_n(i, counts[i] as usize)).collect();
        let written: Vec<f64> = items.iter().map(|&item| values[item]).collect();
        for (&item, rank) in items.iter().zip(ranks(&written).unwrap()) {
            assert_eq!(counted[item], rank, "item {item}");
        }
    }
}
