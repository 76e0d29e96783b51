//! For fuzz targets, and for a test that needs a process of its own: what is not public.

use crate::{
    sandbox::{self, Limits},
    wire,
};
use std::path::Path;

/// Any bytes that a worker wrote are an answer, or are refused.
pub fn worker_answer(bytes: &[u8]) {
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let _ = wire::read_answer(bytes.clone());
    let _ = wire::read_opened(bytes.clone());
    let _ = wire::read_optimized(bytes);
}

/// Shuts this process in with `model`, as a worker does before it opens one.
///
/// # Errors
/// When the kernel does not let it.
pub fn enter(model: &Path, memory: u64) -> Result<(), String> {
    sandbox::enter(&Limits { model, weights: None, out: None, library: None, memory, lanes: 1, threads: 1 })
}

/// Opens no file from now on, as a worker does when its model is open.
///
/// # Errors
/// When the kernel does not let it.
pub fn close_files() -> Result<(), String> {
    sandbox::close_files()
}
