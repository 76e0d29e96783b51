//! What the protocol tells of a model besides answers: its inputs and outputs, its configuration and its statistics.
//!
//! Sources: the protocol's `inference_rest.md`, and Triton's `extension_model_configuration.md` and `extension_statistics.md`.

use super::super::{BACKEND, PLATFORM, declared_shape};
use serde::Serialize;
use std::time::Duration;
use torpor_tensor::{DType, Dim, Signature, TensorSpec};

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
        platform: PLATFORM,
        inputs: signature.inputs.iter().map(spec).collect(),
        outputs: signature.outputs.iter().map(spec).collect(),
    }
}

fn spec(spec: &TensorSpec) -> Spec<'_> {
    Spec { name: &spec.name, datatype: spec.dtype.name(), shape: declared_shape(spec) }
}

/// What a configuration is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: u64,
    pub(crate) signature: &'a Signature,
    /// Rows of which runs of its models are joined, where the manifest says so.
    pub(crate) batch: Option<usize>,
    /// Answers that it may give at the same time.
    pub(crate) instances: usize,
}

#[derive(Serialize)]
struct ModelConfig<'a> {
    name: &'a str,
    platform: &'static str,
    backend: &'static str,
    version_policy: VersionPolicy,
    max_batch_size: usize,
    input: Vec<ConfiguredInput<'a>>,
    output: Vec<ConfiguredOutput<'a>>,
    instance_group: [InstanceGroup<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    dynamic_batching: Option<DynamicBatching>,
}

#[derive(Serialize)]
struct VersionPolicy {
    specific: SpecificVersions,
}

#[derive(Serialize)]
struct SpecificVersions {
    versions: [u64; 1],
}

#[derive(Serialize)]
struct ConfiguredInput<'a> {
    name: &'a str,
    data_type: String,
    format: &'static str,
    dims: Vec<i64>,
    optional: bool,
}

#[derive(Serialize)]
struct ConfiguredOutput<'a> {
    name: &'a str,
    data_type: String,
    dims: Vec<i64>,
}

#[derive(Serialize)]
struct InstanceGroup<'a> {
    name: &'a str,
    kind: &'static str,
    count: usize,
}

#[derive(Serialize)]
struct DynamicBatching {
    preferred_batch_size: [usize; 0],
}

impl Config<'_> {
    /// Rows of which runs are joined, of a model whose inputs and outputs all have a free first dimension and another one. Triton leaves
    /// that first dimension out of a configuration; any other model has all of its dimensions, and 0 for this.
    pub(crate) fn max_batch_size(&self) -> Option<usize> {
        let by_rows = |spec: &TensorSpec| matches!(spec.shape.as_deref(), Some([Dim::Named(_) | Dim::Any, _, ..]));
        self.batch.filter(|_| self.signature.inputs.iter().chain(&self.signature.outputs).all(by_rows))
    }

    /// The dimensions of an input or output, as they stand in a configuration.
    pub(crate) fn dims(&self, spec: &TensorSpec) -> Vec<i64> {
        declared_shape(spec).split_off(usize::from(self.max_batch_size().is_some()))
    }
}

/// The configuration that Triton would have of such a model.
pub(crate) fn model_config<'a>(config: &Config<'a>) -> impl Serialize + 'a {
    let Config { name, version, signature, instances, .. } = *config;
    let batch = config.max_batch_size();
    let dims = |spec: &TensorSpec| config.dims(spec);
    let input = |spec: &'a TensorSpec| ConfiguredInput {
        name: &spec.name,
        data_type: data_type(spec.dtype),
        format: "FORMAT_NONE",
        dims: dims(spec),
        optional: false,
    };
    let output = |spec: &'a TensorSpec| ConfiguredOutput {
        name: &spec.name,
        data_type: data_type(spec.dtype),
        dims: dims(spec),
    };
    ModelConfig {
        name,
        platform: PLATFORM,
        backend: BACKEND,
        version_policy: VersionPolicy { specific: SpecificVersions { versions: [version] } },
        max_batch_size: batch.unwrap_or(0),
        input: signature.inputs.iter().map(input).collect(),
        output: signature.outputs.iter().map(output).collect(),
        instance_group: [InstanceGroup { name, kind: "KIND_CPU", count: instances }],
        dynamic_batching: batch.map(|_| DynamicBatching { preferred_batch_size: [] }),
    }
}

