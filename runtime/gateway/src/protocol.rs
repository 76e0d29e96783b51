//! Protocols as pure functions between bytes and calls. No I/O, no async, no engine: what parses here can be fuzzed alone.

pub(crate) mod classification;
pub(crate) mod encoding;
pub(crate) mod json;
pub(crate) mod media;
pub(crate) mod mlflow;
pub(crate) mod open_inference;
pub(crate) mod openai;
pub(crate) mod openapi;
mod table;
pub(crate) mod tf_serving;
pub(crate) mod torchserve;

pub(crate) use table::page;
pub use table::{Carried, PROTOCOLS, Protocol};

/// What is wrong with a request. The text is for the caller.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// A caller's word as it may stand in a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
