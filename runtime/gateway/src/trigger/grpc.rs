//! gRPC: the services, and what every call of them has in common.
//!
//! Messages are framed here, and not by a generated server. Such a one answers `INTERNAL` to what is its client's fault, knows one limit
//! for the messages of all functions, and copies each tensor once more on its way out.

mod compression;
mod health;
mod messages;
mod models;
mod open_inference;
mod reflection;
mod reply;
mod tf_serving;

use super::inference::{formed, off_thread, select};
use crate::{
    Functions,
    error::ApiError,
    functions::Served,
    listen::Connection,
    protocol::{Malformed, Pieces, open_inference_grpc::Wanted, shown},
};
use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use bytes::Bytes;
use compression::Encoding;
use http::{HeaderMap, HeaderValue, Version, header};
use messages::Messages;
use prost::Message;
use reply::Framed;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout_at};
use tonic::Status;
use torpor_engine::{Function, Timing};
use torpor_tensor::{NamedTensor, Signature};

/// Bytes of a message that carries no tensor.
const SMALL: usize = 64 * 1024;
/// How long such a message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every service needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Grpc {
    pub(crate) functions: Functions,
    /// Whether callers may load and unload functions.
    pub(crate) control: bool,
    /// True once the host drains, so that what waits for its client ends.
    pub(crate) stops: watch::Receiver<bool>,
}

/// The routes of all services.
pub(crate) fn router(grpc: Grpc) -> Router {
    let router = Router::new()
        .route("/inference.GRPCInferenceService/{method}", only_post(post(open_inference::call)))
        .route("/tensorflow.serving.PredictionService/{method}", only_post(post(tf_serving::predictions)))
        .route("/tensorflow.serving.ModelService/{method}", only_post(post(tf_serving::models)))
        .route("/grpc.health.v1.Health/{method}", only_post(post(health::call)))
        .with_state(grpc);
    reflection::add(router)
}

fn only_post(route: MethodRouter<Grpc>) -> MethodRouter<Grpc> {
    route.fallback(async |request: Request| ApiError::method_not_allowed(request.method(), ["POST"]))
}

/// Whether a request is a call of gRPC.
pub(crate) fn is_call(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    // Alone, or with a suffix or parameters; `application/grpc-web` is another protocol.
    let rest = content_type.and_then(|content_type| content_type.strip_prefix(b"application/grpc"));
    request.version() == Version::HTTP_2 && matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// What a call of something that is not here is told.
pub(crate) fn unknown(path: &str) -> Response {
    failed(Status::unimplemented(format!("`{}` is not served here", shown(path))))
}

/// An answer that is an error alone.
fn failed(status: Status) -> Response {
    status.into_http::<Body>()
}

fn too_large(limit: usize) -> Status {
    Status::resource_exhausted(format!("the message is larger than {limit} bytes, the limit for it"))
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        ApiError::bad_request(malformed.to_string()).into()
    }
}

/// A call that is being answered.
struct Call {
    arrived: Instant,
    /// When its client gives it up.
    deadline: Option<Instant>,
    messages: Messages,
    /// How its answer is compressed.
    encoding: Option<Encoding>,
    /// What it came on; in tests there is none.
    connection: Option<Connection>,
}

impl Call {
    /// Reads the head of a request.
    ///
    /// # Errors
    /// The answer, when it is no call, or wants what is not known here.
    fn new(request: Request) -> Result<Self, Box<Response>> {
        if !is_call(&request) {
            let text = "this is called over gRPC, which is HTTP/2 with the content type `application/grpc`";
            return Err(Box::new(ApiError::bad_request(text).into_response()));
        }
        Call::read(request).map_err(|status| Box::new(failed(status)))
    }

    fn read(request: Request) -> Result<Self, Status> {
        let arrived = Instant::now();
        let (head, body) = request.into_parts();
        let compressed = Encoding::of_request(&head.headers)?;
        let timeout = head.headers.get("grpc-timeout");
        let timeout = timeout.map(|value| {
            let wrong = "`grpc-timeout` is no time, which is up to eight digits and one of the letters HMSmun";
            timeout_of(value.as_bytes()).ok_or_else(|| Status::invalid_argument(wrong))
        });
        Ok(Call {
            arrived,
            deadline: timeout.transpose()?.and_then(|timeout| arrived.checked_add(timeout)),
            messages: Messages::new(body, compressed),
            encoding: Encoding::of_answer(compressed, &head.headers),
            connection: head.extensions.get().cloned(),
        })
    }

    /// Answers a call of one small message with another.
    async fn unary<Q: Message + Default, A: Message, E: Into<Status>>(
        self,
        answer: impl AsyncFnOnce(Q) -> Result<A, E>,
    ) -> Response {
        let Call { deadline, mut messages, encoding, .. } = self;
        let answered = async {
            let question = decoded(&messages.only(SMALL, PATIENCE).await?)?;
            let answer = answer(question).await.map_err(Into::into)?;
            Framed::new(answer.encode_to_vec().into(), encoding).await
        };
        match within(deadline, answered).await {
            Ok(message) => reply::one(message, encoding, HeaderMap::new()),
            Err(status) => failed(status),
        }
    }

