//! Any text is a trust policy or has a mistake at a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use torpor_bundle::{Error, TrustPolicy};

fuzz_target!(|text: &str| {
    // A folder that is not there, so that relative keys are not found. An absolute one would be read: run it confined.
    match TrustPolicy::parse(Path::new("/nonexistent/trust.toml"), text) {
        Ok(_) | Err(Error::Text { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
