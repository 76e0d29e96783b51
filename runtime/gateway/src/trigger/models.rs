//! What the Open Inference Protocol has beside inference: what models are, how they are doing, and loading and unloading them.

use super::inference::{Model, after_its_body, in_one_piece, off_thread};
use crate::{
    Answerer, Entry, Functions,
    error::ApiError,
    functions::Served,
    protocol::{
        open_inference::{self, Config, Stats},
        openapi::{self, Described},
        shown,
    },
};
use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode};
use http_body_util::Limited;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime};
use torpor_engine::{Function, Total};
use tracing::level_filters::LevelFilter;

/// Bytes of an order: more than anybody says.
const MAX_ORDER: usize = 64 * 1024;
/// How long an order may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// How the settings that callers cannot change are changed.
pub(super) const TRACES: &str = "traces are always kept, and `torpor trace` shows them";
pub(super) const LOGS: &str = "the operator sets them with `torpor serve --log`";

/// The protocol's extensions that are there whole: settings of traces and of the log can only be read. `control` says whether callers
/// may load and unload functions.
pub(crate) fn extensions(control: bool) -> Vec<&'static str> {
    let mut extensions = vec!["binary_tensor_data", "classification", "model_configuration", "statistics"];
    extensions.extend(control.then_some("model_repository"));
    extensions
}

pub(crate) async fn metadata(Model(Served { function, revision, .. }): Model) -> Response {
    let name = function.manifest().name.as_str();
    Json(open_inference::model_metadata(name, revision, function.signature())).into_response()
}

/// A function at zero is ready: whoever calls it is served. One that fails to wake, or was unloaded, is not.
pub(crate) async fn ready(Model(Served { function, .. }): Model) -> Response {
    let ready = function.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let body = json!({ "name": function.manifest().name.as_str(), "ready": ready });
    (status, Json(body)).into_response()
}

pub(crate) async fn config(Model(served): Model) -> Response {
    Json(open_inference::model_config(&configured(&served))).into_response()
}

/// What the configuration of a function is made of.
pub(super) fn configured(served: &Served) -> Config<'_> {
    let Served { function, revision, .. } = served;
    let manifest = function.manifest();
    let batches = manifest.models.values().filter_map(|model| model.batch.as_ref());
    Config {
        name: manifest.name.as_str(),
        version: *revision,
        signature: function.signature(),
        batch: batches.map(|batch| batch.max_size).min(),
        instances: manifest.scale.max_concurrency,
    }
}

pub(crate) async fn statistics(Model(served): Model) -> Response {
    let Served { function, revision, .. } = &served;
    Json(open_inference::model_statistics(&[stats(function, *revision)])).into_response()
}

/// The statistics of all functions that are deployed.
pub(crate) async fn all_statistics(State(functions): State<Functions>) -> Response {
    let models = functions.models();
    let deployed = models.iter().filter_map(|entry| Some(stats(entry.deployed()?, revision(entry)?)));
    Json(open_inference::model_statistics(&deployed.collect::<Vec<_>>())).into_response()
}

pub(super) fn revision(entry: &Entry) -> Option<u64> {
    entry.revision.as_ref().map(|revision| revision.number)
}

/// What a function has done, in Triton's words: the instance is made in the time of the input, the guest and its models run in that of
/// inference, and the answer is checked in that of the output.
pub(crate) fn stats(function: &Function, revision: u64) -> Stats<'_> {
    let statistics = function.statistics();
    let took = |Total { count, took, .. }: Total| open_inference::Took { count, ns: took };
    let nothing = |count| open_inference::Took { count, ns: Duration::ZERO };
    let since = statistics.last.and_then(|last| last.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    let batches = statistics.batches.iter().map(|(rows, total)| open_inference::BatchStats {
        batch_size: *rows,
        compute_input: nothing(total.count),
        compute_infer: took(*total),
        compute_output: nothing(total.count),
    });
    Stats {
        name: function.manifest().name.as_str(),
        version: revision,
        last_inference: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        inference_count: statistics.answered.count,
        execution_count: statistics.runs.count,
        inference_stats: open_inference::InferenceStats {
            success: took(statistics.answered),
            fail: took(statistics.failed),
            queue: took(statistics.queue),
            compute_input: took(statistics.instantiate),
            compute_infer: took(statistics.run),
            compute_output: took(statistics.answer),
            cache_hit: took(statistics.cache_hits),
            cache_miss: took(statistics.cache_misses),
        },
        response_stats: open_inference::Nothing {},
        batch_stats: batches.collect(),
        memory_usage: [],
    }
}

