//! tract as a backend: pure Rust, always there.
