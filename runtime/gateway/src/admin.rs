//! What the operator reaches, on loopback only: health, metrics, the functions' states, and changing what is served.
//!
//! There is no password, so whoever can connect from this machine may deploy. A web page in a browser on this machine can connect
//! too; see [`no_browser`].

use crate::{
    Functions,
    deployments::{Deploy, Deployments, Order, Outcome, Past, Refused, RefusedKind},
    error::ApiError,
    functions::Status,
    protocol::{shown, triton_metrics},
    trigger::models::stats,
};
use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, Request, State,
        rejection::{JsonRejection, QueryRejection},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{Method, StatusCode, header, uri::Authority};
use serde::Deserialize;
use std::{net::IpAddr, sync::Arc};
use tokio::sync::watch;
use torpor_engine::Trace;
use torpor_manifest::FunctionName;
use torpor_telemetry::Metrics;

/// The media type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Bytes of one order: more manifests than anybody deploys at once.
const MAX_ORDER: usize = 16 << 20;

#[derive(Clone)]
struct Admin {
    functions: Functions,
    deployments: Deployments,
    metrics: Arc<Metrics>,
    draining: watch::Receiver<bool>,
}

pub(crate) fn router(
    functions: Functions,
    deployments: Deployments,
    metrics: Arc<Metrics>,
    draining: watch::Receiver<bool>,
) -> Router {
    let nothing = "there is nothing here; see /livez, /readyz, /metrics, /functions and /deployments";
    Router::new()
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/functions", get(list))
        .route("/functions/{name}", get(one).delete(undeploy))
        .route("/functions/{name}/history", get(history))
        .route("/functions/{name}/traces", get(traces))
        .route("/functions/{name}/rollback", post(rollback))
        .route("/deployments", post(deploy))
        .fallback(async move || ApiError::not_found(nothing))
        .layer(DefaultBodyLimit::max(MAX_ORDER))
        .layer(middleware::from_fn(no_browser))
        .with_state(Admin { functions, deployments, metrics, draining })
}

/// Refuses changes that a web page may have asked for. A page cannot send JSON to another origin or delete there without asking
/// first, which nothing here answers; and one whose own name was made to point here gives that name as the host.
async fn no_browser(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let from_page = request.headers().contains_key(header::ORIGIN) || !names_loopback(&request);
    if changes && from_page {
        let text = "changes are taken only from programs on this machine, which give its loopback address as `Host` and no `Origin`";
        return ApiError::forbidden(text).into_response();
    }
    next.run(request).await
}

fn names_loopback(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let Some(authority) = request.uri().authority().cloned().or(host) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn ready(State(admin): State<Admin>) -> Response {
    match *admin.draining.borrow() {
        false => "ready\n".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    }
}

/// Under which names metrics are told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricsQuery {
    names: Option<Names>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Names {
    Torpor,
    Triton,
}

async fn metrics_text(
    State(admin): State<Admin>,
    query: Result<Query<MetricsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(MetricsQuery { names }) =
        query.map_err(|_| ApiError::bad_request("the only parameter is `names`, which is `torpor` or `triton`"))?;
    let (media_type, text) = off_thread(move || match names.unwrap_or(Names::Torpor) {
        Names::Torpor => (OPENMETRICS, admin.metrics.render()),
        Names::Triton => (triton_metrics::MEDIA_TYPE, triton_metrics(&admin.functions)),
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, media_type)], text).into_response())
}

/// The metrics of all functions that the protocols for tensors serve, under Triton's names.
fn triton_metrics(functions: &Functions) -> String {
    let models = functions.models();
    let deployed = models.iter().filter_map(|entry| {
        let (function, revision) = (entry.deployed()?, entry.revision.as_ref()?);
        Some(triton_metrics::Model { stats: stats(function, revision.number), pending: function.queued() })
    });
    triton_metrics::text(&deployed.collect::<Vec<_>>())
}

async fn list(State(admin): State<Admin>) -> Result<Response, ApiError> {
    off_thread(move || Json(admin.functions.statuses()).into_response()).await
}

/// Does what takes long where there are thousands of functions, where it keeps no caller waiting.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::failed("the host failed"))
}

async fn one(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<Status>, ApiError> {
    admin.functions.status(&name).map(Json).ok_or_else(|| no_function(&name))
}

async fn traces(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<Vec<Trace>>, ApiError> {
    admin.functions.traces(&name).map(Json).ok_or_else(|| no_function(&name))
}

async fn deploy(
    State(admin): State<Admin>,
    order: Result<Json<Deploy>, JsonRejection>,
) -> Result<Json<Vec<Outcome>>, ApiError> {
    let Json(order) = order.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    admin.order(Order::Deploy(order)).await
}

async fn undeploy(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<Vec<Outcome>>, ApiError> {
    admin.order(Order::Undeploy(function(&name)?)).await
}

/// What a rollback may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    /// The revision to deploy again; the one before the current where it is missing.
    to: Option<u64>,
}

async fn rollback(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    order: Result<Json<Rollback>, JsonRejection>,
) -> Result<Json<Vec<Outcome>>, ApiError> {
    let Json(Rollback { to }) = order.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    admin.order(Order::Rollback(function(&name)?, to)).await
}

async fn history(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<Vec<Past>>, ApiError> {
    let history = admin.deployments.history(function(&name)?).await.ok_or_else(stopping)?;
    history.map(Json).map_err(refused)
}

impl Admin {
    async fn order(&self, order: Order) -> Result<Json<Vec<Outcome>>, ApiError> {
        if *self.draining.borrow() {
            return Err(stopping());
        }
        let outcomes = self.deployments.order(order).await.ok_or_else(stopping)?;
        outcomes.map(Json).map_err(refused)
    }
}

fn stopping() -> ApiError {
    let error = ApiError::unavailable("the host is stopping, and deploys nothing any more");
    error.with_help("start it again, and deploy then")
}

fn refused(refused: Refused) -> ApiError {
    let error = match refused.kind {
        RefusedKind::Malformed => ApiError::bad_request(refused.text),
        RefusedKind::NotFound => ApiError::not_found(refused.text),
        RefusedKind::Conflict => ApiError::conflict(refused.text),
    };
    error.with_help(refused.help)
}

fn function(name: &str) -> Result<FunctionName, ApiError> {
    // A name that cannot be is not there.
    name.parse().map_err(|_| no_function(name))
}

fn no_function(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no function `{}`", shown(name)))
}
