//! Any memory, pointer and length of a guest is read or refused, and nothing is written beyond it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // A pointer and a length, and then the memory.
    let Some((pointer, rest)) = input.split_first_chunk::<4>() else { return };
    let Some((length, memory)) = rest.split_first_chunk::<4>() else { return };
    torpor_engine::fuzzing::witx_arguments(memory, u32::from_le_bytes(*pointer), u32::from_le_bytes(*length));
});
