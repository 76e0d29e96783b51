//! The Open Inference Protocol's calls of a function.

use super::{
    answer::{Pieces, accepted, encoded},
    check_declared_length, tell,
};
use crate::{
    Functions,
    error::ApiError,
    functions::Served,
    protocol::{
        classification,
        encoding::{Coding, NotInflated},
        open_inference::{self, Form, InferRequest, Output},
    },
};
use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Request},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use torpor_engine::{Function, Labels};
use torpor_tensor::NamedTensor;

/// Bytes of JSON that are read or written on the async thread. It takes half a millisecond, rarely one; more would keep other
/// requests waiting, and goes to a thread for blocking work.
const INLINE: usize = 256 * 1024;
/// Bytes that are reserved for a body before they come, whatever its head promises.
pub(super) const RESERVED: usize = 1024 * 1024;
/// Where a body that comes in many frames is put: the tensors behind its JSON begin at a multiple of so many bytes, so that backends
/// read them in place. What the allocator gives begins at such a multiple.
pub(super) const ALIGNED: usize = 16;
/// Bytes that are read of a body that nobody wants, and for how long.
const UNWANTED: usize = 1024 * 1024;
const UNWANTED_TIME: Duration = Duration::from_secs(1);
/// The header that says how long the JSON before binary tensors is.
pub(super) const BINARY_HEADER: &str = "inference-header-content-length";

/// The function that a path names.
pub(crate) struct Model(pub(super) Served);

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

pub(crate) async fn infer(model: Result<Model, ApiError>, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let coding = accepted(request.headers());
    let Served { function, revision, .. } = match model {
        Ok(Model(served)) => served,
        Err(error) => return Err(after_its_body(request, error).await),
    };
    let read = read_request(&function, request).await;
    let InferRequest { id, inputs, outputs, forms, binary_output } =
        read.inspect_err(|_| function.count_refused(arrived))?;
    let answer = function.predict(inputs).await.map_err(super::not_loaded)?;
    let tensors = select(answer.value, outputs);
    let outputs = formed(tensors, &forms, binary_output, &answer.labels).await?;
    let (head, outputs) = off_thread(open_inference::infer_response_size(&outputs), move || {
        let name = &function.manifest().name;
        let head = open_inference::infer_response(name.as_str(), revision, id.as_deref(), &outputs);
        head.map(|head| (head, outputs)).map_err(|error| ApiError::bad_request(error.to_string()))
    })
    .await??;
    let mut response = response(head, outputs);
    tell(response.headers_mut(), &answer.timing);
    encoded(coding, response).await
}

/// The outputs as they are to be given. `forms` is of each where the caller named them.
pub(super) async fn formed(
    tensors: Vec<NamedTensor>,
    forms: &[Form],
    binary: bool,
    labels: &Option<Arc<Labels>>,
) -> Result<Vec<Output>, ApiError> {
    let mut outputs = Vec::with_capacity(tensors.len());
    for (index, (name, tensor)) in tensors.into_iter().enumerate() {
        let Form { binary, classes } = forms.get(index).copied().unwrap_or(Form { binary, classes: None });
        let output = match classes {
            None => Output { name, tensor, binary },
            Some(classes) => {
                let labels = labels.clone();
                off_thread(tensor.data().len(), move || {
                    let labels = labels.as_ref().and_then(|labels| labels.get(&name)).map(Vec::as_slice);
                    let classified = classification::largest(&tensor, classes, labels);
                    let refused = |what| ApiError::bad_request(format!("output `{name}`: {what}"));
                    classified.map_err(refused).map(|tensor| Output { name, tensor, binary })
                })
                .await??
            }
        };
        outputs.push(output);
    }
    Ok(outputs)
}

