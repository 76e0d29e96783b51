//! What goes back to a client: framed messages, and behind them the status in trailers.

use super::compression::Encoding;
use crate::{listen::Lasting, protocol::Pieces};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Frame, SizeHint};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tonic::Status;

/// A message with its head, in pieces that are sent one after another.
pub(super) struct Framed(Vec<Bytes>);

impl Framed {
    /// Frames a message, compressed as `encoding` says.
    ///
    /// # Errors
    /// When it is longer than 32 bits count.
    pub(super) async fn new(message: Pieces, encoding: Option<Encoding>) -> Result<Self, Status> {
        let (flag, message) = match encoding {
            None => (0, message),
            Some(encoding) => {
                let length = message.length();
                (1, encoding.deflate(message.into_pieces(), length).await?.into())
            }
        };
        let length = u32::try_from(message.length())
            .map_err(|_| Status::internal("the answer is larger than a message of gRPC can be"))?;
        let [a, b, c, d] = length.to_be_bytes();
        Ok(Framed(message.prefixed(&[flag, a, b, c, d]).into_pieces()))
    }
}

/// The answer of one message. `headers` go before it.
pub(super) fn one(message: Framed, encoding: Option<Encoding>, headers: HeaderMap) -> Response {
    let left = message.0.iter().map(|piece| piece.len() as u64).sum();
    response(encoding, headers, Body::new(One { pieces: message.0.into(), left, ended: false }))
}

/// An answer of as many messages as `messages` gives, which ends with an error or with success. Whoever makes them says when the
/// connection is busy.
pub(super) fn many(
    messages: impl Stream<Item = Result<Framed, Status>> + Send + 'static,
    encoding: Option<Encoding>,
) -> Response {
    let body = Many { messages: Box::pin(messages), pieces: VecDeque::new(), ended: false };
    let mut response = response(encoding, HeaderMap::new(), Body::new(body));
    response.extensions_mut().insert(Lasting);
    response
}

fn response(encoding: Option<Encoding>, mut headers: HeaderMap, body: Body) -> Response {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Encoding::tell(encoding, &mut headers);
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// The trailers that end an answer.
fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Only a text that no header may hold can fail, and the text is escaped.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(i32::from(status.code())));
    }
    trailers
}

/// One message, and that all went well. Its length is known, so whoever counts what is still being made does not count it.
struct One {
    pieces: VecDeque<Bytes>,
    left: u64,
    ended: bool,
}

impl http_body::Body for One {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(piece) = self.pieces.pop_front() {
            self.left -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let ended = std::mem::replace(&mut self.ended, true);
        Poll::Ready((!ended).then(|| Ok(Frame::trailers(trailers(&Status::ok(""))))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

struct Many<S> {
    messages: Pin<Box<S>>,
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl<S: Stream<Item = Result<Framed, Status>>> http_body::Body for Many<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let status = match ready!(self.messages.as_mut().poll_next(context)) {
                Some(Ok(Framed(pieces))) => {
                    self.pieces = pieces.into();
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.ended = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
