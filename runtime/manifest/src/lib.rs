//! Deployment manifests: TOML to checked types, with every mistake at its line and column.
//!
//! A manifest is what the operator wants of one function. [`parse`] either gives a [`Manifest`] in which every value has been
//! checked, or [`Diagnostics`]: all mistakes of the file, each with its place, the text around it and what to write instead.
//! [`check_together`] finds what is wrong only between files, such as one HTTP path taken twice.
//!
//! This crate does no I/O: it never opens the file, the bundle or the folders that a manifest names, and it asks its caller for
//! what an environment variable holds. The binary reads the files; the engine and the gateway see only the checked types.
//! `docs/manifest.md` describes every key for operators, and [`json_schema`] does for editors.

mod check;
mod choice;
mod diagnostic;
mod duration;
mod environment;
mod error;
mod host;
mod json_schema;
mod manifest;
mod name;
#[cfg(test)]
mod page;
mod route;
mod schema;
mod section;
mod size;
mod source;
mod suggest;
mod together;

pub use check::{MAX_TEXT, parse};
pub use choice::{BackendChoice, Device, Isolation, Method, Precision, Priority};
pub use diagnostic::{Diagnostic, Diagnostics, Place};
pub use environment::Lookup;
pub use error::Error;
pub use host::HostPort;
pub use json_schema::json_schema;
pub use manifest::{
    Allow, Batch, Command, EnvValue, FileGrant, HttpCache, HttpTrigger, InferenceTrigger, Limits, Manifest, ModelCache,
    ModelGrant, Pad, Scale, Triggers,
};
pub use name::{FunctionName, ModelName, ShareName};
pub use route::RoutePath;
pub use size::ByteSize;
pub use together::{check_together, mistake};
