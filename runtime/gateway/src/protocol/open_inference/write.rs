//! Tensors and signatures to the protocol's JSON.

use crate::protocol::json::{self, Data};
use serde::{Serialize, Serializer};
use torpor_tensor::{Dim, NamedTensor, Signature, TensorSpec};

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    #[serde(serialize_with = "as_text")]
    model_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [u64],
    data: Data<'a>,
}

/// The body of the answer to an inference request.
///
/// # Errors
/// When a `BYTES` element is no UTF-8 text, which JSON cannot carry.
pub(crate) fn infer_response(
    model_name: &str,
    model_version: u64,
    id: Option<&str>,
    outputs: &[NamedTensor],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut body = Vec::with_capacity(json::size(outputs));
    let outputs = outputs.iter().map(|(name, tensor)| Output {
        name,
        datatype: tensor.dtype().name(),
        shape: tensor.shape().dims(),
        data: Data::flat(tensor),
    });
    serde_json::to_writer(&mut body, &InferResponse { model_name, model_version, id, outputs: outputs.collect() })?;
    Ok(body)
}

/// Versions are texts in the protocol, whatever they look like.
fn as_text<S: Serializer>(version: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

#[derive(Serialize)]
struct ModelMetadata<'a> {
    name: &'a str,
    versions: [String; 1],
    platform: &'static str,
    inputs: Vec<Spec<'a>>,
    outputs: Vec<Spec<'a>>,
}

#[derive(Serialize)]
struct Spec<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<i64>,
}

/// What the protocol tells of a model.
pub(crate) fn model_metadata<'a>(name: &'a str, version: u64, signature: &'a Signature) -> impl Serialize + 'a {
    ModelMetadata {
        name,
        versions: [version.to_string()],
        platform: "torpor_wasm",
        inputs: signature.inputs.iter().map(spec).collect(),
        outputs: signature.outputs.iter().map(spec).collect(),
    }
}

fn spec(spec: &TensorSpec) -> Spec<'_> {
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        Dim::Named(_) | Dim::Any => -1,
    };
    // A shape of unknown rank has no form in the protocol; an empty one would mean a scalar, so one free dimension it is.
    let shape = spec.shape.as_ref().map_or_else(|| vec![-1], |dims| dims.iter().map(dim).collect());
    Spec { name: &spec.name, datatype: spec.dtype.name(), shape }
}