/// What may stand in an order to the repository.
#[derive(Debug, Default, Deserialize)]
struct Order {
    /// Of the index: only what is ready, or only what is not.
    ready: Option<bool>,
    /// Of loading and unloading.
    parameters: Option<Map<String, Value>>,
}

/// Reads the body of an order. None at all is an order without particulars.
async fn order<T: Default + for<'de> Deserialize<'de>>(request: Request) -> Result<T, ApiError> {
    let body = tokio::time::timeout(PATIENCE, in_one_piece(Limited::new(request.into_body(), MAX_ORDER))).await;
    let Ok(Ok(body)) = body else {
        return Err(ApiError::bad_request(format!("the body is incomplete, or longer than {MAX_ORDER} bytes")));
    };
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(format!("the body is no such order: {error}")))
}

/// What models there are, and whether they may be called.
pub(crate) async fn index(State(functions): State<Functions>, request: Request) -> Result<Response, ApiError> {
    let Order { ready: only, .. } = order(request).await?;
    let models = functions.models();
    let listed = models.iter().map(|entry| (entry, not_ready(entry)));
    let listed = listed.filter(|(_, reason)| only.is_none_or(|only| only == reason.is_none()));
    let model = |(entry, reason): (&Entry, Option<&str>)| {
        let version = revision(entry).map(|revision| revision.to_string()).unwrap_or_default();
        let state = if reason.is_none() { "READY" } else { "UNAVAILABLE" };
        json!({ "name": entry.name().as_str(), "version": version, "state": state, "reason": reason.unwrap_or_default() })
    };
    Ok(Json(listed.map(model).collect::<Vec<_>>()).into_response())
}

/// Why a function may not be called, for callers; `None` where it may.
pub(super) fn not_ready(entry: &Entry) -> Option<&'static str> {
    match &entry.answer {
        Answerer::Failed { .. } | Answerer::Lost { .. } => Some("it could not be deployed"),
        Answerer::Deployed(function) if function.is_unloaded() => Some("unloaded"),
        Answerer::Deployed(function) if !function.is_ready() => Some("it did not start"),
        Answerer::Deployed(_) => None,
    }
}

/// Wakes a function and keeps it warm. The answer says that it is warm.
pub(crate) async fn load(model: Result<Model, ApiError>, request: Request) -> Result<Response, ApiError> {
    let function = ordered(model, request, true).await?;
    loaded(&function).await?;
    Ok(StatusCode::OK.into_response())
}

/// Loads a function for a caller.
pub(super) async fn loaded(function: &Function) -> Result<(), ApiError> {
    function.load().await.map_err(|error| {
        let name = &function.manifest().name;
        tracing::warn!(function = %name, %error, "a caller's load failed");
        ApiError::bad_request(format!("failed to load `{name}`; the host's log says why"))
    })
}

/// Puts a function to sleep, which refuses callers until it is loaded again. The answer says that it sleeps.
pub(crate) async fn unload(model: Result<Model, ApiError>, request: Request) -> Result<Response, ApiError> {
    let function = ordered(model, request, false).await?;
    function.unload().await;
    Ok(StatusCode::OK.into_response())
}

/// The function of an order, whose parameters are among those that mean nothing here.
async fn ordered(model: Result<Model, ApiError>, request: Request, loads: bool) -> Result<Function, ApiError> {
    let Model(Served { function, .. }) = match model {
        Ok(model) => model,
        Err(error) => return Err(after_its_body(request, error).await),
    };
    let Order { parameters, .. } = order(request).await?;
    check_parameters(parameters.iter().flatten().map(|(name, _)| name.as_str()), loads)?;
    Ok(function)
}

/// Checks that the parameters of an order to load or to unload are among those that mean nothing here.
pub(super) fn check_parameters<'a>(names: impl IntoIterator<Item = &'a str>, loads: bool) -> Result<(), ApiError> {
    // No function depends on another, so `unload_dependents` changes nothing.
    let Some(odd) = names.into_iter().find(|name| *name != "unload_dependents").map(shown) else { return Ok(()) };
    Err(ApiError::bad_request(match loads {
        // `config`, and files under names such as `file:1/model.onnx`.
        true => format!(
            "the parameter `{odd}` is refused: models here come from signed bundles, and are configured by manifests"
        ),
        false => format!("there is no parameter `{odd}`"),
    }))
}

