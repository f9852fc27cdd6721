//! The definitions of forgetting, one name each.
//!
//! All take a quantity of which more is worse (an error, a loss), so that forgetting is positive.
//!
//! | symbol   | here                       | meaning                                            |
//! |----------|----------------------------|----------------------------------------------------|
//! | R(x)     | a measured value           | error of the model on example x                    |
//! | dR(x)    | [`increment`]              | R after later tasks minus R when x's task was learned |
//! | M_a(x)   | [`mitigation`]             | R without replay minus R in arm a                  |
//! | R\[i, j\] | [`RetentionMatrix`]       | mean R of task j's examples after learning task i  |
//! | N        | [`RetentionMatrix::n_tasks`] | number of tasks                                  |
//!
//! Sources: R\[i, j\] and backward transfer from Lopez-Paz and Ranzato 2017; forgetting since the best
//! from Chaudhry et al. 2018; AFQ, AIQ and FR are the names of the CLoG benchmark (2024) for the
//! final mean, the mean over the stream, and the mean rise since learning.

use crate::error::{Error, Result};

/// Rise of each example's error: `after - before`.
///
/// # Errors
/// [`Error::Undefined`] for unequal lengths.
pub fn increment(before: &[f64], after: &[f64]) -> Result<Vec<f64>> {
    subtract("increment", after, before)
}

/// What an arm saves of each example: error without replay minus error in the arm, M_a(x).
///
/// # Errors
/// [`Error::Undefined`] for unequal lengths.
pub fn mitigation(without_replay: &[f64], in_arm: &[f64]) -> Result<Vec<f64>> {
    subtract("mitigation", without_replay, in_arm)
}

fn subtract(name: &'static str, a: &[f64], b: &[f64]) -> Result<Vec<f64>> {
    if a.len() != b.len() {
        let reason = format!("{} and {} numbers cannot be paired", a.len(), b.len());
        return Err(Error::undefined(name, reason));
    }
    Ok(a.iter().zip(b).map(|(a, b)| a - b).collect())
}

/// R\[i, j\]: mean error on task j's examples after learning task i; tasks count from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionMatrix {
    n_tasks: usize,
    cells: Vec<Option<f64>>,
}

impl RetentionMatrix {
    /// An empty matrix of `n_tasks` by `n_tasks`.
    pub fn new(n_tasks: usize) -> Self {
        Self { n_tasks, cells: vec![None; n_tasks * n_tasks] }
    }

    /// Number of tasks N.
    pub fn n_tasks(&self) -> usize {
        self.n_tasks
    }

    /// R\[i, j\], none if it was not measured or no such task exists.
    pub fn get(&self, learned_through: usize, task: usize) -> Option<f64> {
        self.cells[self.index(learned_through, task)?]
    }

    /// Sets R\[i, j\].
    ///
    /// # Errors
    /// [`Error::InvalidField`] for a task number outside 1..=N; [`Error::Undefined`] for a value
    /// that is not finite.
    pub fn set(&mut self, learned_through: usize, task: usize, value: f64) -> Result<()> {
        if !value.is_finite() {
            return Err(Error::undefined("retention matrix", format!("a cell is {value}")));
        }
        let index = self.index(learned_through, task).ok_or_else(|| Error::InvalidField {
            what: "retention matrix".into(),
            field: "task",
            expected: format!("a number from 1 to {}", self.n_tasks),
            got: format!("({learned_through}, {task})"),
        })?;
        self.cells[index] = Some(value);
        Ok(())
    }

    /// AFQ: mean of R\[N, j\] over all tasks j. None if a cell is missing.
    pub fn average_final(&self) -> Option<f64> {
        self.mean_over(1..=self.n_tasks, |task| self.get(self.n_tasks, task))
    }

    /// AIQ: mean over i of the mean of R\[i, j\] over the tasks j <= i seen so far.
    pub fn average_incremental(&self) -> Option<f64> {
        self.mean_over(1..=self.n_tasks, |learned| {
            self.mean_over(1..=learned, |task| self.get(learned, task))
        })
    }

    /// FR: mean of [`Forgetting::SinceLearned`] over the tasks before the last.
    pub fn forgetting_rate(&self) -> Option<f64> {
        Forgetting::SinceLearned.average(self)
    }

    fn index(&self, learned_through: usize, task: usize) -> Option<usize> {
        let is_task = |number: usize| (1..=self.n_tasks).contains(&number);
        (is_task(learned_through) && is_task(task))
            .then(|| (learned_through - 1) * self.n_tasks + task - 1)
    }

