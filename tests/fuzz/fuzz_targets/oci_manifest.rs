//! A manifest of a function or of a signature is read or refused, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    torpor_bundle::fuzzing::manifest(content);
});
