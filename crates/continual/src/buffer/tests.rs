//! Laws of the buffer: its size, its shares, and what stays when a task is added.

use proptest::prelude::*;

use super::*;
use crate::{
    Balance, Candidate, ClassId, Evidence, LabelledExample, Needs, Policy, Selector, Split,
    draws::tests::split_mix,
};

/// One class per task; task i + 1 has `sizes[i]` training examples and one held out.
fn stream(sizes: &[usize]) -> TaskStream {
    let groups: Vec<Vec<ClassId>> = (0..sizes.len() as u32).map(|c| vec![ClassId(c)]).collect();
    let mut examples = Vec::new();
    for (class, &size) in sizes.iter().enumerate() {
        for i in 0..=size {
            // Ids of the tasks are interleaved.
            let id = ExampleId((i * sizes.len() + class) as u64);
            let split = if i == size { Split::HeldOut } else { Split::Train };
            examples.push(LabelledExample { id, class: ClassId(class as u32), split });
        }
    }
    TaskStream::new(&groups, &examples).unwrap()
}

fn first(request: SelectionRequest<'_>) -> Result<Vec<ExampleId>> {
    Ok(request.ids[..request.quota].to_vec())
}

fn select(policy: Policy) -> impl FnMut(SelectionRequest<'_>) -> Result<Vec<ExampleId>> {
    move |request| {
        let priority = |id: ExampleId| Some((id.0 * 7 % 13) as f64);
        let candidate =
            |&id: &ExampleId| Candidate { id, class: ClassId(0), priority: priority(id) };
        let candidates: Vec<Candidate> = request.ids.iter().map(candidate).collect();
        let selector = Selector { policy, balance: Balance::PerClass };
        let draws = &mut split_mix(u64::from(request.task));
        selector.select(&candidates, request.quota, Evidence::default(), draws)
    }
}

fn numeric_policies() -> Vec<Policy> {
    let beyond_numbers = [Needs::Features, Needs::Coverage, Needs::Gradients];
    Policy::ALL.into_iter().filter(|policy| !beyond_numbers.contains(&policy.needs())).collect()
}

proptest! {
    #![proptest_config(crate::draws::tests::repeatable())]

    #[test]
    fn invariants_hold_after_every_task(
        sizes in prop::collection::vec(1_usize..30, 2..7),
        capacity in 1_usize..40,
        policy in prop::sample::select(numeric_policies()),
    ) {
        let stream = stream(&sizes);
        let mut buffer = ReplayBuffer::new(capacity)?;
        for task in stream.tasks() {
            let before = buffer.ids();
            buffer.finish_task(task, select(policy))?;
            let ids = buffer.ids();
            prop_assert!(ids.len() <= capacity);
            prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
            // Nothing returns, nothing comes from the future or from the held-out side.
            let allowed = |id: &ExampleId| before.contains(id) || task.train().contains(id);
            prop_assert!(ids.iter().all(allowed));
            buffer.verify(&stream)?;
            let text = serde_json::to_string(&buffer)?;
            prop_assert_eq!(serde_json::from_str::<ReplayBuffer>(&text)?, buffer.clone());
        }
    }

    #[test]
    fn shares_are_even_full_and_never_grow(capacity in 1_usize..200, n_tasks in 1_u32..12) {
        let shares: Vec<usize> = (1..=n_tasks).map(|t| share(capacity, n_tasks, t)).collect();
        prop_assert_eq!(shares.iter().sum::<usize>(), capacity);
        prop_assert!(shares.is_sorted_by(|a, b| a >= b && a - b <= 1));
        prop_assert!(shares[0] - shares[shares.len() - 1] <= 1);
        for task in 1..=n_tasks {
            prop_assert!(share(capacity, n_tasks + 1, task) <= share(capacity, n_tasks, task));
        }
    }
}

#[test]
fn capacity_is_divided_anew_after_every_task() {
    let stream = stream(&[20, 20, 20]);
    let mut buffer = ReplayBuffer::new(10).unwrap();
    let mut lengths = Vec::new();
    for task in stream.tasks() {
        buffer.finish_task(task, first).unwrap();
        lengths.push(buffer.tasks().iter().map(Vec::len).collect::<Vec<_>>());
    }
    assert_eq!(lengths, [vec![10], vec![5, 5], vec![4, 3, 3]]);
}

