//! The calls of the Open Inference Protocol, and those that Triton adds to it.

use super::{Call, Grpc, Inference, Messages, SMALL, failed, infer, models, reply, reply::Framed, within};
use crate::{
    Functions,
    listen::Connection,
    protocol::{
        Malformed, Pieces,
        open_inference_grpc::{InferRequest, Wanted, infer_response, stream_error, stream_response},
        proto::inference::{
            ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerReadyRequest, ServerReadyResponse,
        },
        shown,
    },
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, future::Either, stream};
use std::time::Instant;
use tonic::Status;
use torpor_tensor::{NamedTensor, Signature};

/// Requests of one stream that are answered at the same time.
const AT_ONCE: usize = 16;

impl Inference for InferRequest {
    fn read(message: &Bytes) -> Result<Self, Malformed> {
        InferRequest::read(message)
    }

    fn target(&self) -> (&str, Option<&str>) {
        (&self.model, self.version.as_deref())
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    fn data_offset(beginning: &[u8]) -> usize {
        InferRequest::data_offset(beginning)
    }

    fn work(&self) -> usize {
        InferRequest::work(self)
    }

    fn tensors(self, signature: &Signature, limit: usize) -> Result<Wanted, Malformed> {
        InferRequest::tensors(self, signature, limit)
    }

    fn answer(model: &str, version: u64, id: &str, outputs: &[NamedTensor]) -> Pieces {
        infer_response(model, version, id, outputs)
    }
}

pub(super) async fn call(State(grpc): State<Grpc>, Path(method): Path<String>, request: Request) -> Response {
    let call = match Call::new(request) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    let functions = &grpc.functions;
    match method.as_str() {
        "ModelInfer" => call.infer::<InferRequest>(functions).await,
        "ModelStreamInfer" => stream_infer(call, grpc),
        "ServerLive" => call.unary(async |_: ServerLiveRequest| done(ServerLiveResponse { live: true })).await,
        "ServerReady" => call.unary(async |_: ServerReadyRequest| done(ServerReadyResponse { ready: true })).await,
        "ServerMetadata" => call.unary(async |_: ServerMetadataRequest| done(models::server(&grpc))).await,
        "ModelReady" => call.unary(async |request| done(models::ready(functions, &request))).await,
        "ModelMetadata" => call.unary(async |request| models::metadata(functions, &request)).await,
        "ModelConfig" => call.unary(async |request| models::config(functions, &request)).await,
        "ModelStatistics" => call.unary(async |request| models::statistics(functions, &request)).await,
        "RepositoryIndex" => call.unary(async |request| done(models::index(functions, &request))).await,
        "RepositoryModelLoad" => call.unary(async |request| models::load(&grpc, request).await).await,
        "RepositoryModelUnload" => call.unary(async |request| models::unload(&grpc, request).await).await,
        "TraceSetting" => call.unary(async |request| models::trace(functions, request)).await,
        "LogSettings" => call.unary(async |request| models::logging(request)).await,
        _ => failed(Status::unimplemented(format!("`{}` is no call of this service", shown(&method)))),
    }
}

/// An answer that nothing can keep from being given.
fn done<A>(answer: A) -> Result<A, Status> {
    Ok(answer)
}

/// Answers requests in the order in which they come, some of them at the same time. One that fails is told so in the stream, which
/// goes on; only what is no message ends it.
fn stream_infer(call: Call, grpc: Grpc) -> Response {
    let Call { deadline, mut messages, encoding, connection, .. } = call;
    messages.aligned(InferRequest::data_offset);
    let Grpc { functions, stops, .. } = grpc;
    let requests = requests(messages, functions.clone(), stops);
    let answers = requests.map(move |message| match message {
        Ok(message) => Either::Left(answer(functions.clone(), message, connection.clone())),
        Err(status) => Either::Right(std::future::ready(Err(status))),
    });
    let answers = answers.buffered(AT_ONCE).then(move |answer| async move { Framed::new(answer?, encoding).await });
    let answers = Box::pin(answers);
    let until_deadline = stream::unfold(Some(answers), move |answers| async move {
        let mut answers = answers?;
        let next = within(deadline, async { Ok(answers.next().await) }).await;
        match next.transpose()?.and_then(|answer| answer) {
            Ok(answer) => Some((Ok(answer), Some(answers))),
            Err(status) => Some((Err(status), None)),
        }
    });
    reply::many(until_deadline, encoding)
}

/// The messages of a stream, until its client has no more or the host stops.
fn requests(
    messages: Messages,
    functions: Functions,
    stops: tokio::sync::watch::Receiver<bool>,
) -> impl Stream<Item = Result<Bytes, Status>> {
    stream::unfold(Some((messages, functions, stops)), |state| async move {
        let (mut messages, functions, mut stops) = state?;
        let largest = functions.largest();
        let limit = usize::try_from(largest.body).unwrap_or(usize::MAX).max(SMALL);
        let message = tokio::select! {
            message = messages.next(limit, largest.deadline.max(super::PATIENCE)) => message.transpose()?,
            _ = stops.wait_for(|stops| *stops) => Err(Status::unavailable("the host is stopping")),
        };
        let goes_on = message.is_ok().then_some((messages, functions, stops));
        Some((message, goes_on))
    })
}

/// What the stream has for one request of it.
async fn answer(functions: Functions, message: Bytes, connection: Option<Connection>) -> Result<Pieces, Status> {
    let _work = connection.as_ref().map(Connection::work);
    let id = InferRequest::id_of(&message);
    let answered = infer::<InferRequest>(&functions, message, Instant::now()).await;
    Ok(match answered {
        Ok((answer, _)) => stream_response(answer),
        Err(status) => stream_error(status.message(), &id),
    })
}
