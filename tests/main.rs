//! Laws that cross rooms.
