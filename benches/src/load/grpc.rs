//! Callers over gRPC: an HTTP/2 connection each, as a program has that makes one channel. The message is framed once, and of an answer
//! the bytes are counted and the status is read.

use super::{Caller, Round, busy, runtime};
use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, StatusCode,
    client::conn::http2::{SendRequest, handshake},
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

/// What is before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// One call of a method, as it is made again and again.
#[derive(Clone)]
pub struct Call {
    path: String,
    /// With its prefix.
    message: Bytes,
}

impl Call {
    /// Of the method at `path`, such as `/package.Service/Method`, with an encoded message.
    ///
    /// # Errors
    /// When the message is too large for its prefix.
    pub fn new(path: &str, message: &[u8]) -> Result<Self> {
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.put_u8(0);
        framed.put_u32(message.len().try_into()?);
        framed.put_slice(message);
        Ok(Call { path: path.to_owned(), message: framed.freeze() })
    }
}

/// One call on a connection of its own; returns the message of the answer.
///
/// # Errors
/// When the server cannot be reached, or gives no answer with the status 0.
pub fn once(address: SocketAddr, call: &Call) -> Result<Vec<u8>> {
    runtime()?.block_on(async {
        let mut answer = Vec::new();
        Channel::open(address, call).await?.call(|data| answer.extend_from_slice(data)).await?;
        ensure!(answer.len() >= PREFIX, "the answer has no message");
        Ok(answer.split_off(PREFIX))
    })
}

/// Keeps `connections` busy for `time`, each with one call at a time.
///
/// # Errors
/// When a connection breaks, or an answer is not good.
pub fn round(address: SocketAddr, call: &Call, connections: usize, time: Duration) -> Result<Round> {
    runtime()?.block_on(async {
        let mut callers = Vec::new();
        for _ in 0..connections {
            callers.push(Channel::open(address, call).await?);
        }
        busy(callers, time).await
    })
}

struct Channel {
    sender: SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    /// Bytes of the first answer, and so of all.
    length: Option<usize>,
}

impl Channel {
    async fn open(address: SocketAddr, call: &Call) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("`{address}` cannot be reached"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // It ends with its sender, and whoever waits for an answer gets to know how.
        tokio::spawn(connection);
        let request = Request::post(format!("http://{address}{}", call.path))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Full::new(call.message.clone()))?;
        Ok(Channel { sender, request, length: None })
    }

    /// Makes the call, and gives what comes back to `sink`, piece by piece.
    async fn call(&mut self, mut sink: impl FnMut(&[u8])) -> Result<()> {
        self.sender.ready().await?;
        let response = self.sender.send_request(self.request.clone()).await?;
        ensure!(response.status() == StatusCode::OK, "the server answered {}", response.status());
        // Where there is nothing but an error, it is in the head.
        let mut status = status(response.headers());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => sink(&data),
                Err(frame) => status = frame.trailers_ref().and_then(self::status).or(status),
            }
        }
        let status = status.context("the answer has no status")?;
        ensure!(status.0 == "0", "the server answered {}: {}", status.0, status.1);
        Ok(())
    }
}

/// The status, and what is said of it.
fn status(headers: &HeaderMap) -> Option<(String, String)> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Some((text("grpc-status")?, text("grpc-message").unwrap_or_default()))
}

impl Caller for Channel {
    async fn ask(&mut self) -> Result<()> {
        let mut length = 0;
        self.call(|data| length += data.len()).await?;
        let first = *self.length.get_or_insert(length);
        ensure!(length == first, "an answer has {length} bytes, but one before had {first}");
        Ok(())
    }
}
