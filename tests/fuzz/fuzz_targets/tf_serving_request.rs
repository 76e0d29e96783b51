//! Any body is a request of TF Serving whose tensors are consistent, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| torpor_gateway::fuzzing::tf_serving_request(body));
