//! What the protocol tells of a model besides answers, as messages: its inputs and outputs, its configuration and its statistics.

use super::super::{
    BACKEND, PLATFORM, declared_shape,
    open_inference::{BatchStats, Config, Stats, Took},
    proto::inference::{
        DataType, InferBatchStatistics, InferStatistics, ModelConfig, ModelConfigResponse, ModelDynamicBatching,
        ModelInput, ModelInstanceGroup, ModelMetadataResponse, ModelOutput, ModelStatistics, ModelStatisticsResponse,
        ModelVersionPolicy, StatisticDuration,
        model_config::SchedulingChoice,
        model_instance_group::Kind,
        model_metadata_response::TensorMetadata,
        model_version_policy::{PolicyChoice, Specific},
    },
};
use torpor_tensor::{DType, Signature, TensorSpec};

/// What the protocol tells of a model.
pub(crate) fn model_metadata(name: &str, version: u64, signature: &Signature) -> ModelMetadataResponse {
    let tensor = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.dtype.name().to_owned(),
        shape: declared_shape(spec),
    };
    ModelMetadataResponse {
        name: name.to_owned(),
        versions: vec![version.to_string()],
        platform: PLATFORM.to_owned(),
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
    }
}

/// The configuration that Triton would have of such a model.
pub(crate) fn model_config(config: &Config<'_>) -> ModelConfigResponse {
    let batch = config.max_batch_size();
    let small = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let input = |spec: &TensorSpec| ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec.dtype).into(),
        dims: config.dims(spec),
        optional: false,
    };
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.clone(),
        data_type: data_type(spec.dtype).into(),
        dims: config.dims(spec),
        label_filename: String::new(),
    };
    let versions = vec![i64::try_from(config.version).unwrap_or(i64::MAX)];
    let group = ModelInstanceGroup {
        name: config.name.to_owned(),
        count: small(config.instances),
        gpus: Vec::new(),
        kind: Kind::Cpu.into(),
    };
    let config = ModelConfig {
        name: config.name.to_owned(),
        platform: PLATFORM.to_owned(),
        backend: BACKEND.to_owned(),
        version_policy: Some(ModelVersionPolicy { policy_choice: Some(PolicyChoice::Specific(Specific { versions })) }),
        max_batch_size: batch.map_or(0, small),
        input: config.signature.inputs.iter().map(input).collect(),
        output: config.signature.outputs.iter().map(output).collect(),
        instance_group: vec![group],
        scheduling_choice: batch.map(|_| SchedulingChoice::DynamicBatching(ModelDynamicBatching::default())),
        ..ModelConfig::default()
    };
    ModelConfigResponse { config: Some(config) }
}

fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::TypeBool,
        DType::U8 => DataType::TypeUint8,
        DType::U16 => DataType::TypeUint16,
        DType::U32 => DataType::TypeUint32,
        DType::U64 => DataType::TypeUint64,
        DType::I8 => DataType::TypeInt8,
        DType::I16 => DataType::TypeInt16,
        DType::I32 => DataType::TypeInt32,
        DType::I64 => DataType::TypeInt64,
        DType::F16 => DataType::TypeFp16,
        DType::Bf16 => DataType::TypeBf16,
        DType::F32 => DataType::TypeFp32,
        DType::F64 => DataType::TypeFp64,
        DType::Bytes => DataType::TypeString,
    }
}

/// The statistics of these models.
pub(crate) fn model_statistics(models: &[Stats<'_>]) -> ModelStatisticsResponse {
    let batch = |batch: &BatchStats| InferBatchStatistics {
        batch_size: batch.batch_size,
        compute_input: took(batch.compute_input),
        compute_infer: took(batch.compute_infer),
        compute_output: took(batch.compute_output),
    };
    let model = |stats: &Stats<'_>| ModelStatistics {
        name: stats.name.to_owned(),
        version: stats.version.to_string(),
        last_inference: stats.last_inference,
        inference_count: stats.inference_count,
        execution_count: stats.execution_count,
        inference_stats: Some(InferStatistics {
            success: took(stats.inference_stats.success),
            fail: took(stats.inference_stats.fail),
            queue: took(stats.inference_stats.queue),
            compute_input: took(stats.inference_stats.compute_input),
            compute_infer: took(stats.inference_stats.compute_infer),
            compute_output: took(stats.inference_stats.compute_output),
            cache_hit: took(stats.inference_stats.cache_hit),
            cache_miss: took(stats.inference_stats.cache_miss),
        }),
        batch_stats: stats.batch_stats.iter().map(batch).collect(),
    };
    ModelStatisticsResponse { model_stats: models.iter().map(model).collect() }
}

fn took(Took { count, ns }: Took) -> Option<StatisticDuration> {
    Some(StatisticDuration { count, ns: u64::try_from(ns.as_nanos()).unwrap_or(u64::MAX) })
}
