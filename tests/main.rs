//! Laws that cross rooms.
//!
//! - `parity`: networks against golden tensors from the Python originals.

mod parity;
