//! What every test stands on: a host of its own with real bundles, and clients for it.

pub(crate) mod assets;
pub(crate) mod bundle;
pub(crate) mod cli;
pub(crate) mod client;
pub(crate) mod disk;
mod host;
mod manifest;
pub(crate) mod raw;
pub(crate) mod wait;

pub(crate) use assets::{skipped_without_onnxruntime, skipped_without_openvino};
pub(crate) use bundle::{Keys, Recipe};
pub(crate) use client::Reply;
pub(crate) use host::{Stage, TestHost, damage, forever};
pub(crate) use manifest::Manifest;
pub(crate) use raw::Raw;
pub(crate) use wait::until;
