//! The calls of a function by clients of MLflow and of SageMaker's containers. Most of their paths name no model.

use super::{
    cousins::{AtPath, Host, found, named, predict, unwritable},
    torchserve::media_type,
};
use crate::{
    error::{ApiError, As, MlFlow},
    functions::Served,
    protocol::mlflow::{self, Refused},
};
use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderName};
use torpor_engine::Function;

/// Says which model is meant. SageMaker's hosts for many models send it.
const TARGET: HeaderName = HeaderName::from_static("x-amzn-sagemaker-target-model");
/// Comes back with the answer.
const CUSTOM: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");

pub(super) async fn invocations(State(host): State<Host>, request: Request) -> Result<Response, As<MlFlow>> {
    let model = chosen(&host, request.headers());
    let (Served { function, .. }, request) = found(model, request).await?;
    Ok(invoked(&function, request).await?)
}

/// SageMaker's path for a model among many.
pub(super) async fn invoke(State(host): State<Host>, path: AtPath, request: Request) -> Result<Response, As<MlFlow>> {
    let model = named(path).and_then(|at| host.functions.model(&at.model, None));
    let (Served { function, .. }, request) = found(model, request).await?;
    Ok(invoked(&function, request).await?)
}

async fn invoked(function: &Function, request: Request) -> Result<Response, ApiError> {
    let name = function.manifest().name.clone();
    let media = media_type(request.headers());
    let custom = request.headers().get(CUSTOM).cloned();
    let parse = move |body: &[u8], signature: &_| {
        mlflow::invocation(&media, body, signature).map_err(|refused| match refused {
            Refused::MediaType(text) => ApiError::media_type(text),
            Refused::Malformed(malformed) => malformed.into(),
        })
    };
    let write = move |layout, outputs: &[_], _: Option<&_>| {
        Ok(("application/json", mlflow::predictions(layout, outputs).map_err(unwritable(name))?))
    };
    let mut response = predict(function, request, parse, write).await?;
    if let Some(custom) = custom {
        response.headers_mut().insert(CUSTOM, custom);
    }
    Ok(response)
}

/// The host is well while it answers.
pub(super) async fn health() -> &'static str {
    "\n"
}

/// The version of this host. It is none of MLflow's, which clients show and do not compare.
pub(super) async fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The model that is meant: the one that the caller names, or the host's default, or the only one.
fn chosen(host: &Host, headers: &HeaderMap) -> Result<Served, ApiError> {
    let target = headers.get(TARGET).map(|value| value.to_str());
    match (target, &host.default_model) {
        (Some(Ok(target)), _) => host.functions.model(target, None),
        (Some(Err(_)), _) => Err(ApiError::bad_request(format!("`{TARGET}` is no text"))),
        (None, Some(default)) => host.functions.model(default.as_str(), None),
        (None, None) => match &host.functions.model_names()[..] {
            [] => Err(ApiError::not_found("this host has no model")),
            [only] => host.functions.model(only, None),
            all => {
                let count = all.len();
                let text =
                    format!("this host has {count} models: name one in `{TARGET}`, or start it with `--default-model`");
                Err(ApiError::bad_request(text))
            }
        },
    }
}
