//! Any body is an inference request with binary tensors, which together are all of its bytes, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| torpor_gateway::fuzzing::binary_request(body));
