//! Any bytes that a worker process wrote are an answer, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    torpor_worker::fuzzing::worker_answer(answer);
});
