//! The protocol: tasks, stream, replay buffer and selection policies over ids and plain numbers.
//!
//! A [`TaskStream`] says which examples come in which task; an [`Arm`] says how to go on from one
//! task to the next; a [`ReplayBuffer`] keeps what a [`Selector`] chose of the tasks behind; and a
//! [`Mixture`] says which examples make up each batch.
//! [`StreamSpec`] and [`ReplaySpec`] are the same in the words of a protocol file.
//!
//! This room knows no tensor, no file and no clock.
//! Energies, losses and features reach it as numbers, randomness as an argument, and what it says
//! depends on nothing else: not on the order of its inputs, not on when it is asked.
//!
//! ```
//! use lethe_continual::*;
//!
//! // Two tasks of two classes; 20 examples, every one in the training part.
//! let examples: Vec<LabelledExample> = (0..20)
//!     .map(|i| LabelledExample { id: ExampleId(i), class: ClassId(i as u32 % 4), split: Split::Train })
//!     .collect();
//! let stream_spec = StreamSpec { classes_per_task: Some(2), ..StreamSpec::default() };
//! let stream = TaskStream::new(&stream_spec.validate()?.groups(4)?, &examples)?;
//!
//! // A caller makes words from its seed; a counter-based generator has one sequence per key.
//! let words = |key: DrawKey| {
//!     let mut state = 42 + key.index + (u64::from(key.task) << 32) + ((key.stream as u64) << 48);
//!     move || {
//!         state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
//!         state
//!     }
//! };
//!
//! // After task 1 the arm `top-energy` keeps the four examples of highest energy, two per class.
//! let replay = ReplaySpec { budget: AmountSpec::Count(4), ..ReplaySpec::default() }.validate()?;
//! let arm: Arm = "top-energy".parse()?;
//! let selector = Selector { policy: arm.policy().expect("it replays"), balance: replay.balance() };
//! let energy = |id: ExampleId| -1.0 / (id.0 + 1) as f64;
//! let mut buffer = ReplayBuffer::new(replay.capacity(&stream)?)?;
//! buffer.finish_task(stream.task(1)?, |request| {
//!     let candidates: Vec<Candidate> = (request.ids.iter())
//!         .map(|&id| Candidate { id, class: ClassId(id.0 as u32 % 4), priority: Some(energy(id)) })
//!         .collect();
//!     let mut draws = words(request.key());
//!     selector.select(&candidates, request.quota, Evidence::default(), &mut draws)
//! })?;
//! assert_eq!(buffer.ids(), [12, 13, 16, 17].map(ExampleId));
//!
//! // Task 2: eight new examples in each batch and two of the buffer beside them.
//! let sources = arm.sources(&stream, 2, Some(&buffer))?;
//! let batch = replay.mixture(8)?.batch(&sources, 0, words)?;
//! assert_eq!((batch.new.len(), batch.replayed.len()), (8, 2));
//! # Ok::<(), ContinualError>(())
//! ```

mod amount;
mod arm;
mod buffer;
mod draws;
mod error;
mod example;
mod mixture;
mod order;
pub mod policy;
mod protocol;
mod stream;
mod task;

pub use amount::AmountSpec;
pub use arm::{Arm, Sources};
pub use buffer::{ReplayBuffer, SelectionRequest};
pub use draws::{DrawKey, DrawStream, Draws};
pub use error::ContinualError;
pub use example::{ClassId, ExampleId, LabelledExample, Split};
pub use mixture::{Batch, Mixture};
pub use order::{ClassOrder, ClogOrder};
pub use policy::{
    Balance, Candidate, Coverage, Evidence, Features, Needs, Policy, SelectionPolicy, Selector,
    replay_gain,
};
pub use protocol::{ReplayPlan, ReplaySpec, StreamPlan, StreamSpec};
pub use stream::TaskStream;
pub use task::Task;
