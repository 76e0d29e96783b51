//! The Open Inference Protocol's calls of a function.

use super::{check_declared_length, tell};
use crate::{
    Functions,
    error::ApiError,
    functions::Served,
    protocol::open_inference::{self, InferRequest},
};
use axum::{
    extract::{FromRequestParts, Path, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use std::{sync::Arc, time::Instant};
use torpor_engine::Function;
use torpor_tensor::NamedTensor;

/// Bytes of JSON that are read or written on the async thread. It takes half a millisecond, rarely one; more would keep other
/// requests waiting, and goes to a thread for blocking work.
const INLINE: usize = 256 * 1024;
/// Bytes that are reserved for a body before they come, whatever its head promises.
const RESERVED: usize = 1024 * 1024;
/// The header that announces binary tensors.
const BINARY_HEADER: &str = "inference-header-content-length";

/// The function that a path names.
pub(crate) struct Model(Served);

#[derive(Deserialize)]
struct ModelPath {
    model: String,
    version: Option<String>,
}

impl FromRequestParts<Functions> for Model {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, functions: &Functions) -> Result<Self, ApiError> {
        let path = Path::<ModelPath>::from_request_parts(parts, functions).await;
        let Path(path) = path.map_err(|_| ApiError::bad_request("the path is no UTF-8 text"))?;
        functions.model(&path.model, path.version.as_deref()).map(Model)
    }
}

pub(crate) async fn metadata(Model(Served { function, revision }): Model) -> Response {
    let name = function.manifest().name.as_str();
    axum::Json(open_inference::model_metadata(name, revision, function.signature())).into_response()
}

/// A function at zero is ready: whoever calls it is served. One that fails to wake is not.
pub(crate) async fn ready(Model(Served { function, .. }): Model) -> Response {
    let ready = function.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let body = serde_json::json!({ "name": function.manifest().name.as_str(), "ready": ready });
    (status, axum::Json(body)).into_response()
}

pub(crate) async fn infer(Model(Served { function, revision }): Model, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let read = read_request(&function, request).await;
    let InferRequest { id, inputs, outputs } = read.inspect_err(|_| function.count_refused(arrived))?;
    let answer = function.predict(inputs).await?;
    let tensors = select(answer.value, outputs);
    let body = off_thread(open_inference::infer_response_size(&tensors), move || {
        let name = &function.manifest().name;
        open_inference::infer_response(name.as_str(), revision, id.as_deref(), &tensors).map_err(|error| {
            tracing::warn!(function = %name, %error, "an output cannot be written as JSON");
            ApiError::failed(format!("`{name}` answered with bytes that are no text, which JSON cannot carry"))
        })
    });
    let mut response = Response::new(body.await??.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    tell(response.headers_mut(), &answer.timing);
    Ok(response)
}

/// Reads what is asked. Every error here is the caller's doing.
async fn read_request(function: &Function, request: Request) -> Result<InferRequest, ApiError> {
    if request.headers().contains_key(BINARY_HEADER) {
        let text = format!("binary tensors (`{BINARY_HEADER}`) are not supported; send the tensors as JSON");
        return Err(ApiError::bad_request(text));
    }
    let body = read_body(function, request).await?;
    let signature = Arc::clone(function.signature());
    let parsed = off_thread(body.len(), move || open_inference::infer_request(&body, &signature)).await?;
    parsed.map_err(|malformed| ApiError::bad_request(malformed.to_string()))
}

async fn read_body(function: &Function, request: Request) -> Result<Bytes, ApiError> {
    let manifest = function.manifest();
    check_declared_length(request.headers(), manifest)?;
    let limit = usize::try_from(manifest.limits.body.as_u64()).unwrap_or(usize::MAX);
    let body = Limited::new(request.into_body(), limit);
    match tokio::time::timeout(manifest.limits.deadline, in_one_piece(body)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::body_too_large(&manifest.name, manifest.limits.body))
        }
        // The client has gone, or broke the framing; if it is still there it may know.
        Ok(Err(_)) => Err(ApiError::bad_request("the body is incomplete")),
        Err(_) => Err(ApiError::body_timeout(&manifest.name)),
    }
}

/// Reads a body to its end. What comes in one frame, as small bodies do, is not copied; of more frames each is copied once, and
/// its memory is free for the next one.
pub(super) async fn in_one_piece<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes, B::Error> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let promised = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.is_empty() {
            continue;
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(promised.min(RESERVED).max(first.len() + data.len()));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// The outputs that were asked for, in the order in which they were.
pub(super) fn select(mut outputs: Vec<NamedTensor>, wanted: Option<Vec<String>>) -> Vec<NamedTensor> {
    let Some(wanted) = wanted else { return outputs };
    let mut take = |name: &String| {
        let index = outputs.iter().position(|(output, _)| output == name)?;
        Some(outputs.swap_remove(index))
    };
    wanted.iter().filter_map(&mut take).collect()
}

/// Does work on `size` bytes, here if it is little.
pub(super) async fn off_thread<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if size <= INLINE {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "reading or writing a large body failed");
        ApiError::failed("the host failed")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::convert::Infallible;

    async fn check(frames: &[&'static str]) -> Bytes {
        let body =
            StreamBody::new(stream::iter(frames.to_vec()).map(|data| Ok::<_, Infallible>(Frame::data(data.into()))));
        let whole = in_one_piece(body).await.unwrap();
        assert_eq!(whole, frames.concat());
        whole
    }

    #[tokio::test]
    async fn a_body_is_all_its_frames_in_order() {
        check(&[]).await;
        check(&["", "a", "", "b", "c"]).await;
    }

    #[tokio::test]
    async fn one_frame_is_not_copied() {
        let frame = "a body that comes at once";
        assert_eq!(check(&[frame, ""]).await.as_ptr(), frame.as_ptr());
    }
}
