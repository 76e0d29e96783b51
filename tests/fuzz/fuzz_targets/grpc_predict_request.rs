//! Any message is a prediction request of TF Serving whose tensors are consistent, and is read as generated code reads it, or is
//! refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| torpor_gateway::fuzzing::grpc_predict_request(message));
