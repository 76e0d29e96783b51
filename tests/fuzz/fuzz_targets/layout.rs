//! Any file is a bundle or is refused as damaged; nothing else happens. Start from a folder of small signed bundles.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Write;
use torpor_bundle::{Error, inspect};

fuzz_target!(|file: &[u8]| {
    let mut bundle = tempfile::NamedTempFile::new().unwrap();
    bundle.write_all(file).unwrap();
    match inspect(bundle.path()) {
        Ok(_) | Err(Error::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
