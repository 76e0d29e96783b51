//! Plain HTTP requests to a function's own path, streaming both ways.

use super::{check_declared_length, inference::in_one_piece, tell};
use crate::error::ApiError;
use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Uri, header, uri::Authority};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};
use torpor_engine::{Function, RequestBody};

/// Bytes of a body that are waited for before the function is called. Of larger ones, and of those that declare no length, functions
/// get to see what has come.
const GATHERED: u64 = 64 * 1024;

/// Headers that belong to one connection and not to the request. `te` and `trailer` are among them by the letter of HTTP.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(crate) async fn call(function: &Function, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let (request, exceeded) = accept(function, request).inspect_err(|_| function.count_refused(arrived))?;
    let request = gathered(function, request).await.inspect_err(|_| function.count_refused(arrived))?;
    // A guest that was cut short in its reading may answer anything, or fail; what the caller has to know is the limit.
    let answer = function.http(request).await;
    if exceeded.load(Ordering::Relaxed) {
        let manifest = function.manifest();
        return Err(ApiError::body_too_large(&manifest.name, manifest.limits.body));
    }
    let answer = answer?;
    let mut response = answer.value.map(Body::new);
    tell(response.headers_mut(), &answer.timing);
    Ok(response)
}

/// The request as the function gets it, and what will tell whether its body was too large. Every error here is the caller's doing.
fn accept(function: &Function, request: Request) -> Result<(http::Request<RequestBody>, Arc<AtomicBool>), ApiError> {
    let manifest = function.manifest();
    let methods = manifest.trigger.http.as_ref().map_or(&[][..], |http| &http.methods);
    if !methods.is_empty() && !methods.iter().any(|method| method.as_str() == request.method().as_str()) {
        return Err(ApiError::method_not_allowed(request.method(), methods.iter().map(|method| method.as_str())));
    }
    check_declared_length(request.headers(), manifest)?;

    let (mut head, body) = request.into_parts();
    head.uri = absolute(&head.uri, &head.headers)?;
    strip_hop_by_hop(&mut head.headers);
    let exceeded = Arc::new(AtomicBool::new(false));
    let body = LimitedBody { body, left: manifest.limits.body.as_u64(), exceeded: Arc::clone(&exceeded) };
    Ok((http::Request::from_parts(head, body.map_err(Into::into).boxed_unsync()), exceeded))
}

/// The request with its whole body, where that is declared to be small. A client that sends it slowly holds no place meanwhile.
async fn gathered(
    function: &Function,
    request: http::Request<RequestBody>,
) -> Result<http::Request<RequestBody>, ApiError> {
    let (head, body) = request.into_parts();
    let body = match body.size_hint().exact() {
        Some(1..=GATHERED) => {
            let manifest = function.manifest();
            let body = tokio::time::timeout(manifest.limits.deadline, in_one_piece(body)).await;
            let body = body.map_err(|_| ApiError::body_timeout(&manifest.name))?;
            // The client has gone, or broke the framing; if it is still there it may know.
            let body = body.map_err(|_| ApiError::bad_request("the body is incomplete"))?;
            Full::new(body).map_err(|never| match never {}).boxed_unsync()
        }
        _ => body,
    };
    Ok(http::Request::from_parts(head, body))
}

/// The request's URI with the authority that the client named.
fn absolute(uri: &Uri, headers: &HeaderMap) -> Result<Uri, ApiError> {
    let host = || headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let Some(authority) = uri.authority().cloned().or_else(host) else {
        return Err(ApiError::bad_request("the request has no valid `Host` header"));
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
    uri.map_err(|_| ApiError::bad_request("the request's target is no valid URI"))
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP).chain([&HeaderName::from_static("keep-alive")]) {
        headers.remove(name);
    }
}

/// A request's body up to the function's limit. Tells through `exceeded` why it broke off.
struct LimitedBody {
    body: Body,
    left: u64,
    exceeded: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
enum BrokenOff {
    #[error("the body is too large")]
    TooLarge,
    #[error("the client broke off")]
    Client,
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|_| BrokenOff::Client)?;
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match self.left.checked_sub(length) {
                Some(left) => self.left = left,
                None => {
                    self.exceeded.store(true, Ordering::Relaxed);
                    return Err(BrokenOff::TooLarge);
                }
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
