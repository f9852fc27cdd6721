//! The task matrix of each arm: mean error on each task's examples after each task.

use super::View;
use crate::study::complete;
use lethe_ledger::Split;
use lethe_ledger::forgetting::RetentionMatrix;
use lethe_ledger::statistics::mean;

/// R\[i, j\] of an arm over training examples; cells that were not measured stay empty.
pub(crate) fn measure(view: &View<'_>, arm: &str) -> RetentionMatrix {
    let n_tasks = view.last();
    let mut matrix = RetentionMatrix::new(n_tasks as usize);
    for learned in 1..=n_tasks {
        let Ok(column) = view.after(arm, learned, view.headline()) else { continue };
        for task in 1..=n_tasks {
            let positions = view.study.positions(Split::Train, |of| of == task);
            let (_, values) = complete(&positions, &[&column]);
            if let Some(value) = mean(&values[0]) {
                // Task numbers are within the matrix and the ledger holds finite numbers only.
                let _ = matrix.set(learned as usize, task as usize, value);
            }
        }
    }
    matrix
}
