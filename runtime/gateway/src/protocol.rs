//! Protocols as pure functions between bytes and calls. No I/O, no async, no engine: what parses here can be fuzzed alone.

#[cfg(test)]
mod arbitrary;
pub(crate) mod classification;
pub(crate) mod encoding;
pub(crate) mod json;
pub(crate) mod media;
pub(crate) mod mlflow;
pub(crate) mod open_inference;
pub(crate) mod open_inference_grpc;
pub(crate) mod openai;
pub(crate) mod openapi;
pub(crate) mod proto;
mod table;
pub(crate) mod tf_serving;
pub(crate) mod tf_serving_grpc;
pub(crate) mod torchserve;
pub(crate) mod triton_metrics;
mod wire;

pub(crate) use table::page;
pub use table::{Carried, PROTOCOLS, Protocol};
pub(crate) use wire::Pieces;

use torpor_tensor::{Dim, Signature, TensorSpec};

/// Dimensions that one tensor may have. ONNX Runtime and its peers take no more than 8 in most operators.
const MAX_RANK: usize = 32;
/// Tensors in one request, and outputs that one may name.
const MAX_TENSORS: usize = 256;
/// What runs a model, by the protocols' idea of it. Functions are WebAssembly, whatever runs the models in them.
const PLATFORM: &str = "torpor_wasm";
const BACKEND: &str = "torpor";

/// What is wrong with a request. The text is for the caller.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// A caller's word as it may stand in a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A declared shape as protocols tell it, with -1 for a dimension of any size.
fn declared_shape(spec: &TensorSpec) -> Vec<i64> {
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        Dim::Named(_) | Dim::Any => -1,
    };
    // A shape of unknown rank has no form in them; an empty one would mean a scalar, so one free dimension it is.
    spec.shape.as_ref().map_or_else(|| vec![-1], |dims| dims.iter().map(dim).collect())
}

/// Checks that a model has the outputs that a caller asks for, each once.
fn check_outputs(names: &[String], signature: &Signature) -> Result<(), Malformed> {
    for (index, name) in names.iter().enumerate() {
        if !signature.outputs.iter().any(|spec| spec.name == *name) {
            let known = signature.outputs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ");
            return Err(Malformed(format!("there is no output `{}`; expected {known}", shown(name))));
        }
        if names[..index].contains(name) {
            return Err(Malformed(format!("output `{name}` is asked for twice")));
        }
    }
    Ok(())
}
