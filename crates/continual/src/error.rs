//! Everything this room refuses, each with its cause and what to do.

use thiserror::Error;

use crate::{ClassId, ExampleId};

/// Why a protocol, a selection or a buffer was refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ContinualError {
    /// A field of the protocol has a value outside its domain.
    #[error("`{field}`: expected {expected}, got {got}")]
    Field {
        /// The field as the protocol file writes it, such as `replay.budget`.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A name that no policy, arm, order or balance has.
    #[error("unknown {kind} `{name}`: expected {expected}")]
    UnknownName {
        /// What was looked for: "arm", "policy", "class order", "balance".
        kind: &'static str,
        /// The name as given.
        name: String,
        /// The names that exist.
        expected: String,
    },
    /// Tasks overlap, or one task names a class twice.
    #[error(
        "`stream.tasks`: class {class} is in task {first} and again in task {second}; \
         a class belongs to exactly one task: remove one of the two"
    )]
    ClassTwice {
        /// The class.
        class: ClassId,
        /// The task that names it first.
        first: u32,
        /// The task that names it again (the same number if one task lists it twice).
        second: u32,
    },
    /// A task names a class that no example carries.
    #[error("`stream.tasks`: class {class} of task {task} has no example; the data hold {known}")]
    UnknownClass {
        /// The class.
        class: ClassId,
        /// The task that names it.
        task: u32,
        /// The classes that do have examples, in words.
        known: String,
    },
    /// All examples of a class are held out.
    #[error(
        "class {class} of task {task} has held-out examples only; \
         lower the held-out share or leave the class out"
    )]
    NoTrainingExample {
        /// The class.
        class: ClassId,
        /// The task that names it.
        task: u32,
    },
    /// A task without classes.
    #[error("`stream.tasks`: task {task} has no class; give it one or remove it")]
    EmptyTask {
        /// The task.
        task: u32,
    },
    /// The same example was listed twice.
    #[error("example {example} is listed twice; ids must be unique")]
    ExampleTwice {
        /// The example.
        example: ExampleId,
    },
    /// The stream has no task of that number.
    #[error("there is no task {task}: expected 1 to {n_tasks}")]
    NoSuchTask {
        /// The number asked for.
        task: u32,
        /// How many tasks there are.
        n_tasks: u32,
    },
    /// The buffer is larger than a task that it should select from.
    #[error(
        "`replay.budget`: a buffer of {budget} is larger than task {task}, \
         which has {size} training examples; lower the budget"
    )]
    BudgetAboveTask {
        /// The buffer's capacity, in examples.
        budget: u64,
        /// The task.
        task: u32,
        /// Its training examples.
        size: usize,
    },
    /// A policy that ranks its candidates met one without a number, or with a NaN or an infinity.
    #[error(
        "example {example}: expected a finite priority to rank it by, got {got}; \
         measure every candidate before selecting"
    )]
    Priority {
        /// The example.
        example: ExampleId,
        /// "none", or the value.
        got: String,
    },
    /// A policy was run without the evidence that [`Policy::needs`](crate::Policy::needs) names.
    #[error("policy {policy}: expected {needed}, got none; give it in `Evidence`")]
    NoEvidence {
        /// The policy.
        policy: &'static str,
        /// What it needs.
        needed: &'static str,
    },
    /// The feature vector of one example is missing or unusable.
    #[error("example {example}: expected {expected}, got {got}")]
    Feature {
        /// The example.
        example: ExampleId,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        got: String,
    },
    /// An affinity between a candidate and a target is a NaN or plus infinity, or is unknown.
    #[error("example {example}: its affinity to target {target} is {value}; expected a finite log")]
    Affinity {
        /// The candidate.
        example: ExampleId,
        /// The index of the target.
        target: usize,
        /// The value.
        value: f64,
    },
    /// A selection that is not what the buffer asked for.
    #[error("the selection for task {task} is refused: expected {expected}, got {got}")]
    Selection {
        /// The task whose examples were to be chosen.
        task: u32,
        /// What was asked for.
        expected: String,
        /// What came back.
        got: String,
    },
    /// Tasks must be finished in order, each once.
    #[error("the buffer has taken in {seen} tasks: expected task {} next, got task {task}", seen + 1)]
    TaskOutOfOrder {
        /// How many tasks the buffer has taken in.
        seen: u32,
        /// The task that came.
        task: u32,
    },
    /// A saved buffer breaks an invariant.
    #[error(
        "saved buffer: {field}: expected {expected}, got {got}; restore it from its checkpoint"
    )]
    Buffer {
        /// The field, such as `tasks[0]`.
        field: String,
        /// The invariant.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A batch cannot be drawn from nothing.
    #[error("task {task} has no example to draw a batch from")]
    NothingToDraw {
        /// The task.
        task: u32,
    },
}

/// The result of this room's functions.
pub(crate) type Result<T> = std::result::Result<T, ContinualError>;

/// A [`ContinualError::Field`].
pub(crate) fn field(
    field: &'static str,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> ContinualError {
    ContinualError::Field { field, expected: expected.into(), got: got.into() }
}
