//! Any memory, pointer and length of a guest is read or refused, and nothing is written beyond it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u32, u32)| torpor_engine::fuzzing::witx_arguments(input.0, input.1, input.2));
