//! Any message is an inference request whose tensors are consistent, and is read as generated code reads it, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| torpor_gateway::fuzzing::grpc_infer_request(message));
