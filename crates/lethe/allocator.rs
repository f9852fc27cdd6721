//! The allocator of this house's programs: what it is told, and what it says when there is no memory left.

use crate::exit::Fault;
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// mimalloc, which ends the process in words where the system refuses memory; Rust itself would abort.
///
/// Every tensor operation allocates: the system's allocator spends a third of a step in page faults.
pub struct Allocator;

// SAFETY: every call is passed on to mimalloc as it is; a null pointer never reaches the caller.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        expect(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        expect(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        expect(unsafe { MiMalloc.realloc(place, layout, size) }, size)
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.dealloc(place, layout) }
    }
}

fn expect(place: *mut u8, size: usize) -> *mut u8 {
    if place.is_null() { end(size) } else { place }
}

/// Says what is missing, once, and ends as a kill would: what was committed stays.
#[cold]
fn end(size: usize) -> ! {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        // Standard error has no buffer, and numbers are written without one: nothing is allocated here.
        let _ = writeln!(
            std::io::stderr(),
            "error: the system refused {size} bytes of memory; give more (`lethe plan` says how much a run takes), or ask for \
             less at once: a smaller batch, fewer or smaller images; what was committed stays, and the same command goes on"
        );
    }
    signal_hook::low_level::exit(i32::from(Fault::Memory.code()))
}

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
