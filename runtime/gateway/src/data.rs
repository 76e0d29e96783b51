//! What callers reach: the inference protocol under `/v2`, those of other servers at their paths, the services of gRPC, and every
//! function's own path.

use crate::{
    Functions,
    error::ApiError,
    trigger::{
        self,
        grpc::{self, Grpc},
    },
};
use axum::{
    Json, Router,
    extract::{Request, State},
    response::Response,
    routing::{MethodRouter, get, post},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use torpor_manifest::FunctionName;

/// `default_model` answers where a protocol's paths name none; `control` says whether callers may load and unload functions; `stops` is
/// true once the host drains.
pub(crate) fn router(
    functions: Functions,
    default_model: Option<FunctionName>,
    control: bool,
    stops: watch::Receiver<bool>,
) -> Router {
    use trigger::{
        inference::infer,
        models::{
            all_statistics, change_logging, change_trace, config, index, load, logging, metadata, no_control, ready,
            statistics, trace, unload,
        },
    };
    let (load, unload) = if control { (post(load), post(unload)) } else { (post(no_control), post(no_control)) };
    let live = async || Json(json!({ "live": true }));
    let mut router = Router::new()
        .route("/v2", only_get(get(async move || server(control))))
        .route("/v2/health/live", only_get(get(live)))
        .route("/v2/health/ready", only_get(get(async || Json(json!({ "ready": true })))))
        .route("/v2/models/stats", only_get(get(all_statistics)))
        .route("/v2/models/{model}/trace/setting", get_or_post(get(trace).post(change_trace)))
        .route("/v2/trace/setting", get_or_post(get(trace).post(change_trace)))
        .route("/v2/logging", get_or_post(get(logging).post(change_logging)))
        .route("/v2/repository/index", only_post(post(index)))
        .route("/v2/repository/models/{model}/load", only_post(load))
        .route("/v2/repository/models/{model}/unload", only_post(unload));
    for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(model, only_get(get(metadata)))
            .route(&format!("{model}/ready"), only_get(get(ready)))
            .route(&format!("{model}/config"), only_get(get(config)))
            .route(&format!("{model}/stats"), only_get(get(statistics)))
            .route(&format!("{model}/infer"), only_post(post(infer)));
    }
    let grpc = grpc::router(Grpc { functions: functions.clone(), control, stops });
    let router = router.fallback(function).with_state(functions.clone()).merge(grpc);
    router.merge(trigger::cousins::router(functions, default_model))
}

fn only_get(route: MethodRouter<Functions>) -> MethodRouter<Functions> {
    route.fallback(async |request: Request| ApiError::method_not_allowed(request.method(), ["GET", "HEAD"]))
}

fn only_post(route: MethodRouter<Functions>) -> MethodRouter<Functions> {
    route.fallback(async |request: Request| ApiError::method_not_allowed(request.method(), ["POST"]))
}

fn get_or_post(route: MethodRouter<Functions>) -> MethodRouter<Functions> {
    route.fallback(async |request: Request| ApiError::method_not_allowed(request.method(), ["GET", "HEAD", "POST"]))
}

/// The host itself, as the protocol wants it described.
fn server(control: bool) -> Json<Value> {
    let extensions = trigger::models::extensions(control);
    Json(json!({ "name": "torpor", "version": env!("CARGO_PKG_VERSION"), "extensions": extensions }))
}

/// Whatever is not the protocol's is some function's, or nobody's. What describes all of them gives way to a function of that path.
async fn function(State(functions): State<Functions>, request: Request) -> Result<Response, ApiError> {
    match functions.by_path(request.uri().path()) {
        Some(function) => trigger::http::call(&function?, request).await,
        None if request.uri().path() == "/openapi.json" => trigger::models::openapi(&functions, request.method()).await,
        None if grpc::is_call(&request) => Ok(grpc::unknown(request.uri().path())),
        None => Err(ApiError::not_found(
            "no function has this path; `torpor ps` lists the functions and their paths, and the page at the root the protocols",
        )),
    }
}
