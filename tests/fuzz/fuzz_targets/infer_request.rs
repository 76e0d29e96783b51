//! Any body is an inference request whose tensors are consistent, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| torpor_gateway::fuzzing::infer_request(body));
