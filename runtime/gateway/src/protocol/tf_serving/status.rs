//! What TF Serving and KServe tell of a model.

use serde_json::{Map, Value, json};
use torpor_tensor::{DType, Dim, Signature, TensorSpec};

/// The status of a model, for clients of both: the one reads `model_version_status`, the other `name` and `ready`.
pub(crate) fn status(name: &str, version: u64, ready: bool) -> Map<String, Value> {
    let (state, code, message) = match ready {
        true => ("AVAILABLE", "OK", ""),
        // One that failed to wake is tried again later, and one that was unloaded can be loaded again.
        false => ("LOADING", "UNAVAILABLE", "it failed to wake, or was unloaded"),
    };
    let status = json!({
        "version": version.to_string(), "state": state, "status": { "error_code": code, "error_message": message },
    });
    let members = [("name", name.into()), ("ready", ready.into()), ("model_version_status", json!([status]))];
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The signature of a model as TF Serving tells it.
pub(crate) fn metadata(name: &str, version: u64, signature: &Signature) -> Value {
    json!({
        "model_spec": { "name": name, "signature_name": "", "version": version.to_string() },
        "metadata": { "signature_def": { "signature_def": { "serving_default": {
            "inputs": tensors(&signature.inputs),
            "outputs": tensors(&signature.outputs),
            "method_name": "tensorflow/serving/predict",
        } } } },
    })
}

fn tensors(specs: &[TensorSpec]) -> Map<String, Value> {
    let tensor = |spec: &TensorSpec| {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => size.to_string(),
            Dim::Named(_) | Dim::Any => "-1".to_owned(),
        };
        let dims = spec.shape.iter().flatten().map(|dim| json!({ "size": size(dim), "name": "" }));
        let shape = json!({ "dim": dims.collect::<Vec<_>>(), "unknown_rank": spec.shape.is_none() });
        let tensor = json!({ "name": spec.name, "dtype": dtype(spec.dtype), "tensor_shape": shape });
        (spec.name.clone(), tensor)
    };
    specs.iter().map(tensor).collect()
}

/// The name of an element type in TensorFlow's `types.proto`.
fn dtype(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "DT_BOOL",
        DType::U8 => "DT_UINT8",
        DType::U16 => "DT_UINT16",
        DType::U32 => "DT_UINT32",
        DType::U64 => "DT_UINT64",
        DType::I8 => "DT_INT8",
        DType::I16 => "DT_INT16",
        DType::I32 => "DT_INT32",
        DType::I64 => "DT_INT64",
        DType::F16 => "DT_HALF",
        DType::Bf16 => "DT_BFLOAT16",
        DType::F32 => "DT_FLOAT",
        DType::F64 => "DT_DOUBLE",
        DType::Bytes => "DT_STRING",
    }
}
