//! OpenAI's calls of functions that give embeddings.

use super::{
    answer::{accepted, encoded},
    cousins::{Host, found, unwritable},
    inference::{off_thread, read_body},
    tell,
};
use crate::{
    Functions,
    error::{ApiError, As, OpenAi},
    functions::Served,
    protocol::{json, openai, shown},
};
use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, header};
use serde_json::Value;
use std::time::Instant;
use torpor_engine::Function;

/// The names of all models, and more of those that give embeddings. Clients of KServe and of OpenAI ask by the same path.
pub(super) async fn models(State(host): State<Host>) -> Json<Value> {
    let data = serving(&host.functions);
    let data = data.iter().map(|served| openai::model(served.function.manifest().name.as_str(), served.since));
    Json(openai::models(&host.functions.model_names(), data.collect()))
}

pub(super) async fn embeddings(State(host): State<Host>, request: Request) -> Result<Response, As<OpenAi>> {
    let arrived = Instant::now();
    let coding = accepted(request.headers());
    // The body says which function is meant, so it is read within the largest limit that any of them has.
    let widest = host.functions.widest_embedding();
    let widest = widest.ok_or_else(|| ApiError::not_found("no model of this host gives embeddings"));
    let (widest, request) = found(widest, request).await?;
    let body = read_body(&widest, request).await?;
    let length = body.len();
    let request = off_thread(length, move || openai::embeddings_request(&body)).await??;
    let Served { function, .. } = host.functions.model(&request.model, None)?;
    check(&function, length, &request.model).inspect_err(|_| function.count_refused(arrived))?;

    let answer = function.predict(openai::inputs(request.texts, function.signature())).await;
    let answer = answer.map_err(super::not_loaded)?;
    let outputs = answer.value;
    openai::has_dimensions(request.dimensions, &outputs).map_err(ApiError::from)?;
    let body = off_thread(json::size(&outputs), move || {
        let name = function.manifest().name.clone();
        openai::embeddings_response(&request.model, request.encoding, &outputs).map_err(unwritable(name))
    });
    let mut response = Response::new(body.await??.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    tell(response.headers_mut(), &answer.timing);
    Ok(encoded(coding, response).await?)
}

/// Checks that a function takes such a request.
fn check(function: &Function, length: usize, model: &str) -> Result<(), ApiError> {
    let manifest = function.manifest();
    if !function.gives_embeddings() {
        return Err(ApiError::bad_request(format!("the model `{}` gives no embeddings", shown(model))));
    }
    if u64::try_from(length).is_ok_and(|length| length <= manifest.limits.body.as_u64()) {
        return Ok(());
    }
    Err(ApiError::body_too_large(&manifest.name, manifest.limits.body))
}

/// The functions that give embeddings.
fn serving(functions: &Functions) -> Vec<Served> {
    let names = functions.model_names();
    let served = names.iter().filter_map(|name| functions.model(name, None).ok());
    served.filter(|served| served.function.gives_embeddings()).collect()
}