    /// Answers a call of one message that carries tensors.
    async fn infer<R: Inference>(self, functions: &Functions) -> Response {
        let Call { arrived, deadline, mut messages, encoding, .. } = self;
        let answered = async {
            let largest = functions.largest();
            let limit = usize::try_from(largest.body).unwrap_or(usize::MAX).max(SMALL);
            let message = messages.aligned(R::data_offset).only(limit, largest.deadline.max(PATIENCE)).await?;
            let (message, timing) = infer::<R>(functions, message, arrived).await?;
            Ok((Framed::new(message, encoding).await?, timing))
        };
        match within(deadline, answered).await {
            Ok((message, timing)) => {
                let mut headers = HeaderMap::new();
                super::tell(&mut headers, &timing);
                reply::one(message, encoding, headers)
            }
            Err(status) => failed(status),
        }
    }
}

/// A message that generated code reads.
fn decoded<Q: Message + Default>(message: &Bytes) -> Result<Q, Status> {
    Q::decode(message.clone())
        .map_err(|_| Status::invalid_argument("the message is cut off, or is none of the kind that the call takes"))
}

/// Does what is to be done until `deadline`. What is not done then is dropped, which ends it.
async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let Some(deadline) = deadline else { return work.await };
    let late = |_| Err(Status::deadline_exceeded("the call did not end within its `grpc-timeout`"));
    timeout_at(deadline.into(), work).await.unwrap_or_else(late)
}

/// A time as clients write it.
fn timeout_of(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What a protocol makes of the messages of an inference.
trait Inference: Sized + Send + 'static {
    /// Reads what is asked, but no elements of tensors.
    fn read(message: &Bytes) -> Result<Self, Malformed>;
    /// The model that is asked, and its version.
    fn target(&self) -> (&str, Option<&str>);
    /// What comes back with the answer.
    fn id(&self) -> String;
    /// Where in a message the data of its first tensor begins, as far as the beginning of the message tells; 0 if it does not.
    fn data_offset(beginning: &[u8]) -> usize;
    /// Bytes that [`Inference::tensors`] has to look at.
    fn work(&self) -> usize;
    /// The inputs, none of more than `limit` bytes, and the names of the outputs to give.
    fn tensors(self, signature: &Signature, limit: usize) -> Result<Wanted, Malformed>;
    /// The message of the answer.
    fn answer(model: &str, version: u64, id: &str, outputs: &[NamedTensor]) -> Pieces;
}

/// Answers one message that carries tensors with another.
async fn infer<R: Inference>(
    functions: &Functions,
    message: Bytes,
    arrived: Instant,
) -> Result<(Pieces, Timing), Status> {
    let request = R::read(&message)?;
    let (model, version) = request.target();
    let Served { function, revision, .. } = functions.model(model, version)?;
    let id = request.id();
    let wanted = wanted(&function, request, message.len()).await;
    let Wanted { inputs, outputs, forms } = wanted.inspect_err(|_| function.count_refused(arrived))?;
    // Whoever needs the tensors has a part of it.
    drop(message);
    let answer = function.predict(inputs).await.map_err(ApiError::from)?;
    let outputs = formed(select(answer.value, outputs), &forms, true, &answer.labels).await?;
    let tensors: Vec<_> = outputs.into_iter().map(|output| (output.name, output.tensor)).collect();
    let name = function.manifest().name.as_str();
    Ok((R::answer(name, revision, &id, &tensors), answer.timing))
}

/// Reads the tensors of a request of `length` bytes. Every error here is the caller's doing.
async fn wanted<R: Inference>(function: &Function, request: R, length: usize) -> Result<Wanted, Status> {
    let manifest = function.manifest();
    let limit = usize::try_from(manifest.limits.body.as_u64()).unwrap_or(usize::MAX);
    if length > limit {
        return Err(ApiError::body_too_large(&manifest.name, manifest.limits.body).into());
    }
    let signature = Arc::clone(function.signature());
    Ok(off_thread(request.work(), move || request.tensors(&signature, limit)).await??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_digits_and_a_unit() {
        let check = |text: &str, expected| assert_eq!(timeout_of(text.as_bytes()), expected, "{text}");
        check("1H", Some(Duration::from_secs(3600)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("2M", Some(Duration::from_secs(120)));
        check("3S", Some(Duration::from_secs(3)));
        check("40m", Some(Duration::from_millis(40)));
        check("0u", Some(Duration::ZERO));
        check("5n", Some(Duration::from_nanos(5)));
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            check(text, None);
        }
    }

    #[test]
    fn a_call_is_told_by_its_content_type() {
        let check = |version, content_type: &str, expected| {
            let request = Request::builder().version(version).header(header::CONTENT_TYPE, content_type);
            assert_eq!(is_call(&request.body(Body::empty()).unwrap()), expected, "{content_type}");
        };
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            check(Version::HTTP_2, content_type, true);
            check(Version::HTTP_11, content_type, false);
        }
        for content_type in ["application/grpc-web", "application/grpcx", "application/json", ""] {
            check(Version::HTTP_2, content_type, false);
        }
    }
}