/// Loading and unloading, where the operator has not allowed it.
pub(crate) async fn no_control(request: Request) -> ApiError {
    after_its_body(request, uncontrolled()).await
}

/// What a caller is told who may not load and unload.
pub(super) fn uncontrolled() -> ApiError {
    let text =
        "this host lets no caller load or unload models; its operator allows it with `torpor serve --model-control`";
    ApiError::forbidden(text)
}

/// How calls are traced, in Triton's words: the times of each, of which the host keeps those of the last.
pub(super) fn trace_settings() -> Value {
    json!({
        "trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "-1", "log_frequency": "0", "trace_file": "",
    })
}

/// What the host logs, in Triton's words.
pub(super) fn log_settings() -> Value {
    let level = LevelFilter::current();
    let verbose = if level >= LevelFilter::TRACE { 2 } else { u8::from(level >= LevelFilter::DEBUG) };
    json!({
        "log_file": "", "log_info": level >= LevelFilter::INFO, "log_warning": level >= LevelFilter::WARN,
        "log_error": level >= LevelFilter::ERROR, "log_verbose_level": verbose, "log_format": "ISO8601",
    })
}

/// The host's settings; those of a model are no others.
pub(crate) async fn trace(_: AnyModel) -> Json<Value> {
    Json(trace_settings())
}

pub(crate) async fn logging() -> Json<Value> {
    Json(log_settings())
}

pub(crate) async fn change_trace(model: Result<AnyModel, ApiError>, request: Request) -> Result<Json<Value>, ApiError> {
    match model {
        Ok(_) => unchanged(trace_settings(), TRACES, request).await,
        Err(error) => Err(after_its_body(request, error).await),
    }
}

pub(crate) async fn change_logging(request: Request) -> Result<Json<Value>, ApiError> {
    unchanged(log_settings(), LOGS, request).await
}

/// The settings, where an order leaves them as they are.
async fn unchanged(settings: Value, instead: &str, request: Request) -> Result<Json<Value>, ApiError> {
    let order: Map<String, Value> = order(request).await?;
    for (name, value) in order {
        // By `null` a setting goes back to what the host was started with.
        check_setting(&settings, &name, instead, |now| value.is_null() || *now == value)?;
    }
    Ok(Json(settings))
}

/// Checks that an order leaves a setting as it is. `instead` is what to do in order to change it.
pub(super) fn check_setting(
    settings: &Value,
    name: &str,
    instead: &str,
    leaves: impl FnOnce(&Value) -> bool,
) -> Result<(), ApiError> {
    let name = shown(name);
    match settings.get(&name) {
        Some(now) if leaves(now) => Ok(()),
        Some(_) => Err(ApiError::bad_request(format!("callers cannot change `{name}`: {instead}"))),
        None => Err(ApiError::bad_request(format!("there is no setting `{name}`"))),
    }
}

/// What callers may send to all functions, as a document of OpenAPI.
pub(crate) async fn openapi(functions: &Functions, method: &Method) -> Result<Response, ApiError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed(method, ["GET", "HEAD"]));
    }
    let table = functions.now();
    // Some kilobytes each.
    let size = table.entries().count().saturating_mul(4096);
    let document = off_thread(size, move || {
        let described = table.entries().filter_map(|entry| {
            let function = entry.deployed()?;
            let manifest = function.manifest();
            let http = manifest.trigger.http.as_ref();
            Some(Described {
                name: manifest.name.as_str(),
                version: revision(entry)?,
                signature: manifest.trigger.inference.as_ref().map(|_| &**function.signature()),
                http: http
                    .map(|http| (http.path.as_str(), http.methods.iter().map(|method| method.as_str()).collect())),
            })
        });
        openapi::document(described).to_string()
    });
    Ok(([(http::header::CONTENT_TYPE, "application/json")], document.await?).into_response())
}

/// The model that a path names, where it names one.
pub(crate) struct AnyModel;

impl axum::extract::FromRequestParts<Functions> for AnyModel {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut http::request::Parts, functions: &Functions) -> Result<Self, ApiError> {
        match parts.uri.path() {
            "/v2/trace/setting" => Ok(AnyModel),
            _ => Model::from_request_parts(parts, functions).await.map(|_| AnyModel),
        }
    }
}
