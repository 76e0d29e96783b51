//! TorchServe's calls of a function.

use super::{
    cousins::{At, AtPath, Host, found, named, predict, unwritable},
    inference::after_its_body,
};
use crate::{
    error::{ApiError, As, TorchServe},
    functions::Served,
    protocol::{
        media::MediaType,
        shown,
        torchserve::{self, Answer, Description, Prediction},
    },
};
use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, header};
use serde_json::{Value, json};
use torpor_engine::State as Life;

/// The host is well while it answers. Clients of `SageMaker` and `MLflow` ask here, too, and look at the status alone.
pub(super) async fn ping() -> Json<Value> {
    Json(json!({ "status": "Healthy" }))
}

pub(super) async fn predictions(
    State(host): State<Host>,
    path: AtPath,
    request: Request,
) -> Result<Response, As<TorchServe>> {
    let model = named(path).and_then(|at| host.functions.model(&at.model, at.version.as_deref()));
    let (Served { function, .. }, request) = found(model, request).await?;
    let name = function.manifest().name.clone();
    let media = media_type(request.headers());
    let parse = move |body: &[u8], signature: &_| {
        let Prediction { inputs, one } = torchserve::predict_request(&media, body, signature)?;
        Ok((inputs, one))
    };
    let write = move |one, outputs: &[_], _: Option<&_>| {
        let Answer { content_type, body } = torchserve::predict_response(one, outputs).map_err(unwritable(name))?;
        Ok((content_type, body))
    };
    Ok(predict(&function, request, parse, write).await?)
}

pub(super) async fn explanations(path: AtPath, request: Request) -> As<TorchServe> {
    let error = named(path).map_or_else(
        |error| error,
        |At { model, .. }| {
            let model = shown(&model);
            ApiError::not_found(format!("`{model}` gives no explanations; `/predictions/{model}` is served"))
        },
    );
    after_its_body(request, error).await.into()
}

/// All models that can be called.
pub(super) async fn models(State(host): State<Host>) -> Json<Value> {
    let names = host.functions.model_names();
    let served = names.iter().filter_map(|name| host.functions.model(name, None).ok());
    let listed = served.map(|served| {
        let status = served.function.status();
        torchserve::listed(served.function.manifest().name.as_str(), status.digest.as_deref().unwrap_or_default())
    });
    Json(json!({ "models": listed.collect::<Vec<_>>() }))
}

pub(super) async fn describe(State(host): State<Host>, path: AtPath) -> Result<Json<Value>, As<TorchServe>> {
    let at = named(path)?;
    let version = at.version.as_deref().filter(|version| *version != "all");
    let Served { function, revision, .. } = host.functions.model(&at.model, version)?;
    let (status, manifest) = (function.status(), function.manifest());
    let description = Description {
        name: manifest.name.as_str(),
        version: revision,
        url: status.digest.as_deref().unwrap_or_default(),
        kept: manifest.scale.min > 0,
        most: manifest.scale.max_concurrency,
        is_warm: matches!(status.state, Life::Warm),
    };
    Ok(Json(description.body()))
}

/// What a request says of its body.
pub(super) fn media_type(headers: &HeaderMap) -> MediaType {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    MediaType::parse(text.unwrap_or_default())
}
