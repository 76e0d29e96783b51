//! The calls of the Open Inference Protocol, and those that Triton adds to it.

use super::{Call, Grpc, Inference, Messages, SMALL, Wanted, failed, infer, reply, reply::Framed, within};
use crate::{
    Functions,
    functions::Served,
    listen::Connection,
    protocol::{
        Malformed, Pieces,
        open_inference_grpc::{InferRequest, infer_response, model_metadata, stream_error, stream_response},
        proto::inference::{
            ModelMetadataRequest, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest, ServerLiveResponse,
            ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
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
    let Grpc { functions, .. } = &grpc;
    match method.as_str() {
        "ModelInfer" => call.infer::<InferRequest>(functions).await,
        "ModelStreamInfer" => stream_infer(call, grpc),
        "ServerLive" => call.unary(|_: ServerLiveRequest| Ok(ServerLiveResponse { live: true })).await,
        "ServerReady" => call.unary(|_: ServerReadyRequest| Ok(ServerReadyResponse { ready: true })).await,
        "ServerMetadata" => call.unary(|_: ServerMetadataRequest| Ok(server_metadata())).await,
        "ModelReady" => {
            call.unary(|ModelReadyRequest { name, version }| Ok(model_ready(functions, &name, &version))).await
        }
        "ModelMetadata" => {
            call.unary(|ModelMetadataRequest { name, version }| {
                let Served { function, revision, .. } = functions.model(&name, given(&version))?;
                Ok(model_metadata(function.manifest().name.as_str(), revision, function.signature()))
            })
            .await
        }
        "ModelConfig"
        | "ModelStatistics"
        | "RepositoryIndex"
        | "RepositoryModelLoad"
        | "RepositoryModelUnload"
        | "TraceSetting"
        | "LogSettings" => failed(Status::unimplemented(format!("`{method}` is not offered over gRPC"))),
        _ => failed(Status::unimplemented(format!("`{}` is no call of this service", shown(&method)))),
    }
}

/// The version that a caller names; `None` where it leaves the choice to the host.
fn given(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

fn server_metadata() -> ServerMetadataResponse {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    ServerMetadataResponse { name: "torpor".to_owned(), version, extensions: Vec::new() }
}

/// A model that is not there is not ready, and that is no error: callers ask until it is.
fn model_ready(functions: &Functions, name: &str, version: &str) -> ModelReadyResponse {
    let model = functions.model(name, given(version));
    ModelReadyResponse { ready: model.is_ok_and(|Served { function, .. }| function.is_ready()) }
}

/// Answers requests in the order in which they come, some of them at the same time. One that fails is told so in the stream, which
/// goes on; only what is no message ends it.
fn stream_infer(call: Call, grpc: Grpc) -> Response {
    let Call { deadline, messages, encoding, connection, .. } = call;
    let Grpc { functions, stops } = grpc;
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
