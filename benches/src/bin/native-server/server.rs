//! The server: accept, read, run, write.

use crate::{binary, grpc, model::Model, runs::Runs};
use anyhow::{Result, bail};
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Either, Full, Limited, StreamBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{self, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    io::{Write, stdout},
    net::Ipv4Addr,
    sync::Arc,
    vec,
};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a body.
pub(crate) const MAX_BODY: usize = 16 * 1024 * 1024;
/// Tensors behind the JSON of a large body begin at a multiple of so many bytes, so that they are read where they are.
const ALIGNED: usize = 16;
/// What says how long the JSON before tensors is.
const BINARY_HEADER: &str = "inference-header-content-length";

/// One model, and its name.
pub(crate) struct Server {
    pub(crate) name: Arc<str>,
    pub(crate) runs: Runs,
    path: String,
}

/// An answer in one piece, or in several as they lie in memory.
type Answer = Either<Full<Bytes>, StreamBody<stream::Iter<vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>>;

/// Serves until the process is ended.
pub(crate) fn serve(models: Vec<Model>, name: &str, run: crate::Run, speaks_grpc: bool) -> Result<()> {
    let runs = Runs::new(models, run)?;
    let server = Arc::new(Server { name: name.into(), runs, path: format!("/v2/models/{name}/infer") });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut stdout = stdout();
        writeln!(stdout, "{}", listener.local_addr()?)?;
        stdout.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let server = Arc::clone(&server);
            // A connection that breaks is its client's doing.
            if speaks_grpc {
                tokio::spawn(async move { drop(calls(stream, server).await) });
            } else {
                tokio::spawn(async move { drop(requests(stream, server).await) });
            }
        }
    })
}

async fn requests(stream: TcpStream, server: Arc<Server>) -> hyper::Result<()> {
    let service = service_fn(|request| server.answer(request));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
}

async fn calls(stream: TcpStream, server: Arc<Server>) -> hyper::Result<()> {
    let service = TowerToHyperService::new(grpc::service(server));
    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        if request.method() != Method::POST || request.uri().path() != self.path {
            return Ok(response(StatusCode::NOT_FOUND, error("there is only one model here")));
        }
        Ok(match self.infer(request).await {
            Ok(answer) => answer,
            Err(reason) => response(StatusCode::BAD_REQUEST, error(&format!("{reason:#}"))),
        })
    }

    async fn infer(&self, request: Request<Incoming>) -> Result<Response<Answer>> {
        let head = head_length(request.headers())?;
        let body = read(request.into_body(), head.unwrap_or(0)).await?;
        let name = Arc::clone(&self.name);
        let Some(head) = head else {
            let answer = self.runs.on(move |model| model.answer(&name, &body)).await?;
            return Ok(response(StatusCode::OK, answer));
        };
        let pieces = self.runs.on(move |model| binary::answer(model, &name, &body, head)).await?;
        Ok(in_pieces(pieces))
    }
}

/// How long the JSON of a body with tensors behind it is; `None` where all of it is JSON.
fn head_length(headers: &HeaderMap) -> Result<Option<usize>> {
    headers.get(BINARY_HEADER).map(|length| Ok(length.to_str()?.parse()?)).transpose()
}

/// Reads a body. One that comes in one frame is not copied; of more frames each is copied once, so that what follows the first `head`
/// bytes is aligned.
async fn read(body: Incoming, head: usize) -> Result<Bytes> {
    let before = (ALIGNED - head % ALIGNED) % ALIGNED;
    let promised = usize::try_from(body.size_hint().lower())?.min(MAX_BODY);
    let mut body = Limited::new(body, MAX_BODY);
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => bail!("the body cannot be read: {error}"),
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(before + promised);
            all.resize(before, 0);
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { Bytes::from(all).slice(before..) })
}

fn error(text: &str) -> Vec<u8> {
    serde_json::json!({ "error": text }).to_string().into_bytes()
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer whose first piece is JSON, and whose others are tensors.
fn in_pieces(pieces: Vec<Bytes>) -> Response<Answer> {
    let head = pieces.first().map_or(0, Bytes::len);
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let frames: Vec<_> = pieces.into_iter().map(|piece| Ok(Frame::data(piece))).collect();
    let mut response = Response::new(Either::Right(StreamBody::new(stream::iter(frames))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(BINARY_HEADER, head.into());
    response
}