fn response(head: Vec<u8>, outputs: Vec<Output>) -> Response {
    if !outputs.iter().any(|output| output.binary) {
        let mut response = Response::new(head.into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return response;
    }
    let length = HeaderValue::from(head.len());
    let data = outputs.into_iter().filter(|output| output.binary).map(|output| output.tensor.data().clone());
    let pieces = Pieces::new(std::iter::once(head.into()).chain(data).collect());
    let mut response = Response::new(Body::new(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(BINARY_HEADER, length);
    response
}

/// Reads what is asked. Every error here is the caller's doing.
async fn read_request(function: &Function, request: Request) -> Result<InferRequest, ApiError> {
    let head = head_length(request.headers());
    let body = read_body(function, request).await?;
    // Not before the body is read, so that the next request on the connection can follow.
    let head = head?;
    let signature = Arc::clone(function.signature());
    // Of the binary data only the lengths of texts are looked at, and whether booleans are such.
    let size = head.map_or(body.len(), |head| head.saturating_add(body.len() / 8));
    let parsed = off_thread(size, move || match head {
        None => open_inference::infer_request(&body, &signature),
        Some(head) => open_inference::binary_request(&body, head, &signature),
    });
    parsed.await?.map_err(|malformed| ApiError::bad_request(malformed.to_string()))
}

/// How long the JSON at the beginning of the body is; `None` for the whole of it.
fn head_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let mut values = headers.get_all(BINARY_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let length = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match length.and_then(|text| text.parse().ok()).filter(|_| values.next().is_none()) {
        Some(length) => Ok(Some(length)),
        None => Err(ApiError::bad_request(format!(
            "`{BINARY_HEADER}` must be one number, which says how many bytes of the body are JSON"
        ))),
    }
}

/// Reads the body of a request for a function, and undoes its encoding, within the function's limits.
pub(super) async fn read_body(function: &Function, request: Request) -> Result<Bytes, ApiError> {
    let manifest = function.manifest();
    check_declared_length(request.headers(), manifest)?;
    let coding = coding(request.headers());
    let limit = usize::try_from(manifest.limits.body.as_u64()).unwrap_or(usize::MAX);
    // Without a header it is all JSON, of which nothing has to be aligned; and neither has what is inflated into memory of its own.
    let head = head_length(request.headers()).ok().flatten().filter(|_| matches!(coding, Ok(None))).unwrap_or(0);
    let body = Limited::new(request.into_body(), limit);
    let body = match tokio::time::timeout(manifest.limits.deadline, aligned(body, head)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(ApiError::body_too_large(&manifest.name, manifest.limits.body));
        }
        // The client has gone, or broke the framing; if it is still there it may know.
        Ok(Err(_)) => return Err(ApiError::bad_request("the body is incomplete")),
        Err(_) => return Err(ApiError::body_timeout(&manifest.name)),
    };
    let Some(coding) = coding? else { return Ok(body) };
    // It may be a thousand times as long when it is inflated.
    let most = body.len().saturating_mul(1032).min(limit);
    let inflated = off_thread(most, move || coding.inflate(&body, limit)).await?;
    inflated.map_err(|error| match error {
        NotInflated::TooLarge => ApiError::body_too_large(&manifest.name, manifest.limits.body),
        NotInflated::Broken => {
            let name = coding.name();
            ApiError::bad_request(format!("the body is not what its `content-encoding` says, which is `{name}`"))
        }
    })
}

/// How the body of a request is encoded.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let coding = value.to_str().map_err(|_| ()).and_then(Coding::of);
    match coding.ok().filter(|_| values.next().is_none()) {
        Some(coding) => Ok(coding),
        None => Err(ApiError::unsupported_encoding()),
    }
}

/// An error that is known before the body is read. A small body is, so that its client may go on with the connection; a large one
/// ends it.
pub(super) async fn after_its_body(request: Request, error: ApiError) -> ApiError {
    let mut body = Limited::new(request.into_body(), UNWANTED);
    let read = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(UNWANTED_TIME, read).await;
    error
}

/// Reads a body to its end. What comes in one frame, as small bodies do, is not copied; of more frames each is copied once, and
/// its memory is free for the next one.
pub(super) async fn in_one_piece<B: http_body::Body<Data = Bytes> + Unpin>(body: B) -> Result<Bytes, B::Error> {
    aligned(body, 0).await
}

/// As [`in_one_piece`]. What follows the first `head` bytes is aligned where frames have to be copied anyway.
async fn aligned<B: http_body::Body<Data = Bytes> + Unpin>(mut body: B, head: usize) -> Result<Bytes, B::Error> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let promised = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let before = (ALIGNED - head % ALIGNED) % ALIGNED;
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
            all.reserve(promised.min(RESERVED).max(first.len() + data.len()) + before);
            all.resize(before, 0);
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { Bytes::from(all).slice(before..) })
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
    async fn what_follows_the_json_is_aligned() {
        for head in [0, 1, 15, 16, 17, 100] {
            let frames = ["x".repeat(head), "data".to_owned(), "more".to_owned()];
            let body =
                StreamBody::new(stream::iter(frames.clone()).map(|data| Ok::<_, Infallible>(Frame::data(data.into()))));
            let whole = aligned(body, head).await.unwrap();
            assert_eq!(whole, frames.concat());
            assert_eq!(whole[head..].as_ptr().addr() % ALIGNED, 0);
        }
    }

    #[test]
    fn the_length_of_the_json_is_one_number() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(BINARY_HEADER, HeaderValue::from_static(value));
            }
            head_length(&headers).ok()
        };
        assert_eq!((read(&[]), read(&["0"]), read(&["17"])), (Some(None), Some(Some(0)), Some(Some(17))));
        for wrong in [&["-1"][..], &["+1"], &["1.0"], &[""], &["x"], &["1", "1"], &["99999999999999999999"]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn one_frame_is_not_copied() {
        let frame = "a body that comes at once";
        assert_eq!(check(&[frame, ""]).await.as_ptr(), frame.as_ptr());
    }
}
