//! Functions: verified bundles that wake, answer and go back to zero.
//!
//! [`Engine::deploy`] turns a manifest and a [`Verified`](torpor_bundle::Verified) bundle into a [`Function`], which is cold.
//! [`Function::predict`] and [`Function::http`] wake it, run it in a fresh sandboxed instance, and let it sleep again when it
//! has been idle for long enough. This is the only crate that knows wasmtime: no type of wasmtime, of a WASI crate or of a
//! backend is in its interface. It knows no protocol either; an HTTP call is a plain [`http::Request`].

/// What fuzz targets reach, which is nobody else's business.
#[doc(hidden)]
pub mod fuzzing {
    /// Reads every kind of argument from a guest's memory.
    pub fn witx_arguments(memory: &[u8], pointer: u32, length: u32) {
        let _ = crate::abi::tensor(memory, pointer);
        let _ = crate::abi::text(memory, pointer, length);
        let _ = crate::abi::single_part(memory, pointer, 1);
        let _ = crate::abi::write(&mut memory.to_vec(), pointer, memory);
    }

    /// Makes a response of what a program wrote.
    pub fn command_output(output: &[u8]) {
        let response = crate::command::response(&bytes::Bytes::copy_from_slice(output));
        assert!(output.ends_with(response.body()));
    }
}

mod abi;
mod bindings;
mod budget;
mod cache;
mod call;
mod command;
mod console;
mod derived;
mod engine;
mod error;
mod exit;
mod files;
mod function;
mod guest;
mod inference;
mod keeper;
mod kept;
mod libraries;
mod lifecycle;
mod load;
mod memory;
mod optimized;
mod pace;
mod precompiled;
mod snapshot;
mod statistics;
mod status;
mod ticker;
mod trace;
mod warm;
mod wasi_nn;
mod witx;

pub use cache::{CacheStatus, Forwarded};
pub use call::{Answer, Incomplete, RequestBody, ResponseBody, Timing};
pub use engine::{Config, Engine};
pub use error::{CallError, DeployError, Error};
pub use exit::exit;
pub use function::Function;
pub use lifecycle::State;
pub use snapshot::{SnapshotError, snapshot};
pub use statistics::{Batches, Statistics, Total};
pub use status::{FunctionStatus, ModelStatus, TriggerStatus};
pub use trace::Trace;
pub use warm::{Labels, OpenedModel, Processors, WakeTiming, check_batches};
