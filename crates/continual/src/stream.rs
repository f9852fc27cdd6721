//! The stream: which classes, and so which examples, come in which task.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ClassId, ContinualError, ExampleId, LabelledExample, Split, Task,
    error::{Result, field},
};

/// Two or more tasks with disjoint classes, learned one after another (class-incremental).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStream {
    tasks: Vec<Task>,
}

impl TaskStream {
    /// Divides `examples` into tasks by class: `groups[i]` are the classes of task i + 1.
    ///
    /// Examples of a class that no group names are not part of the stream.
    /// The order of `examples` has no influence: ids are sorted.
    ///
    /// # Errors
    /// Fewer than two groups, an empty group, a class named twice, a class without a training
    /// example, an example listed twice; each error names the class or example and its tasks.
    pub fn new(groups: &[Vec<ClassId>], examples: &[LabelledExample]) -> Result<Self> {
        let owners = check_groups(groups)?;
        let mut tasks: Vec<Task> = groups.iter().zip(1..).map(empty_task).collect();
        for example in sorted(examples)? {
            if let Some(&number) = owners.get(&example.class) {
                let task = &mut tasks[number as usize - 1];
                match example.split {
                    Split::Train => task.train.push(example.id),
                    Split::HeldOut => task.held_out.push(example.id),
                }
            }
        }
        check_classes(&owners, examples)?;
        Ok(Self { tasks })
    }

    /// All tasks in order.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The task of that number; the first is 1.
    ///
    /// # Errors
    /// [`ContinualError::NoSuchTask`].
    pub fn task(&self, number: u32) -> Result<&Task> {
        let index = (number as usize).checked_sub(1);
        index
            .and_then(|index| self.tasks.get(index))
            .ok_or(ContinualError::NoSuchTask { task: number, n_tasks: self.tasks.len() as u32 })
    }

    /// The training examples of all tasks before task `number`, ascending.
    pub fn earlier(&self, number: u32) -> Vec<ExampleId> {
        let earlier = self.tasks.iter().filter(|task| task.number < number);
        let mut ids: Vec<ExampleId> = earlier.flat_map(|task| task.train.iter().copied()).collect();
        ids.sort_unstable();
        ids
    }
}

fn empty_task((classes, number): (&Vec<ClassId>, u32)) -> Task {
    Task { number, classes: classes.clone(), train: Vec::new(), held_out: Vec::new() }
}

/// Which task each class belongs to, if each belongs to one.
pub(crate) fn check_groups(groups: &[Vec<ClassId>]) -> Result<BTreeMap<ClassId, u32>> {
    if groups.len() < 2 {
        return Err(field("stream.tasks", "two tasks or more", groups.len().to_string()));
    }
    let mut owners = BTreeMap::new();
    for (group, task) in groups.iter().zip(1..) {
        if group.is_empty() {
            return Err(ContinualError::EmptyTask { task });
        }
        for &class in group {
            if let Some(first) = owners.insert(class, task) {
                return Err(ContinualError::ClassTwice { class, first, second: task });
            }
        }
    }
    Ok(owners)
}

fn sorted(examples: &[LabelledExample]) -> Result<Vec<LabelledExample>> {
    let mut examples = examples.to_vec();
    examples.sort_unstable();
    match examples.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(pair) => Err(ContinualError::ExampleTwice { example: pair[0].id }),
        None => Ok(examples),
    }
}

/// Every class of the protocol has something to train on.
fn check_classes(owners: &BTreeMap<ClassId, u32>, examples: &[LabelledExample]) -> Result<()> {
    let known: BTreeSet<ClassId> = examples.iter().map(|example| example.class).collect();
    let train = examples.iter().filter(|example| example.split == Split::Train);
    let trained: BTreeSet<ClassId> = train.map(|example| example.class).collect();
    for (&class, &task) in owners {
        if !known.contains(&class) {
            return Err(ContinualError::UnknownClass { class, task, known: describe(&known) });
        }
        if !trained.contains(&class) {
            return Err(ContinualError::NoTrainingExample { class, task });
        }
    }
    Ok(())
}

