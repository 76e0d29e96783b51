//! Any text is a `bundle.toml` or has a mistake at a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torpor_bundle::{Error, Overrides, pack};

fuzz_target!(|text: &str| {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("bundle.toml"), text).unwrap();
    // A good text names files, which are not there.
    match pack(folder.path(), &Overrides::default(), &folder.path().join("out.torpor")) {
        Ok(_) | Err(Error::Text { .. } | Error::Io { .. } | Error::Pack { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
