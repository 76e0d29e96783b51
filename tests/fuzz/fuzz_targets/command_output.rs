//! Any output of a program is a response, whose body is the end of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|output: &[u8]| torpor_engine::fuzzing::command_output(output));
