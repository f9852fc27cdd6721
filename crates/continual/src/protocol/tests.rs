//! A stream's arms, batches and refusals.

use super::*;
use crate::{ExampleId, LabelledExample, Policy, Split};

fn stream_spec(text: &str) -> Result<StreamPlan> {
    toml::from_str::<StreamSpec>(text).unwrap().validate()
}

fn replay_spec(text: &str) -> Result<ReplayPlan> {
    toml::from_str::<ReplaySpec>(text).unwrap().validate()
}

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

/// One class per task, `sizes[i]` training examples in task i + 1.
fn stream(sizes: &[u64]) -> TaskStream {
    let groups: Vec<Vec<ClassId>> = (0..sizes.len() as u32).map(|c| vec![ClassId(c)]).collect();
    let class = |class: u32| {
        (0..sizes[class as usize]).map(move |i| LabelledExample {
            id: ExampleId(u64::from(class) * 10_000 + i),
            class: ClassId(class),
            split: Split::Train,
        })
    };
    let examples: Vec<LabelledExample> = (0..sizes.len() as u32).flat_map(class).collect();
    TaskStream::new(&groups, &examples).unwrap()
}

fn classes(groups: Vec<Vec<ClassId>>) -> Vec<Vec<u32>> {
    groups.into_iter().map(|group| group.into_iter().map(|class| class.0).collect()).collect()
}

#[test]
fn tasks_come_from_groups_or_from_an_order() {
    let groups = |text, n| classes(stream_spec(text).unwrap().groups(n).unwrap());
    assert_eq!(groups("tasks = [[0, 3], [1]]", 10), [vec![0, 3], vec![1]]);
    assert_eq!(groups("classes_per_task = 2", 4), [[0, 1], [2, 3]]);
    assert_eq!(groups("classes_per_task = 2\norder = 'reversed'", 4), [[3, 2], [1, 0]]);
    let clog = groups("classes_per_task = 5\norder = 'clog-1'", 10);
    assert_eq!(clog, [[4, 2, 5, 0, 7], [8, 6, 9, 3, 1]]);
}

#[test]
fn contradictory_streams_are_refused_before_any_data() {
    for (text, cause) in [
        ("", "got neither"),
        ("tasks = [[0], [1]]\nclasses_per_task = 1", "`classes_per_task` as well"),
        ("tasks = [[0], [1]]\norder = 'natural'", "`order` as well"),
        ("classes_per_task = 1\norder = 'random'", "`stream.order`: expected natural"),
        ("tasks = [[0, 1], [1, 2]]", "class 1 is in task 1 and again in task 2"),
        ("tasks = [[0], []]", "task 2 has no class"),
        ("tasks = [[0, 1]]", "two tasks or more"),
    ] {
        let error = refusal(stream_spec(text));
        assert!(error.contains(cause), "{text}: {error}");
    }
    for size in [0, 3, 10, 11] {
        let plan = stream_spec(&format!("classes_per_task = {size}")).unwrap();
        let error = refusal(plan.groups(10));
        assert!(error.contains("`stream.classes_per_task`") && error.ends_with(&size.to_string()));
    }
    assert!(stream_spec("classes_per_task = 1").unwrap().groups(0).is_err());
}

#[test]
fn unknown_keys_are_refused() {
    let error = toml::from_str::<ReplaySpec>("budgets = 3").unwrap_err().to_string();
    assert!(error.contains("unknown field `budgets`") && error.contains("`budget`"), "{error}");
    let error = toml::from_str::<StreamSpec>("class_order = 'natural'").unwrap_err().to_string();
    assert!(error.contains("unknown field `class_order`"), "{error}");
}

#[test]
fn the_default_replay_is_valid() {
    let plan = replay_spec("").unwrap();
    assert_eq!(plan.arms().len(), 6);
    assert_eq!(plan.arms()[1], Arm::Replay(Policy::Random));
    assert_eq!(plan.balance(), Balance::PerClass);
    assert_eq!(plan.capacity(&stream(&[1_000, 7])).unwrap(), 50);
    let mixture = plan.mixture(256).unwrap();
    assert_eq!((mixture.new_per_batch(), mixture.replay_per_batch()), (256, 64));
}

