//! A signature's envelope is read or refused, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    torpor_bundle::fuzzing::envelope(content);
});
