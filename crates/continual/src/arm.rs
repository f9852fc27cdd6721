//! Arms: the ways to go on from the same first task, side by side in one run.

use std::{fmt, str::FromStr};

use crate::{ContinualError, ExampleId, Policy, ReplayBuffer, TaskStream, error::Result};

/// What an arm does while it learns a later task.
///
/// Parsed from, and displayed as, `none`, `joint`, `control` or the name of a [`Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arm {
    /// Fine-tunes on the new task alone: the forgetting that replay has to mitigate.
    None,
    /// Replays what the policy keeps, within the budget.
    Replay(Policy),
    /// Replays from all earlier examples, without a budget: the upper bound.
    ///
    /// Unlike joint training on the union of all tasks, the earlier examples get the replay share
    /// of every batch and not a share by size, so that the new-task batches are those of the other
    /// arms.
    Joint,
    /// Continues on task 1 and never meets another: what changes without a new task.
    Control,
}

/// From which examples the batches of one task are drawn; each list is ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The task being learned (also for [`Arm::Control`], which stays on the data of task 1).
    pub task: u32,
    /// The examples of the task.
    pub new: Vec<ExampleId>,
    /// The examples to replay; empty if the arm replays none.
    pub replayed: Vec<ExampleId>,
}

impl Arm {
    /// Every arm, in the order of reports.
    pub fn all() -> Vec<Self> {
        let ends = [Self::None, Self::Joint, Self::Control];
        ends.into_iter().chain(Policy::ALL.map(Self::Replay)).collect()
    }

    /// The name in protocols, ledgers and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Replay(policy) => policy.name(),
            Self::Joint => "joint",
            Self::Control => "control",
        }
    }

    /// The policy that fills this arm's buffer, if it has a buffer.
    pub fn policy(self) -> Option<Policy> {
        match self {
            Self::Replay(policy) => Some(policy),
            Self::None | Self::Joint | Self::Control => None,
        }
    }

    /// What this arm trains on while task `task` of the stream is learned.
    ///
    /// # Errors
    /// No such task; a replaying arm whose buffer is missing, is not at the end of task
    /// `task` - 1, or holds what is no training example of its task.
    pub fn sources(
        self,
        stream: &TaskStream,
        task: u32,
        buffer: Option<&ReplayBuffer>,
    ) -> Result<Sources> {
        let learned = if self == Self::Control { 1 } else { task };
        let (_, new) = (stream.task(task)?, stream.task(learned)?.train().to_vec());
        let replayed = match self {
            Self::None | Self::Control => Vec::new(),
            Self::Joint => stream.earlier(task),
            Self::Replay(_) if task == 1 => Vec::new(),
            Self::Replay(_) => buffered(stream, task, buffer)?,
        };
        Ok(Sources { task, new, replayed })
    }
}

fn buffered(
    stream: &TaskStream,
    task: u32,
    buffer: Option<&ReplayBuffer>,
) -> Result<Vec<ExampleId>> {
    let seen = buffer.map_or(0, ReplayBuffer::n_finished);
    match buffer {
        Some(buffer) if seen + 1 == task => buffer.verify(stream).map(|()| buffer.ids()),
        _ => Err(ContinualError::TaskOutOfOrder { seen, task }),
    }
}

impl FromStr for Arm {
    type Err = ContinualError;

    fn from_str(name: &str) -> Result<Self> {
        Self::all().into_iter().find(|arm| arm.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::all().into_iter().map(Self::name).collect();
            let expected = format!("one of {}", names.join(", "));
            ContinualError::UnknownName { kind: "arm", name: name.to_owned(), expected }
        })
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClassId, LabelledExample, Split};

    /// Three tasks of one class with four training examples each: 0, 3, … then 1, 4, … and so on.
    fn stream() -> TaskStream {
        let groups: Vec<Vec<ClassId>> = (0..3).map(|c| vec![ClassId(c)]).collect();
        let example = |i: u32| LabelledExample {
            id: ExampleId(u64::from(i)),
            class: ClassId(i % 3),
            split: Split::Train,
        };
        TaskStream::new(&groups, &(0..12).map(example).collect::<Vec<_>>()).unwrap()
    }

    fn ids<const N: usize>(ids: [u64; N]) -> Vec<ExampleId> {
        ids.map(ExampleId).to_vec()
    }

    #[test]
    fn each_arm_trains_on_its_own_sources() {
        let stream = stream();
        let mut buffer = ReplayBuffer::new(2).unwrap();
        buffer
            .finish_task(stream.task(1).unwrap(), |request| {
                Ok::<_, ContinualError>(request.ids[2..].to_vec())
            })
            .unwrap();
        let sources = |arm: Arm, task| arm.sources(&stream, task, Some(&buffer)).unwrap();
        let (new, random) = (ids([1, 4, 7, 10]), Arm::Replay(Policy::Random));
        assert_eq!(sources(Arm::None, 2), Sources { task: 2, new: new.clone(), replayed: vec![] });
        let expected = Sources { task: 2, new: new.clone(), replayed: ids([6, 9]) };
        assert_eq!(sources(random, 2), expected);
        assert_eq!(sources(Arm::Joint, 2), Sources { task: 2, new, replayed: ids([0, 3, 6, 9]) });
        let first = ids([0, 3, 6, 9]);
        assert_eq!(sources(Arm::Control, 3), Sources { task: 3, new: first, replayed: vec![] });
        assert_eq!(sources(Arm::Joint, 3).replayed, ids([0, 1, 3, 4, 6, 7, 9, 10]));
    }

    #[test]
    fn the_first_task_is_the_same_for_every_arm() {
        let stream = stream();
        let same = Sources { task: 1, new: ids([0, 3, 6, 9]), replayed: vec![] };
        for arm in Arm::all() {
            assert_eq!(arm.sources(&stream, 1, None).unwrap(), same, "{arm}");
        }
    }

    #[test]
    fn a_buffer_of_another_moment_is_refused() {
        let stream = stream();
        let arm = Arm::Replay(Policy::Random);
        let empty = ReplayBuffer::new(2).unwrap();
        assert!(arm.sources(&stream, 2, None).is_err());
        assert!(arm.sources(&stream, 2, Some(&empty)).is_err());
        let foreign: ReplayBuffer =
            serde_json::from_str(r#"{"capacity":2,"tasks":[[0,1]]}"#).unwrap();
        let error = arm.sources(&stream, 2, Some(&foreign)).unwrap_err().to_string();
        assert!(error.contains("example 1"), "{error}");
        let later: ReplayBuffer =
            serde_json::from_str(r#"{"capacity":2,"tasks":[[0],[1]]}"#).unwrap();
        let error = arm.sources(&stream, 2, Some(&later)).unwrap_err();
        assert_eq!(error, ContinualError::TaskOutOfOrder { seen: 2, task: 2 });
        assert!(Arm::None.sources(&stream, 4, None).is_err());
        assert!(Arm::Control.sources(&stream, 0, None).is_err());
    }

    #[test]
    fn names_round_trip() {
        assert_eq!(Arm::all().len(), 17);
        for arm in Arm::all() {
            assert_eq!(arm.to_string().parse::<Arm>().unwrap(), arm);
        }
        let error = "everything".parse::<Arm>().unwrap_err().to_string();
        assert!(error.contains("unknown arm `everything`") && error.contains("control"), "{error}");
    }
}
