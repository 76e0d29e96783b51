//! Backends in processes of their own: a model that crashes, hangs, takes all memory or is hostile harms only its own requests.
//!
//! The host's side is [`Workers`], which wraps any [`torpor_nn::Backend`] in one that opens each model in a worker process. The
//! worker's side is [`serve`], which does what it is told with a real backend; which one, only its caller knows. Between them are
//! channels for small packets (`channel`), memory that both write (`region`), and messages in it (`wire`). This crate starts no
//! thread and no process until a function is deployed that asks for it.
//!
//! It is for Linux; elsewhere it is empty.

#![cfg(target_os = "linux")]

mod channel;
#[doc(hidden)]
pub mod fuzzing;
mod isolated;
mod keeper;
mod lane;
mod pool;
mod process;
mod region;
mod sandbox;
mod serve;
mod session;
mod wire;

pub use isolated::Workers;
pub use process::Program;
pub use sandbox::{Confinement, Places};
pub use serve::{NoHost, serve};
