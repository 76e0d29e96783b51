//! The Torpor host as a library: [`build`] turns a [`Config`] into a [`Host`], and [`Host::run`] serves until told to stop.
//!
//! This is the one place that names all the other crates and puts them together. The binary beside it reads the command line
//! and the environment; nothing below does.

mod advice;
mod backends;
mod changes;
mod deployer;
mod deployments;
mod host;
mod records;

pub use advice::{Advice, help};
pub use backends::{
    Confinement, Libraries, Worker, confinement, isolate, load as load_backends, load_one as load_backend,
};
pub use deployments::{ManifestFile, Variables, check_bundles, read_manifests};
pub use host::{Config, Host, Trust, build};
// The parts whose types `Config` and `Host` show to those who embed the host.
pub use torpor_backend_onnxruntime::forbid_telemetry;
pub use {torpor_engine as engine, torpor_gateway as gateway, torpor_tensor as tensor};
