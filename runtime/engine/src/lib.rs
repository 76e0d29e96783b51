//! Functions: verified bundles that wake, answer and go back to zero.
//!
//! [`Engine::deploy`] turns a manifest and a [`Verified`](torpor_bundle::Verified) bundle into a [`Function`], which is cold.
//! [`Function::predict`] and [`Function::http`] wake it, run it in a fresh sandboxed instance, and let it sleep again when it
//! has been idle for long enough. This is the only crate that knows wasmtime: no type of wasmtime, of a WASI crate or of a
//! backend is in its interface. It knows no protocol either; an HTTP call is a plain [`http::Request`].

mod bindings;
mod call;
mod console;
mod derived;
mod engine;
mod error;
mod function;
mod guest;
mod lifecycle;
mod memory;
mod optimized;
mod precompiled;
mod status;
mod ticker;
mod warm;
mod wasi_nn;

pub use call::{Answer, Incomplete, RequestBody, ResponseBody, Timing};
pub use engine::{Config, Engine};
pub use error::{CallError, DeployError, Error};
pub use function::Function;
pub use lifecycle::State;
pub use status::{FunctionStatus, ModelStatus, TriggerStatus};
pub use warm::WakeTiming;
