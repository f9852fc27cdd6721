//! A block of a network that keeps its inputs alone in training, and computes the rest a second time.

use candle_core::Result;
use lethe_candlex::rng::StepKey;
use lethe_candlex::tape::{Tape, Value};

/// `f` of `inputs`, with the masks that `dropout` draws; recorded as one step that runs `f` again, where `is_wanted`.
///
/// The step outlives the pass, so `f` owns what it needs of the network, and what masks are drawn by is copied.
///
/// # Errors
/// Those of `f`.
pub fn recomputed<'a, F>(
    tape: &Tape<'a>,
    is_wanted: bool,
    inputs: &[&Value],
    dropout: Option<StepKey>,
    f: F,
) -> Result<Value>
where
    F: Fn(&Tape<'a>, &[Value], Option<StepKey>) -> Result<Value> + 'a,
{
    if !(is_wanted && tape.is_recording()) {
        let inputs: Vec<Value> = inputs.iter().map(|&input| input.clone()).collect();
        return f(tape, &inputs, dropout);
    }
    let examples = dropout.map_or(Vec::new(), |key| key.examples.to_vec());
    let key = dropout.map(|key| (key.seed, key.task, key.step));
    tape.recompute(inputs, move |tape, inputs| {
        let dropout =
            key.map(|(seed, task, step)| StepKey { seed, task, step, examples: &examples });
        f(tape, inputs, dropout)
    })
}
