//! Any body, behind a line with its type, is a request of MLflow whose tensors are consistent, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| torpor_gateway::fuzzing::mlflow_request(body));
