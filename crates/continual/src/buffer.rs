//! The replay buffer: which examples of finished tasks are kept, under one capacity for all.
//!
//! Invariants, held by every method and checked again when a buffer is read back:
//! never more than `capacity` ids; never an id twice; only training examples of finished tasks.
//! It holds ids, never pixels.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    ContinualError, DrawKey, DrawStream, ExampleId, Task, TaskStream,
    error::{Result, field},
};

/// At most `capacity` ids of finished tasks, divided evenly between the tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct ReplayBuffer {
    capacity: usize,
    /// `tasks[i]` are the kept ids of task i + 1, ascending.
    tasks: Vec<Vec<ExampleId>>,
}

/// A question of the buffer to a policy: which `quota` of `ids`, all of `task`, shall stay?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectionRequest<'a> {
    /// The task that the ids belong to.
    pub task: u32,
    /// The task that has just been finished.
    pub finished: u32,
    /// The candidates, ascending.
    pub ids: &'a [ExampleId],
    /// How many shall stay: at least one, fewer than there are.
    pub quota: usize,
}

impl SelectionRequest<'_> {
    /// The name of the words to choose with.
    pub fn key(&self) -> DrawKey {
        let index = u64::from(self.task);
        DrawKey { stream: DrawStream::Selection, task: self.finished, index }
    }

    /// The ids that stay, ascending; `select` is asked only if there is a choice.
    fn answer<E: From<ContinualError>>(
        self,
        select: impl FnOnce(Self) -> std::result::Result<Vec<ExampleId>, E>,
    ) -> std::result::Result<Vec<ExampleId>, E> {
        if self.quota == 0 || self.ids.len() <= self.quota {
            return Ok(self.ids[..self.ids.len().min(self.quota)].to_vec());
        }
        let mut kept = select(self)?;
        kept.sort_unstable();
        self.check(&kept)?;
        Ok(kept)
    }

    fn check(&self, kept: &[ExampleId]) -> Result<()> {
        let refuse = |got: String| {
            let expected = format!("{} distinct ids of the candidates", self.quota);
            Err(ContinualError::Selection { task: self.task, expected, got })
        };
        if let Some(pair) = kept.windows(2).find(|pair| pair[0] == pair[1]) {
            return refuse(format!("example {} twice", pair[0]));
        }
        if let Some(id) = kept.iter().find(|id| self.ids.binary_search(id).is_err()) {
            return refuse(format!("example {id}, which is none of them"));
        }
        if kept.len() == self.quota { Ok(()) } else { refuse(kept.len().to_string()) }
    }
}

impl ReplayBuffer {
    /// An empty buffer for at most `capacity` examples.
    ///
    /// # Errors
    /// A capacity of zero: that is the arm `none`.
    pub fn new(capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(field("replay.budget", "at least one example", "0"));
        }
        Ok(Self { capacity, tasks: Vec::new() })
    }

    /// The most examples that it will hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many tasks have been finished.
    pub fn n_finished(&self) -> u32 {
        self.tasks.len() as u32
    }

    /// The kept ids of each finished task, ascending; the first list is task 1.
    pub fn tasks(&self) -> &[Vec<ExampleId>] {
        &self.tasks
    }

    /// All kept ids, ascending.
    pub fn ids(&self) -> Vec<ExampleId> {
        let mut ids = self.tasks.concat();
        ids.sort_unstable();
        ids
    }

    /// Makes room and takes in the task just finished, as `select` decides.
    ///
    /// The share of a task is capacity / tasks seen, remainders to earlier tasks.
    /// `select` is asked once for each task that has more ids than its share: the earlier tasks
    /// choose among what they still have, the new one among its training examples.
    /// On an error the buffer is unchanged.
    ///
    /// # Errors
    /// A task out of order, a selection of other ids or another number than asked for, or whatever
    /// `select` returns.
    pub fn finish_task<E: From<ContinualError>>(
        &mut self,
        finished: &Task,
        mut select: impl FnMut(SelectionRequest<'_>) -> std::result::Result<Vec<ExampleId>, E>,
    ) -> std::result::Result<(), E> {
        let (seen, number) = (self.n_finished(), finished.number());
        if number != seen + 1 {
            return Err(ContinualError::TaskOutOfOrder { seen, task: number }.into());
        }
        let candidates = self.tasks.iter().map(Vec::as_slice).chain([finished.train()]);
        let mut tasks = Vec::with_capacity(number as usize);
        for (ids, task) in candidates.zip(1..) {
            let quota = share(self.capacity, number, task);
            let request = SelectionRequest { task, finished: number, ids, quota };
            tasks.push(request.answer(&mut select)?);
        }
        self.tasks = tasks;
        Ok(())
    }

    /// Checks that every id is a training example of its task in this stream.
    ///
    /// # Errors
    /// [`ContinualError::Buffer`], naming the task and the id.
    pub fn verify(&self, stream: &TaskStream) -> Result<()> {
        for (ids, number) in self.tasks.iter().zip(1..) {
            let train = stream.task(number)?.train();
            if let Some(id) = ids.iter().find(|id| train.binary_search(id).is_err()) {
                let expected = format!("training examples of task {number}");
                return Err(broken(number, expected, format!("example {id}")));
            }
        }
        Ok(())
    }
}

/// The share of `task` when tasks 1 to `n_tasks` divide `capacity`.
///
/// It never grows when a task is added, so that a buffer only ever forgets.
fn share(capacity: usize, n_tasks: u32, task: u32) -> usize {
    capacity.saturating_sub(task as usize - 1).div_ceil(n_tasks as usize)
}

/// A buffer as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    capacity: usize,
    tasks: Vec<Vec<ExampleId>>,
}

impl From<ReplayBuffer> for Record {
    fn from(buffer: ReplayBuffer) -> Self {
        Self { capacity: buffer.capacity, tasks: buffer.tasks }
    }
}

impl TryFrom<Record> for ReplayBuffer {
    type Error = ContinualError;

    fn try_from(record: Record) -> Result<Self> {
        let Self { capacity, .. } = Self::new(record.capacity)?;
        let n_tasks = record.tasks.len() as u32;
        let mut seen = BTreeSet::new();
        for (ids, number) in record.tasks.iter().zip(1..) {
            let share = share(capacity, n_tasks, number);
            if ids.len() > share {
                let expected = format!("at most {share} ids (capacity {capacity})");
                return Err(broken(number, expected, ids.len().to_string()));
            }
            if !ids.is_sorted() {
                return Err(broken(number, "ascending ids".into(), "another order".into()));
            }
            if let Some(id) = ids.iter().find(|&&id| !seen.insert(id)) {
                return Err(broken(number, "every id once".into(), format!("example {id} twice")));
            }
        }
        Ok(Self { capacity, tasks: record.tasks })
    }
}

fn broken(task: u32, expected: String, got: String) -> ContinualError {
    ContinualError::Buffer { field: format!("tasks[{}]", task - 1), expected, got }
}

#[cfg(test)]
mod tests;
