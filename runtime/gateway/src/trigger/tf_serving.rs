//! TF Serving's calls of a function, and those of version 1 of KServe.

use super::{
    cousins::{At, AtPath, Host, Written, found, named, predict, unwritable},
    inference::after_its_body,
};
use crate::{
    Functions,
    error::ApiError,
    functions::Served,
    protocol::{
        openai,
        tf_serving::{self, Layout, Verb},
    },
};
use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use serde_json::Value;
use torpor_engine::Labels;
use torpor_tensor::NamedTensor;

/// The bodies of answers.
const JSON: &str = "application/json";

/// Whether a model is there. Clients of TF Serving, of KServe and of OpenAI ask by the same path, so the answer is for all of them.
pub(super) async fn status(State(host): State<Host>, path: AtPath) -> Result<Json<Value>, ApiError> {
    let Served { function, revision, since } = model(&host.functions, &named(path)?)?;
    let name = function.manifest().name.as_str();
    let mut status = tf_serving::status(name, revision, function.is_ready());
    if function.gives_embeddings() {
        status.extend(openai::model(name, since));
    }
    Ok(Json(status.into()))
}

pub(super) async fn metadata(State(host): State<Host>, path: AtPath) -> Result<Json<Value>, ApiError> {
    let Served { function, revision, .. } = model(&host.functions, &named(path)?)?;
    let name = function.manifest().name.as_str();
    Ok(Json(tf_serving::metadata(name, revision, function.signature())))
}

/// What the end of the path asks for.
pub(super) async fn call(State(host): State<Host>, path: AtPath, request: Request) -> Result<Response, ApiError> {
    let ((Served { function, .. }, verb), request) = found(asked(&host.functions, path), request).await?;
    let name = function.manifest().name.clone();
    match verb {
        Verb::Predict => {
            let parse = |body: &[u8], signature: &_| Ok(tf_serving::predict_request(body, signature)?);
            let write = move |layout: Layout, outputs: &[NamedTensor], _: Option<&Labels>| {
                tf_serving::has_rows(layout, outputs)?;
                Ok((JSON, tf_serving::predict_response(layout, outputs).map_err(unwritable(name))?))
            };
            predict(&function, request, parse, write).await
        }
        Verb::Classify | Verb::Regress => {
            let parse = |body: &[u8], signature: &_| Ok((tf_serving::examples(body, signature)?, ()));
            let write = move |(), outputs: &[NamedTensor], labels: Option<&Labels>| -> Result<Written, ApiError> {
                let labels = |output: &str| labels?.get(output).map(Vec::as_slice);
                let body = match verb {
                    Verb::Classify => tf_serving::classify_response(outputs, labels),
                    _ => tf_serving::regress_response(outputs),
                };
                Ok((JSON, body?))
            };
            predict(&function, request, parse, write).await
        }
        Verb::Explain => {
            let error = ApiError::not_found(format!("`{name}` gives no explanations; `:predict` is served"));
            Err(after_its_body(request, error).await)
        }
    }
}

/// The function of a path that ends in what to do.
fn asked(functions: &Functions, path: AtPath) -> Result<(Served, Verb), ApiError> {
    let mut at = named(path)?;
    let last = at.label.as_mut().or(at.version.as_mut()).unwrap_or(&mut at.model);
    let (name, verb) = tf_serving::verb(last)?;
    *last = name.to_owned();
    Ok((model(functions, &at)?, verb))
}

/// The function of a path. A label is the version that its bundle declares. OpenVINO's client says 0 for the version where it leaves the
/// choice to the server; revisions begin with 1.
fn model(functions: &Functions, at: &At) -> Result<Served, ApiError> {
    let version = at.version.as_deref().filter(|version| *version != "0");
    functions.model(&at.model, version.or(at.label.as_deref()))
}