#[test]
fn requests_name_the_task_and_its_remaining_ids() {
    let stream = stream(&[4, 4]);
    let mut buffer = ReplayBuffer::new(2).unwrap();
    let mut seen = Vec::new();
    for task in stream.tasks() {
        let spy = |request: SelectionRequest<'_>| {
            seen.push((request.finished, request.task, request.ids.len(), request.quota));
            first(request)
        };
        buffer.finish_task(task, spy).unwrap();
    }
    assert_eq!(seen, [(1, 1, 4, 2), (2, 1, 2, 1), (2, 2, 4, 1)]);
}

#[test]
fn a_small_capacity_leaves_late_tasks_without_a_share() {
    let stream = stream(&[4, 4, 4]);
    let mut buffer = ReplayBuffer::new(2).unwrap();
    for task in stream.tasks() {
        buffer.finish_task(task, first).unwrap();
    }
    assert_eq!(buffer.tasks().iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0]);
}

#[test]
fn tasks_are_finished_in_order_and_once() {
    let stream = stream(&[4, 4]);
    let mut buffer = ReplayBuffer::new(2).unwrap();
    let error = buffer.finish_task(&stream.tasks()[1], first).unwrap_err().to_string();
    assert!(error.contains("expected task 1 next, got task 2"), "{error}");
    buffer.finish_task(&stream.tasks()[0], first).unwrap();
    let error = buffer.finish_task(&stream.tasks()[0], first).unwrap_err().to_string();
    assert!(error.contains("expected task 2 next, got task 1"), "{error}");
}

#[test]
fn a_selection_that_was_not_asked_for_changes_nothing() {
    let stream = stream(&[4, 4]);
    let mut buffer = ReplayBuffer::new(2).unwrap();
    buffer.finish_task(&stream.tasks()[0], first).unwrap();
    let before = buffer.clone();
    type Answer = fn(&[ExampleId]) -> Vec<ExampleId>;
    let answers: [Answer; 4] = [
        |ids| ids[..0].to_vec(),
        |ids| ids[..2].to_vec(),
        |_| vec![ExampleId(999)],
        |ids| vec![ids[0], ids[0]],
    ];
    for answer in answers {
        let wrong = |request: SelectionRequest<'_>| Ok(answer(request.ids));
        let error: ContinualError = buffer.finish_task(&stream.tasks()[1], wrong).unwrap_err();
        assert!(matches!(error, ContinualError::Selection { task: 1, .. }), "{error}");
        assert_eq!(buffer, before);
    }
}

#[test]
fn a_damaged_buffer_is_refused() {
    let read = |text: &str| serde_json::from_str::<ReplayBuffer>(text);
    assert!(read(r#"{"capacity":3,"tasks":[[1,2],[5]]}"#).is_ok());
    for (text, cause) in [
        (r#"{"capacity":0,"tasks":[]}"#, "at least one example"),
        (r#"{"capacity":3,"tasks":[[1,2,3],[5]]}"#, "tasks[0]: expected at most 2 ids"),
        (r#"{"capacity":2,"tasks":[[1],[5,6]]}"#, "tasks[1]: expected at most 1 ids"),
        (r#"{"capacity":3,"tasks":[[2,1]]}"#, "ascending"),
        (r#"{"capacity":3,"tasks":[[2,2]]}"#, "example 2 twice"),
        (r#"{"capacity":4,"tasks":[[1,2],[2,3]]}"#, "example 2 twice"),
        (r#"{"capacity":3,"tasks":[],"extra":1}"#, "unknown field `extra`"),
        (r#"{"capacity":3,"tasks":[[1.5]]}"#, "1.5"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(cause), "{text}: {error}");
    }
}

#[test]
fn examples_of_other_tasks_are_found() {
    let stream = stream(&[4, 4]);
    let read = |text: &str| serde_json::from_str::<ReplayBuffer>(text).unwrap();
    // Even ids are task 1, of which 8 is held out.
    assert!(read(r#"{"capacity":4,"tasks":[[0,2],[1,3]]}"#).verify(&stream).is_ok());
    for (text, culprit) in [
        (r#"{"capacity":4,"tasks":[[0,3]]}"#, "example 3"),
        (r#"{"capacity":4,"tasks":[[0,8]]}"#, "example 8"),
        (r#"{"capacity":4,"tasks":[[0],[1],[]]}"#, "no task 3"),
    ] {
        let error = read(text).verify(&stream).unwrap_err().to_string();
        assert!(error.contains(culprit), "{error}");
    }
}
