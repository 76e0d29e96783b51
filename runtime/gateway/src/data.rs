//! What callers reach: the inference protocol under `/v2`, the services of gRPC, and every function's own path.

use crate::{
    Functions,
    error::ApiError,
    trigger::{self, grpc},
};
use axum::{
    Json, Router,
    extract::{Request, State},
    response::Response,
    routing::{MethodRouter, get, post},
};
use serde_json::{Value, json};
use tokio::sync::watch;

/// `stops` is true once the host drains.
pub(crate) fn router(functions: Functions, stops: watch::Receiver<bool>) -> Router {
    use trigger::inference::{infer, metadata, ready};
    Router::new()
        .route("/v2", only_get(get(server)))
        .route("/v2/health/live", only_get(get(async || Json(json!({ "live": true })))))
        .route("/v2/health/ready", only_get(get(async || Json(json!({ "ready": true })))))
        .route("/v2/models/{model}", only_get(get(metadata)))
        .route("/v2/models/{model}/ready", only_get(get(ready)))
        .route("/v2/models/{model}/infer", only_post(post(infer)))
        .route("/v2/models/{model}/versions/{version}", only_get(get(metadata)))
        .route("/v2/models/{model}/versions/{version}/ready", only_get(get(ready)))
        .route("/v2/models/{model}/versions/{version}/infer", only_post(post(infer)))
        .fallback(function)
        .with_state(functions.clone())
        .merge(grpc::router(grpc::Grpc { functions, stops }))
}

fn only_get(route: MethodRouter<Functions>) -> MethodRouter<Functions> {
    route.fallback(async |request: Request| ApiError::method_not_allowed(request.method(), ["GET", "HEAD"]))
}

fn only_post(route: MethodRouter<Functions>) -> MethodRouter<Functions> {
    route.fallback(async |request: Request| ApiError::method_not_allowed(request.method(), ["POST"]))
}

/// The host itself, as the protocol wants it described.
async fn server() -> Json<Value> {
    Json(json!({ "name": "torpor", "version": env!("CARGO_PKG_VERSION"), "extensions": [] }))
}

/// Whatever is not the protocol's is some function's, or nobody's.
async fn function(State(functions): State<Functions>, request: Request) -> Result<Response, ApiError> {
    match functions.by_path(request.uri().path()) {
        Some(function) => trigger::http::call(&function?, request).await,
        None if grpc::is_call(&request) => Ok(grpc::unknown(request.uri().path())),
        None => Err(ApiError::not_found("no function has this path; `torpor ps` lists the functions and their paths")),
    }
}
