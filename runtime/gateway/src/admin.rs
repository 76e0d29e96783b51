//! What the operator reaches, on loopback only: health, metrics and the functions' states. It only tells, it changes nothing.

use crate::{Functions, error::ApiError, protocol::open_inference::shown};
use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use std::sync::Arc;
use tokio::sync::watch;
use torpor_engine::FunctionStatus;
use torpor_telemetry::Metrics;

/// The media type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Admin {
    functions: Arc<Functions>,
    metrics: Arc<Metrics>,
    draining: watch::Receiver<bool>,
}

pub(crate) fn router(functions: Arc<Functions>, metrics: Arc<Metrics>, draining: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/functions", get(list))
        .route("/functions/{name}", get(one))
        .fallback(async || ApiError::not_found("there is nothing here; see /livez, /readyz, /metrics and /functions"))
        .with_state(Admin { functions, metrics, draining })
}

async fn ready(State(admin): State<Admin>) -> Response {
    match *admin.draining.borrow() {
        false => "ready\n".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    }
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], admin.metrics.render()).into_response()
}

async fn list(State(admin): State<Admin>) -> Json<Vec<FunctionStatus>> {
    Json(admin.functions.statuses().collect())
}

async fn one(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<FunctionStatus>, ApiError> {
    let status = admin.functions.status(&name);
    status.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no function `{}`", shown(&name))))
}
