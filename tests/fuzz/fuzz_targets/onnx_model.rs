//! Any bytes are a model that keeps its data to itself, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|model: &[u8]| {
    let _ = torpor_nn::onnx::check_self_contained(model);
});
