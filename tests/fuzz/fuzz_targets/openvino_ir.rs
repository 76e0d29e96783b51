//! Any bytes are the description of a network that refers to no other file, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|description: &[u8]| {
    let _ = torpor_nn::ir::check(description, 60);
});
