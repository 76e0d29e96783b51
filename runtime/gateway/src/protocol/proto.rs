//! The messages of `proto/`, as the build script has generated them: what is small enough to be read as a whole, and what tests
//! compare the others with.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "generated, and the clients of the tests are generated from the same"
)]

include!(concat!(env!("OUT_DIR"), "/proto.rs"));

/// What server reflection tells of the services: the descriptors of all files.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
