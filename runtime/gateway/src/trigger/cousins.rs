//! The REST interfaces of other servers for models, which clients find at the paths that they know.
//!
//! These paths are not reserved: a function that has one of them as its own is called, and not the interface.

use super::{
    answer::{accepted, encoded},
    inference::{after_its_body, off_thread, read_body},
    mlflow, openai, tell, tf_serving, torchserve,
};
use crate::{
    Functions,
    error::ApiError,
    error::{As, Form, MlFlow, OpenAi, TorchServe},
    protocol::{self, json},
};
use axum::{
    Router,
    extract::{FromRef, Path, Request, State, rejection::PathRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get, post},
};
use http::{HeaderValue, header};
use serde::Deserialize;
use std::{sync::Arc, time::Instant};
use torpor_engine::{Function, Labels};
use torpor_manifest::FunctionName;
use torpor_tensor::{NamedTensor, Signature};

/// What the handlers know of the host.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) functions: Functions,
    /// What answers where a protocol's paths name no model.
    pub(super) default_model: Option<FunctionName>,
}

impl FromRef<Host> for Functions {
    fn from_ref(host: &Host) -> Self {
        host.functions.clone()
    }
}

/// The model that a path names, with what a path may say of it.
#[derive(Deserialize)]
pub(super) struct At {
    pub(super) model: String,
    pub(super) version: Option<String>,
    pub(super) label: Option<String>,
}

/// What a path names, or that it is no text.
pub(super) type AtPath = Result<Path<At>, PathRejection>;

/// What the path names.
pub(super) fn named(path: AtPath) -> Result<At, ApiError> {
    path.map(|Path(at)| at).map_err(|_| ApiError::bad_request("the path is no UTF-8 text"))
}

pub(crate) fn router(functions: Functions, default_model: Option<FunctionName>) -> Router {
    let own_first = middleware::from_fn_with_state(functions.clone(), own_path);
    Router::new()
        .route("/", reading::<OpenInference>(get(async || protocol::page())))
        // TF Serving, and version 1 of KServe.
        .route("/v1/models", reading::<OpenInference>(get(openai::models)))
        .route("/v1/models/{model}", model(get(tf_serving::status)))
        .route("/v1/models/{model}/metadata", reading::<OpenInference>(get(tf_serving::metadata)))
        .route("/v1/models/{model}/versions/{version}", model(get(tf_serving::status)))
        .route("/v1/models/{model}/versions/{version}/metadata", reading::<OpenInference>(get(tf_serving::metadata)))
        .route("/v1/models/{model}/labels/{label}", model(get(tf_serving::status)))
        .route("/v1/models/{model}/labels/{label}/metadata", reading::<OpenInference>(get(tf_serving::metadata)))
        // TorchServe, and what SageMaker's containers for many models have of it.
        .route("/ping", reading::<TorchServe>(get(torchserve::ping)))
        .route("/predictions/{model}", predictions())
        .route("/predictions/{model}/{version}", predictions())
        .route("/explanations/{model}", any(torchserve::explanations))
        .route("/models", reading::<TorchServe>(get(torchserve::models)))
        .route("/models/{model}", reading::<TorchServe>(get(torchserve::describe)))
        .route("/models/{model}/{version}", reading::<TorchServe>(get(torchserve::describe)))
        .route("/models/{model}/invoke", writing::<MlFlow>(post(mlflow::invoke)))
        // MLflow and SageMaker.
        .route("/invocations", writing::<MlFlow>(post(mlflow::invocations)))
        .route("/health", reading::<MlFlow>(get(mlflow::health)))
        .route("/version", reading::<MlFlow>(get(mlflow::version)))
        // OpenAI.
        .route("/v1/embeddings", writing::<OpenAi>(post(openai::embeddings)))
        .route_layer(own_first)
        .with_state(Host { functions, default_model })
}

/// The body of errors that TF Serving and KServe have in common with the Open Inference Protocol.
struct OpenInference;

impl Form for OpenInference {
    fn body(_: http::StatusCode, text: &str) -> serde_json::Value {
        serde_json::json!({ "error": text })
    }
}

fn reading<F: Form + 'static>(route: MethodRouter<Host>) -> MethodRouter<Host> {
    only::<F>(route, &["GET", "HEAD"])
}

fn writing<F: Form + 'static>(route: MethodRouter<Host>) -> MethodRouter<Host> {
    only::<F>(route, &["POST"])
}

/// A model of TF Serving: its status, and what `:predict` and its like do.
fn model(route: MethodRouter<Host>) -> MethodRouter<Host> {
    only::<OpenInference>(route.post(tf_serving::call), &["GET", "HEAD", "POST"])
}

fn predictions() -> MethodRouter<Host> {
    only::<TorchServe>(post(torchserve::predictions).put(torchserve::predictions), &["POST", "PUT"])
}

/// Says which methods there are, to who comes with another.
fn only<F: Form + 'static>(route: MethodRouter<Host>, allowed: &'static [&'static str]) -> MethodRouter<Host> {
    route.fallback(async move |request: Request| {
        As::<F>::from(ApiError::method_not_allowed(request.method(), allowed.iter().copied()))
    })
}

/// Calls the function whose own path this is, if there is one.
async fn own_path(State(functions): State<Functions>, request: Request, next: Next) -> Response {
    match functions.by_path(request.uri().path()) {
        Some(Ok(function)) => super::http::call(&function, request).await.into_response(),
        Some(Err(error)) => error.into_response(),
        None => next.run(request).await,
    }
}

/// What was found for a request, and the request; or why nothing was, once a small body is read, so that the connection stays usable.
pub(super) async fn found<T>(found: Result<T, ApiError>, request: Request) -> Result<(T, Request), ApiError> {
    match found {
        Ok(found) => Ok((found, request)),
        Err(error) => Err(after_its_body(request, error).await),
    }
}

/// A body and its type.
pub(super) type Written = (&'static str, Vec<u8>);

/// Answers one call: `parse` reads the body for the signature, and what it says besides the inputs goes to `write`, which makes the body
/// of the answer. Large bodies are read and written on a thread for that.
pub(super) async fn predict<R: Send + 'static>(
    function: &Function,
    request: Request,
    parse: impl FnOnce(&[u8], &Signature) -> Result<(Vec<NamedTensor>, R), ApiError> + Send + 'static,
    write: impl FnOnce(R, &[NamedTensor], Option<&Labels>) -> Result<Written, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let coding = accepted(request.headers());
    let read = async {
        let body = read_body(function, request).await?;
        let signature = Arc::clone(function.signature());
        off_thread(body.len(), move || parse(&body, &signature)).await?
    };
    let (inputs, form) = read.await.inspect_err(|_| function.count_refused(arrived))?;
    let answer = function.predict(inputs).await.map_err(super::not_loaded)?;
    let (outputs, labels) = (answer.value, answer.labels);
    let (content_type, body) =
        off_thread(json::size(&outputs), move || write(form, &outputs, labels.as_deref())).await??;
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    tell(response.headers_mut(), &answer.timing);
    encoded(coding, response).await
}

/// What JSON cannot carry, for the operator and for the caller.
pub(super) fn unwritable(name: FunctionName) -> impl FnOnce(serde_json::Error) -> ApiError {
    move |error| {
        tracing::warn!(function = %name, %error, "an output cannot be written as JSON");
        ApiError::failed(format!("`{name}` answered with what JSON cannot carry"))
    }
}

/// What is wrong with a request, by the protocol that has read it.
impl From<protocol::Malformed> for ApiError {
    fn from(malformed: protocol::Malformed) -> Self {
        ApiError::bad_request(malformed.to_string())
    }
}
