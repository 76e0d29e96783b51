//! Side-by-side measurements against the native floor.
