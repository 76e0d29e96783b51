//! Protocols as pure functions between bytes and calls. No I/O, no async, no engine: what parses here can be fuzzed alone.

pub(crate) mod open_inference;