fn describe(classes: &BTreeSet<ClassId>) -> String {
    match (classes.first(), classes.last()) {
        (Some(first), Some(last)) => format!("{} classes, {first} to {last}", classes.len()),
        _ => "no example at all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `per_class` examples of each class with ids class, class + C, …; every fifth is held out.
    fn examples(n_classes: u32, per_class: u64) -> Vec<LabelledExample> {
        let ids = 0..per_class * u64::from(n_classes);
        let split =
            |id| if id / u64::from(n_classes) % 5 == 4 { Split::HeldOut } else { Split::Train };
        ids.map(|id| LabelledExample {
            id: ExampleId(id),
            class: ClassId((id % u64::from(n_classes)) as u32),
            split: split(id),
        })
        .collect()
    }

    fn groups(groups: &[&[u32]]) -> Vec<Vec<ClassId>> {
        groups.iter().map(|group| group.iter().copied().map(ClassId).collect()).collect()
    }

    fn refusal(tasks: &[&[u32]]) -> String {
        TaskStream::new(&groups(tasks), &examples(4, 10)).unwrap_err().to_string()
    }

    #[test]
    fn examples_follow_their_class() {
        let stream = TaskStream::new(&groups(&[&[3, 1], &[0]]), &examples(4, 10)).unwrap();
        let first = stream.task(1).unwrap();
        assert_eq!(first.classes(), [ClassId(3), ClassId(1)]);
        assert_eq!(first.held_out(), [17, 19, 37, 39].map(ExampleId));
        assert_eq!(first.train().len(), 16);
        assert!(stream.task(2).unwrap().train().iter().all(|id| id.0 % 4 == 0));
        assert_eq!(stream.earlier(2), first.train());
        assert_eq!(stream.earlier(3).len(), 24);
        assert!(stream.earlier(1).is_empty());
        assert!(stream.task(0).is_err() && stream.task(3).is_err());
    }

    #[test]
    fn overlapping_tasks_name_the_class_and_both_tasks() {
        let error = refusal(&[&[0, 1], &[2], &[1]]);
        assert!(error.contains("class 1 is in task 1 and again in task 3"), "{error}");
        let error = refusal(&[&[0], &[2, 2]]);
        assert!(error.contains("class 2 is in task 2 and again in task 2"), "{error}");
    }

    #[test]
    fn impossible_tasks_are_refused() {
        let error = refusal(&[&[0], &[4]]);
        assert!(
            error.contains("class 4 of task 2") && error.contains("4 classes, 0 to 3"),
            "{error}"
        );
        assert!(refusal(&[&[0], &[]]).contains("task 2 has no class"));
        assert!(refusal(&[&[0, 1]]).contains("expected two tasks or more, got 1"));
        assert!(refusal(&[]).contains("got 0"));
    }

    #[test]
    fn a_class_of_held_out_examples_cannot_be_learned() {
        let mut list = examples(2, 4);
        list.iter_mut().filter(|e| e.class.0 == 1).for_each(|e| e.split = Split::HeldOut);
        let error = TaskStream::new(&groups(&[&[0], &[1]]), &list).unwrap_err();
        assert_eq!(error, ContinualError::NoTrainingExample { class: ClassId(1), task: 2 });
    }

    #[test]
    fn an_example_is_listed_once() {
        let mut list = examples(2, 4);
        list.push(LabelledExample { class: ClassId(1), ..list[0] });
        let error = TaskStream::new(&groups(&[&[0], &[1]]), &list).unwrap_err();
        assert_eq!(error, ContinualError::ExampleTwice { example: ExampleId(0) });
    }

    proptest! {
        #![proptest_config(crate::draws::tests::repeatable())]

        #[test]
        fn tasks_partition_their_examples_whatever_the_input_order(
            list in Just(examples(6, 9)).prop_shuffle(),
            cut in 1_usize..6,
        ) {
            let classes: Vec<ClassId> = (0..6).map(ClassId).collect();
            let stream = TaskStream::new(&[classes[..cut].to_vec(), classes[cut..].to_vec()], &list)?;
            let sides = stream.tasks().iter().flat_map(|t| [t.train(), t.held_out()]);
            let mut ids: Vec<ExampleId> = sides.clone().flatten().copied().collect();
            ids.sort_unstable();
            prop_assert_eq!(ids, (0..54).map(ExampleId).collect::<Vec<_>>());
            prop_assert!(sides.into_iter().all(|side| side.is_sorted()));
        }
    }
}
