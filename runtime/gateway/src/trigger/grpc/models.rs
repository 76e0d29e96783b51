//! What the Open Inference Protocol has beside inference, with Triton's calls: what models are, how they are doing, and loading and
//! unloading them. The same is there over REST, whose functions decide.

use super::Grpc;
use crate::{
    Functions,
    error::ApiError,
    functions::Served,
    protocol::{
        open_inference_grpc::{model_config, model_metadata, model_statistics},
        proto::inference::{
            LogSettingsRequest, LogSettingsResponse, ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest,
            ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest,
            ModelStatisticsResponse, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
            RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
            ServerMetadataResponse, TraceSettingRequest, TraceSettingResponse, log_settings_request,
            log_settings_response, repository_index_response::ModelIndex, trace_setting_response,
        },
    },
    trigger::models::{
        LOGS, TRACES, check_parameters, check_setting, configured, extensions, loaded, log_settings, not_ready,
        revision, stats, trace_settings, uncontrolled,
    },
};
use serde_json::Value;

/// The version that a caller names; `None` where it leaves the choice to the host.
fn given(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

pub(super) fn server(grpc: &Grpc) -> ServerMetadataResponse {
    let extensions = extensions(grpc.control).into_iter().map(str::to_owned).collect();
    ServerMetadataResponse { name: "torpor".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), extensions }
}

/// A model that is not there is not ready, and that is no error: callers ask until it is.
pub(super) fn ready(functions: &Functions, request: &ModelReadyRequest) -> ModelReadyResponse {
    let model = functions.model(&request.name, given(&request.version));
    ModelReadyResponse { ready: model.is_ok_and(|Served { function, .. }| function.is_ready()) }
}

pub(super) fn metadata(
    functions: &Functions,
    request: &ModelMetadataRequest,
) -> Result<ModelMetadataResponse, ApiError> {
    let Served { function, revision, .. } = functions.model(&request.name, given(&request.version))?;
    Ok(model_metadata(function.manifest().name.as_str(), revision, function.signature()))
}

pub(super) fn config(functions: &Functions, request: &ModelConfigRequest) -> Result<ModelConfigResponse, ApiError> {
    let served = functions.model(&request.name, given(&request.version))?;
    Ok(model_config(&configured(&served)))
}

/// The statistics of a model, or of all that are deployed.
pub(super) fn statistics(
    functions: &Functions,
    request: &ModelStatisticsRequest,
) -> Result<ModelStatisticsResponse, ApiError> {
    if request.name.is_empty() {
        let models = functions.models();
        let deployed = models.iter().filter_map(|entry| Some(stats(entry.deployed()?, revision(entry)?)));
        return Ok(model_statistics(&deployed.collect::<Vec<_>>()));
    }
    let Served { function, revision, .. } = functions.model(&request.name, given(&request.version))?;
    Ok(model_statistics(&[stats(&function, revision)]))
}

/// What models there are, and whether they may be called.
pub(super) fn index(functions: &Functions, request: &RepositoryIndexRequest) -> RepositoryIndexResponse {
    let models = functions.models();
    let listed = models.iter().map(|entry| (entry, not_ready(entry)));
    let model = |(entry, reason): (&crate::Entry, Option<&str>)| ModelIndex {
        name: entry.name().to_string(),
        version: revision(entry).map(|revision| revision.to_string()).unwrap_or_default(),
        state: if reason.is_none() { "READY" } else { "UNAVAILABLE" }.to_owned(),
        reason: reason.unwrap_or_default().to_owned(),
    };
    RepositoryIndexResponse {
        models: listed.filter(|(_, reason)| !request.ready || reason.is_none()).map(model).collect(),
    }
}

/// Wakes a function and keeps it warm. The answer says that it is warm.
pub(super) async fn load(
    grpc: &Grpc,
    request: RepositoryModelLoadRequest,
) -> Result<RepositoryModelLoadResponse, ApiError> {
    let Served { function, .. } = controlled(grpc, &request.model_name)?;
    check_parameters(request.parameters.keys().map(String::as_str), true)?;
    loaded(&function).await?;
    Ok(RepositoryModelLoadResponse {})
}

/// Puts a function to sleep, which refuses callers until it is loaded again. The answer says that it sleeps.
pub(super) async fn unload(
    grpc: &Grpc,
    request: RepositoryModelUnloadRequest,
) -> Result<RepositoryModelUnloadResponse, ApiError> {
    let Served { function, .. } = controlled(grpc, &request.model_name)?;
    check_parameters(request.parameters.keys().map(String::as_str), false)?;
    function.unload().await;
    Ok(RepositoryModelUnloadResponse {})
}

/// The function that a caller wants to load or unload, if it may.
fn controlled(grpc: &Grpc, model: &str) -> Result<Served, ApiError> {
    match grpc.control {
        true => grpc.functions.model(model, None),
        false => Err(uncontrolled()),
    }
}

/// How calls are traced, which an order has to leave as it is.
pub(super) fn trace(functions: &Functions, request: TraceSettingRequest) -> Result<TraceSettingResponse, ApiError> {
    if !request.model_name.is_empty() {
        functions.model(&request.model_name, None)?;
    }
    let settings = trace_settings();
    for (name, order) in request.settings {
        // By no value a setting goes back to what the host was started with.
        check_setting(&settings, &name, TRACES, |now| order.value.is_empty() || order.value == texts(now))?;
    }
    let setting =
        |(name, value): (&String, &Value)| (name.clone(), trace_setting_response::SettingValue { value: texts(value) });
    Ok(TraceSettingResponse { settings: settings.as_object().into_iter().flatten().map(setting).collect() })
}

/// The texts of a setting, which has one or several.
fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the host logs, which an order has to leave as it is.
pub(super) fn logging(request: LogSettingsRequest) -> Result<LogSettingsResponse, ApiError> {
    use log_settings_request::setting_value::ParameterChoice as Order;
    use log_settings_response::{SettingValue, setting_value::ParameterChoice as Setting};
    let settings = log_settings();
    for (name, order) in request.settings {
        check_setting(&settings, &name, LOGS, |now| match order.parameter_choice {
            None => true,
            Some(Order::BoolParam(flag)) => *now == flag,
            Some(Order::Uint32Param(number)) => *now == number,
            Some(Order::StringParam(text)) => *now == text,
        })?;
    }
    let setting = |(name, value): (&String, &Value)| {
        let choice = match value {
            Value::Bool(flag) => Setting::BoolParam(*flag),
            Value::Number(number) => {
                Setting::Uint32Param(number.as_u64().and_then(|number| number.try_into().ok()).unwrap_or_default())
            }
            other => Setting::StringParam(other.as_str().unwrap_or_default().to_owned()),
        };
        (name.clone(), SettingValue { parameter_choice: Some(choice) })
    };
    Ok(LogSettingsResponse { settings: settings.as_object().into_iter().flatten().map(setting).collect() })
}
