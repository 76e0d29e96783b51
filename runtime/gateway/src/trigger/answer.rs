//! Answers of the protocols for tensors: bodies in pieces, which are sent as they lie in memory, and bodies that are encoded because
//! their callers like that better.

use super::inference::off_thread;
use crate::{error::ApiError, protocol::encoding::Coding};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

/// Bytes of a body that is sent as it is, whatever its caller accepts: it would not get shorter.
const SMALL: u64 = 256;

/// A body of pieces that are there already. Its length is known, so it is sent with a `Content-Length`, and none of them is copied.
pub(super) struct Pieces {
    pieces: vec::IntoIter<Bytes>,
    left: u64,
}

impl Pieces {
    pub(super) fn new(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Pieces { pieces: pieces.into_iter(), left }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.next();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The coding that the caller of a request likes best for the answer, if it likes one better than none.
pub(super) fn accepted(headers: &HeaderMap) -> Option<Coding> {
    // Most callers name none.
    let mut all = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let first = all.next()?;
    match all.next() {
        None => Coding::accepted(first),
        Some(second) => {
            let rest: Vec<_> = [first, second].into_iter().chain(all).collect();
            Coding::accepted(&rest.join(","))
        }
    }
}

/// Encodes an answer that is all there. One that is small, encoded already or still being made stays as it is.
pub(super) async fn encoded(coding: Option<Coding>, response: Response) -> Result<Response, ApiError> {
    use http_body::Body as _;
    let Some(coding) = coding else { return Ok(response) };
    let (mut head, body) = response.into_parts();
    let Some(length @ SMALL..) = body.size_hint().exact() else { return Ok(Response::from_parts(head, body)) };
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(Response::from_parts(head, body));
    }
    let parts = pieces(body).await?;
    let encode = move || coding.encode(&parts);
    // Some four times slower than writing JSON.
    let encoded = off_thread(usize::try_from(length).unwrap_or(usize::MAX).saturating_mul(4), encode).await?.map_err(
        |error| {
            tracing::error!(%error, "encoding an answer failed");
            ApiError::failed("the host failed")
        },
    )?;
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    head.headers.append(header::VARY, HeaderValue::from_name(header::ACCEPT_ENCODING));
    Ok(Response::from_parts(head, encoded.into()))
}

/// All of a body that waits for nobody.
async fn pieces(mut body: Body) -> Result<Vec<Bytes>, ApiError> {
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::error!(%error, "an answer ended before its end");
            ApiError::failed("the host failed")
        })?;
        pieces.extend(frame.into_data());
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;

    #[tokio::test]
    async fn pieces_are_sent_as_they_lie() {
        let parts = [Bytes::from_static(b"head"), Bytes::new(), Bytes::from(vec![7; 100])];
        let mut body = Pieces::new(parts.to_vec());
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(104), false));
        let head = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(body.size_hint().exact(), Some(100));
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((head.as_ptr(), data.as_ptr()), (parts[0].as_ptr(), parts[2].as_ptr()));
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert!(Pieces::new(vec![Bytes::new()]).is_end_stream());
    }

    #[tokio::test]
    async fn answers_are_encoded_for_those_who_like_it() {
        let text = "0123456789".repeat(100);
        let response =
            |text: &str| Response::new(Body::new(Pieces::new(vec![Bytes::copy_from_slice(text.as_bytes())])));
        let mut headers = HeaderMap::new();
        assert_eq!(accepted(&headers), None);
        headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static("br"));
        headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static("deflate"));
        let coding = accepted(&headers);
        assert_eq!(coding, Some(Coding::Deflate));
        let answer = encoded(coding, response(&text)).await.unwrap();
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "deflate");
        let body = pieces(answer.into_body()).await.unwrap().concat();
        assert_eq!(Coding::Deflate.inflate(&body, 1000).unwrap(), text);
        for (coding, text) in [(None, text.as_str()), (coding, "short")] {
            let answer = encoded(coding, response(text)).await.unwrap();
            assert!(answer.headers().is_empty());
            assert_eq!(pieces(answer.into_body()).await.unwrap().concat(), text.as_bytes());
        }
    }
}
