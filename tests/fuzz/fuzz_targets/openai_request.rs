//! Any body is a request for embeddings, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| torpor_gateway::fuzzing::openai_request(body));
