//! Bundles: pack, read, sign, verify, and the trust policy that makes a bundle loadable.
//!
//! A bundle is one `.torpor` file: a module, its models and what the function takes and gives, as an OCI image layout in a tar.
//! [`pack`] makes it from a folder with a `bundle.toml`, [`sign`] adds a publisher's signature, and [`verify`] turns it into a
//! [`Verified<Bundle>`], which only this crate can make and which is all that the engine accepts. Until a signature fits the
//! [`TrustPolicy`], nothing that a publisher wrote is parsed: the way there reads only digests, sizes and envelopes.
//!
//! There is one way to write given contents down, and every byte of a file is checked against it, so that a changed bundle is
//! refused wherever it was changed. This crate knows no Wasm engine and no model library, and all of it blocks.
//! `docs/bundles.md` describes the format for people.

mod archive;
mod blob;
mod component;
mod config;
mod digest;
mod dsse;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod judge;
mod key;
mod labels;
mod layout;
mod oci;
mod pack;
mod part;
mod policy;
mod progress;
mod recipe;
mod report;
mod sign;
mod store;
mod text;
mod verify;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod forged;

pub use blob::{Blob, Stamp};
pub use config::{Config, ModelConfig, Origin, Task};
pub use digest::{Digest, InvalidDigest};
pub use error::Error;
pub use key::{KeyFiles, PrivateKey, keygen};
pub use labels::read_labels;
pub use pack::{Initializer, Overrides, Packed, Unfit, name, pack, pack_with};
pub use policy::{Key, Pattern, Revocation, Rule, Span, TrustPolicy};
pub use progress::Progress;
pub use report::{
    FileLayer, LabelsLayer, Layer, ModelLayer, ModuleLayer, Report, RuleReport, SignatureReport, TensorReport, inspect,
    inspect_with, verify_file, verify_file_with,
};
pub use sign::{Signed, sign, sign_with};
pub use store::Store;
pub use verify::{Bundle, Model, Readings, Verified, accept_unsigned, judge_kept, verify, verify_kept};