#[test]
fn specs_survive_being_saved_and_read_again() {
    for text in ["", "budget = 40\nper_batch = 16\narms = ['greedy']\nbalance = 'none'"] {
        let spec: ReplaySpec = toml::from_str(text).unwrap();
        let saved = toml::to_string(&spec).unwrap();
        assert_eq!(toml::from_str::<ReplaySpec>(&saved).unwrap(), spec, "{saved}");
    }
    for text in ["tasks = [[0, 1], [2]]", "order = 'shuffled:3'\nclasses_per_task = 2"] {
        let spec: StreamSpec = toml::from_str(text).unwrap();
        let saved = toml::to_string(&spec).unwrap();
        assert_eq!(toml::from_str::<StreamSpec>(&saved).unwrap(), spec, "{saved}");
    }
}

#[test]
fn every_refusal_names_its_field() {
    for (text, cause) in [
        ("budget = 0", "`replay.budget`: expected a count"),
        ("budget = 0.05", "`replay.budget`: expected a count"),
        ("budget = '200'", "got \"200\""),
        ("per_batch = -1", "`replay.per_batch`: expected a count"),
        ("per_batch = '100%'", "`replay.per_batch`: expected less than the whole batch"),
        ("arms = []", "`replay.arms`: expected at least one arm"),
        ("arms = ['none', 'none']", "`replay.arms`: expected every arm once, got `none` twice"),
        ("arms = ['topenergy']", "`replay.arms`: expected one of none, joint"),
        ("balance = 'class'", "`replay.balance`: expected per-class or none, got `class`"),
    ] {
        let error = refusal(replay_spec(text));
        assert!(error.contains(cause), "{text}: {error}");
    }
    let error = toml::from_str::<ReplaySpec>("budget = [3]").unwrap_err().to_string();
    assert!(error.contains("expected a count such as 200"), "{error}");
}

#[test]
fn the_budget_must_fit_every_task_that_enters_the_buffer() {
    let capacity = |budget: &str, sizes: &[u64]| {
        replay_spec(&format!("budget = {budget}")).unwrap().capacity(&stream(sizes))
    };
    assert_eq!(capacity("20", &[20, 5]), Ok(20));
    let error = refusal(capacity("21", &[20, 500]));
    assert!(error.contains("a buffer of 21 is larger than task 1, which has 20"), "{error}");
    let error = refusal(capacity("21", &[100, 20, 100]));
    assert!(error.contains("task 2"), "{error}");
    assert!(refusal(capacity("9223372036854775807", &[20, 20])).contains("9223372036854775807"));
    // Percentages are of all tasks but the last, and round to the nearest.
    assert_eq!(capacity("'10%'", &[100, 150, 900]), Ok(25));
    assert_eq!(capacity("'100%'", &[100, 1]), Ok(100));
    assert!(refusal(capacity("'1%'", &[40, 900])).contains("none of 40"));
}

#[test]
fn the_mixture_follows_the_share() {
    let mixture = |text: &str, new| {
        let mixture = replay_spec(text)?.mixture(new)?;
        Ok::<_, ContinualError>((mixture.new_per_batch(), mixture.replay_per_batch()))
    };
    assert_eq!(mixture("per_batch = '50%'", 16), Ok((16, 16)));
    assert_eq!(mixture("per_batch = 5", 16), Ok((16, 5)));
    assert!(refusal(mixture("per_batch = '1%'", 16)).contains("none beside 16"));
    assert!(refusal(mixture("per_batch = '99.9999999999999%'", 16)).contains("in all"));
    assert!(mixture("per_batch = 9223372036854775807", 16).is_err());
    assert!(mixture("per_batch = 5", 0).is_err());
}