    fn mean_over(
        &self,
        tasks: impl IntoIterator<Item = usize>,
        value: impl Fn(usize) -> Option<f64>,
    ) -> Option<f64> {
        let values: Vec<f64> = tasks.into_iter().map(value).collect::<Option<_>>()?;
        crate::statistics::mean(&values)
    }
}

/// From where a task's forgetting is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgetting {
    /// R\[N, j\] - R\[j, j\]: since the task was learned.
    SinceLearned,
    /// R\[N, j\] - min of R\[i, j\] over j <= i < N: since the task was known best.
    SinceBest,
}

impl Forgetting {
    /// Forgetting of one task. None for the last task, or where a cell is missing.
    pub fn of(self, matrix: &RetentionMatrix, task: usize) -> Option<f64> {
        let last = matrix.n_tasks();
        if !(1..last).contains(&task) {
            return None;
        }
        let start = match self {
            Self::SinceLearned => matrix.get(task, task)?,
            Self::SinceBest => {
                let known: Option<Vec<f64>> = (task..last).map(|i| matrix.get(i, task)).collect();
                known?.into_iter().min_by(f64::total_cmp)?
            }
        };
        Some(matrix.get(last, task)? - start)
    }

    /// Mean over the tasks before the last. None if there is none, or a cell is missing.
    pub fn average(self, matrix: &RetentionMatrix) -> Option<f64> {
        matrix.mean_over(1..matrix.n_tasks(), |task| self.of(matrix, task))
    }
}

/// Backward transfer: how much later tasks *improved* the earlier ones, minus the forgetting rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackwardTransfer(pub f64);

impl BackwardTransfer {
    /// Backward transfer of an error matrix. None where the forgetting rate is.
    pub fn of(matrix: &RetentionMatrix) -> Option<Self> {
        matrix.forgetting_rate().map(|rate| Self(-rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tasks; task 1 is worst after task 2 and best before it.
    fn matrix() -> RetentionMatrix {
        let rows = [[0.125, 1.0, 1.0], [0.5, 0.25, 1.0], [0.375, 0.75, 0.25]];
        let mut matrix = RetentionMatrix::new(3);
        for (i, row) in rows.iter().enumerate() {
            for (j, &value) in row.iter().enumerate() {
                matrix.set(i + 1, j + 1, value).unwrap();
            }
        }
        matrix
    }

    #[test]
    fn each_metric_is_its_sum_by_hand() {
        let matrix = matrix();
        assert_eq!(Forgetting::SinceLearned.of(&matrix, 1), Some(0.25));
        assert_eq!(Forgetting::SinceLearned.of(&matrix, 2), Some(0.5));
        assert_eq!(Forgetting::SinceLearned.of(&matrix, 3), None);
        assert_eq!(matrix.forgetting_rate(), Some(0.375));
        assert_eq!(BackwardTransfer::of(&matrix), Some(BackwardTransfer(-0.375)));
        assert_eq!(matrix.average_final(), Some((0.375 + 0.75 + 0.25) / 3.0));
        let incremental = (0.125 + (0.5 + 0.25) / 2.0 + (0.375 + 0.75 + 0.25) / 3.0) / 3.0;
        assert_eq!(matrix.average_incremental(), Some(incremental));
    }

    #[test]
    fn since_the_best_counts_from_the_lowest_error() {
        let mut matrix = matrix();
        matrix.set(2, 1, 0.0625).unwrap(); // Task 2 helped task 1.
        assert_eq!(Forgetting::SinceLearned.of(&matrix, 1), Some(0.25));
        assert_eq!(Forgetting::SinceBest.of(&matrix, 1), Some(0.3125));
    }

    #[test]
    fn a_missing_cell_gives_no_number() {
        let mut matrix = RetentionMatrix::new(2);
        matrix.set(2, 1, 0.5).unwrap();
        assert_eq!(Forgetting::SinceLearned.of(&matrix, 1), None);
        assert_eq!(matrix.average_final(), None);
        assert_eq!(RetentionMatrix::new(1).forgetting_rate(), None);
        assert_eq!(RetentionMatrix::new(0).average_final(), None);
        assert!(matrix.set(3, 1, 0.5).is_err() && matrix.set(0, 1, 0.5).is_err());
        assert!(matrix.set(1, 1, f64::NAN).is_err());
        assert_eq!((matrix.get(0, 1), matrix.get(1, 3)), (None, None));
    }

    #[test]
    fn increments_and_mitigations_pair_examples() {
        assert_eq!(increment(&[0.25, 0.5], &[0.75, 0.25]).unwrap(), [0.5, -0.25]);
        assert_eq!(mitigation(&[0.75], &[0.25]).unwrap(), [0.5]);
        assert!(increment(&[0.25], &[]).is_err());
    }
}
