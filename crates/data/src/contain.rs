//! A decoder's panic as an error.
//!
//! The image and Parquet decoders report most damage as errors, but a few assertions remain in them: the Parquet one
//! panics on a byte array that is longer than its page. One bad file must not end the program before the others are
//! listed, so every call into a decoder goes through here, and no word of it is printed but the error's own.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// What `decode` returns, or `given_up` if it panics.
///
/// Whatever `decode` borrows mutably may be left half changed and must not be used after `given_up`.
pub(crate) fn contain<T, E>(
    given_up: impl FnOnce() -> E,
    decode: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_CONTAINED.get() {
                before(info);
            }
        }));
    });
    let outer = IS_CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(decode));
    IS_CONTAINED.set(outer);
    outcome.unwrap_or_else(|_| Err(given_up()))
}

thread_local! {
    /// Whether this thread is inside a decoder: a panic there is an error that is told by its file.
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

#[cfg(test)]
mod tests {
    use super::contain;

    #[test]
    fn a_panic_is_an_error_and_a_result_passes() {
        let panicked: Result<u8, &str> = contain(|| "gave up", || panic!("an assertion"));
        assert_eq!(panicked, Err("gave up"));
        assert_eq!(contain(|| "gave up", || Ok::<_, &str>(3)), Ok(3));
        assert_eq!(contain(|| "gave up", || Err::<u8, _>("broken")), Err("broken"));
    }
}
