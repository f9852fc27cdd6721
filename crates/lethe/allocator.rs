//! The allocator of this house's programs, and what it is told.

/// Keeps freed memory for what comes next instead of giving it back to the system.
///
/// A training step frees and takes the same gigabytes again and again. Given back and taken again, every page is cleared by
/// the system each time: more than a third of a step of a large network. `MIMALLOC_PURGE_DELAY`, where it is set, has the
/// last word.
pub fn keep_freed_memory() {
    /// `mi_option_purge_delay` of mimalloc 3, whose bindings name only a few options.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const NEVER: std::ffi::c_long = -1;
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: called before there are other threads; the option exists, and any number is a value of it.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, NEVER) };
    }
}