/// The name of an element type in configurations.
fn data_type(dtype: DType) -> String {
    match dtype {
        DType::Bytes => "TYPE_STRING".to_owned(),
        dtype => format!("TYPE_{dtype}"),
    }
}

/// How often something happened, and how long it took, all together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Took {
    pub(crate) count: u64,
    #[serde(serialize_with = "nanoseconds")]
    pub(crate) ns: Duration,
}

fn nanoseconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))
}

/// What one model has done.
#[derive(Debug, Serialize)]
pub(crate) struct Stats<'a> {
    pub(crate) name: &'a str,
    #[serde(serialize_with = "super::write::as_text")]
    pub(crate) version: u64,
    /// In milliseconds since 1970; 0 before there was one.
    pub(crate) last_inference: u64,
    pub(crate) inference_count: u64,
    pub(crate) execution_count: u64,
    pub(crate) inference_stats: InferenceStats,
    pub(crate) response_stats: Nothing,
    pub(crate) batch_stats: Vec<BatchStats>,
    pub(crate) memory_usage: [Nothing; 0],
}

/// The times of a model's calls.
#[derive(Debug, Default, Serialize)]
pub(crate) struct InferenceStats {
    pub(crate) success: Took,
    pub(crate) fail: Took,
    pub(crate) queue: Took,
    pub(crate) compute_input: Took,
    pub(crate) compute_infer: Took,
    pub(crate) compute_output: Took,
    pub(crate) cache_hit: Took,
    pub(crate) cache_miss: Took,
}

/// The runs of one number of rows.
#[derive(Debug, Serialize)]
pub(crate) struct BatchStats {
    pub(crate) batch_size: u64,
    pub(crate) compute_input: Took,
    pub(crate) compute_infer: Took,
    pub(crate) compute_output: Took,
}

/// An object without members.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Nothing {}

#[derive(Serialize)]
struct ModelStatistics<'a> {
    model_stats: &'a [Stats<'a>],
}

/// The statistics of these models.
pub(crate) fn model_statistics<'a>(models: &'a [Stats<'a>]) -> impl Serialize + 'a {
    ModelStatistics { model_stats: models }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn config(shape: &[Dim], batch: Option<usize>) -> Value {
        let spec = |name: &str, dtype| TensorSpec { name: name.into(), dtype, shape: Some(shape.to_vec()) };
        let signature = Signature { inputs: vec![spec("x", DType::Bytes)], outputs: vec![spec("y", DType::F32)] };
        let config = Config { name: "m", version: 3, signature: &signature, batch, instances: 2 };
        serde_json::to_value(model_config(&config)).unwrap()
    }

    #[test]
    fn rows_are_a_batch_only_where_all_have_them() {
        let joined = config(&[Dim::Any, Dim::Fixed(4)], Some(8));
        assert_eq!((&joined["max_batch_size"], &joined["input"][0]["dims"]), (&json!(8), &json!([4])));
        assert_eq!(joined["input"][0]["data_type"], "TYPE_STRING");
        assert_eq!(joined["output"][0], json!({ "name": "y", "data_type": "TYPE_FP32", "dims": [4] }));
        for (shape, batch) in
            [(&[Dim::Any, Dim::Fixed(4)][..], None), (&[Dim::Any], Some(8)), (&[Dim::Fixed(2), Dim::Fixed(4)], Some(8))]
        {
            let alone = config(shape, batch);
            assert_eq!(alone["max_batch_size"], 0);
            assert_eq!(alone["input"][0]["dims"].as_array().unwrap().len(), shape.len());
            assert_eq!(alone.get("dynamic_batching"), None);
        }
    }
}
