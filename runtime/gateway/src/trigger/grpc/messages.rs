//! The messages of a request, each behind a flag and its length, as they come in the body.

use super::{compression::Encoding, too_large};
use crate::trigger::inference::{ALIGNED, RESERVED};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

/// Bytes before a message: a flag and four of its length.
const HEAD: usize = 5;

/// Reads messages, one after another.
pub(super) struct Messages {
    body: Body,
    /// What has come and was not yet read.
    rest: Bytes,
    /// How compressed ones are compressed.
    encoding: Option<Encoding>,
    /// Tells by the beginning of a message where its data begins, so that a backend can read that in place.
    data_offset: fn(&[u8]) -> usize,
}

impl Messages {
    pub(super) fn new(body: Body, encoding: Option<Encoding>) -> Self {
        Messages { body, rest: Bytes::new(), encoding, data_offset: |_| 0 }
    }

    /// Has messages that are copied together begin where their data is aligned.
    pub(super) fn aligned(&mut self, data_offset: fn(&[u8]) -> usize) -> &mut Self {
        self.data_offset = data_offset;
        self
    }

    /// The next message, inflated if it was compressed; `None` behind the last. Waits for its beginning for as long as it takes, and
    /// then for no longer than `patience`. What came in one frame, as small messages do, is not copied.
    ///
    /// # Errors
    /// When it is larger than `limit`, is cut off or compressed in another way than was said, or does not come in time.
    pub(super) async fn next(&mut self, limit: usize, patience: Duration) -> Result<Option<Bytes>, Status> {
        if self.rest.is_empty() && !self.frame().await? {
            return Ok(None);
        }
        let late = |_| Status::deadline_exceeded("the message did not arrive in time");
        let (compressed, message) = timeout(patience, self.message(limit)).await.map_err(late)??;
        match self.encoding {
            _ if !compressed => Ok(Some(message)),
            Some(encoding) => encoding.inflate(message, limit).await.map(Some),
            None => Err(Status::invalid_argument("the message is compressed, but `grpc-encoding` does not say how")),
        }
    }

    /// The only message of a request.
    ///
    /// # Errors
    /// As those of [`Messages::next`], and when there is none or more than one. `patience` is for all of it.
    pub(super) async fn only(&mut self, limit: usize, patience: Duration) -> Result<Bytes, Status> {
        let read = async {
            let only = self.next(limit, patience).await?;
            // A client that is done says so, mostly along with its message.
            if !self.rest.is_empty() || self.frame().await? {
                return Err(Status::invalid_argument("the call takes one message, but there are more"));
            }
            only.ok_or_else(|| Status::invalid_argument("the call takes one message, but there is none"))
        };
        let read = timeout(patience, read).await;
        read.unwrap_or_else(|_| Err(Status::deadline_exceeded("the message did not arrive in time")))
    }

    /// Waits until more bytes have come. False at the end.
    async fn frame(&mut self) -> Result<bool, Status> {
        while let Some(frame) = self.body.frame().await {
            // The client has gone, or broke the framing; if it is still there it may know.
            let frame = frame.map_err(|_| Status::cancelled("the request is incomplete"))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.rest = data;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A message that has begun, and whether it is compressed.
    async fn message(&mut self, limit: usize) -> Result<(bool, Bytes), Status> {
        let head = self.take(HEAD).await?;
        let Some(&[flag, a, b, c, d]) = head.first_chunk() else { return Err(cut_off()) };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > limit {
            return Err(too_large(limit));
        }
        match flag {
            0 | 1 => Ok((flag == 1, self.take(length).await?)),
            _ => Err(Status::invalid_argument(format!(
                "a message begins with the flag {flag}, which is neither 0 nor 1"
            ))),
        }
    }

    /// So many bytes, which have to come.
    async fn take(&mut self, length: usize) -> Result<Bytes, Status> {
        if self.rest.len() >= length {
            return Ok(self.rest.split_to(length));
        }
        // What the allocator gives begins at a multiple of it.
        let before = (ALIGNED - (self.data_offset)(&self.rest) % ALIGNED) % ALIGNED;
        let mut all = Vec::with_capacity(before + length.min(RESERVED));
        all.resize(before, 0);
        let length = before + length;
        loop {
            let wanted = (length - all.len()).min(self.rest.len());
            if all.len() + wanted > all.capacity() {
                // Who has sent so much gets all that is missing at once.
                all.reserve_exact(length - all.len());
            }
            all.extend_from_slice(&self.rest.split_to(wanted));
            if all.len() == length {
                return Ok(Bytes::from(all).slice(before..));
            }
            if !self.frame().await? {
                return Err(cut_off());
            }
        }
    }
}

fn cut_off() -> Status {
    Status::invalid_argument("the message is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use http::{HeaderMap, HeaderValue};
    use tonic::Code;

    const FOREVER: Duration = Duration::from_secs(600);

    fn messages(frames: &[&[u8]], encoding: Option<Encoding>) -> Messages {
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        Messages::new(Body::from_stream(stream::iter(frames).map(Ok::<_, std::convert::Infallible>)), encoding)
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], length.as_slice(), message].concat()
    }

    async fn all(mut messages: Messages) -> Result<Vec<Bytes>, Status> {
        let mut all = Vec::new();
        while let Some(message) = messages.next(100, FOREVER).await? {
            all.push(message);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn messages_come_in_any_pieces() {
        let body = [framed(b"one"), framed(b""), framed(b"three")].concat();
        for size in 1..=body.len() {
            let pieces: Vec<_> = body.chunks(size).collect();
            assert_eq!(all(messages(&pieces, None)).await.unwrap(), ["one", "", "three"], "{size}");
        }
        assert!(all(messages(&[], None)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_message_in_one_frame_is_not_copied() {
        let frame = Bytes::from(framed(b"a message"));
        let body = Body::from(frame.clone());
        let message = Messages::new(body, None).only(100, FOREVER).await.unwrap();
        assert_eq!(message.as_ptr(), frame[HEAD..].as_ptr());
    }

    #[tokio::test]
    async fn what_is_wrong_is_the_clients_fault() {
        let check = async |frames: &[&[u8]], code| {
            assert_eq!(all(messages(frames, None)).await.unwrap_err().code(), code, "{frames:?}");
        };
        check(&[&[0, 0]], Code::InvalidArgument).await;
        check(&[&[0, 0, 0, 0, 2, 1]], Code::InvalidArgument).await;
        check(&[&[2, 0, 0, 0, 0]], Code::InvalidArgument).await;
        check(&[&[1, 0, 0, 0, 0]], Code::InvalidArgument).await;
        check(&[&[0, 0, 0, 0, 101]], Code::ResourceExhausted).await;
        check(&[&[0, 255, 255, 255, 255]], Code::ResourceExhausted).await;
    }

    #[tokio::test]
    async fn one_message_is_one() {
        let two = [framed(b"a"), framed(b"b")].concat();
        for (frames, expected) in
            [(&[two.as_slice()][..], "more"), (&[&framed(b"a"), &framed(b"b")], "more"), (&[], "none")]
        {
            let error = messages(frames, None).only(100, FOREVER).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(expected), "{error}");
        }
        let ends_later = messages(&[&framed(b"a"), b""], None).only(100, FOREVER).await;
        assert_eq!(ends_later.unwrap(), "a");
    }

    #[tokio::test]
    async fn data_is_aligned_where_it_is_copied() {
        for offset in [0, 1, 15, 16, 17] {
            let message = [vec![b'x'; offset], b"data".to_vec()].concat();
            let body = framed(&message);
            let mut messages = messages(&[&body[..HEAD + offset], &body[HEAD + offset..]], None);
            messages.aligned(|beginning| beginning.iter().filter(|byte| **byte == b'x').count());
            let read = messages.only(100, FOREVER).await.unwrap();
            assert_eq!(read, message);
            assert!(offset == 0 || read[offset..].as_ptr().addr().is_multiple_of(ALIGNED));
        }
    }

    #[tokio::test]
    async fn compressed_messages_are_inflated() {
        let headers = HeaderMap::from_iter([("grpc-encoding".parse().unwrap(), HeaderValue::from_static("gzip"))]);
        let gzip = Encoding::of_request(&headers).unwrap().unwrap();
        let deflated = gzip.deflate(vec![Bytes::from_static(&[7; 90])], 90).await.unwrap();
        let mut frame = framed(&deflated);
        frame[0] = 1;
        let body = [frame, framed(b"plain")].concat();
        let read = all(messages(&[&body], Some(gzip))).await.unwrap();
        assert_eq!(read, [[7; 90].as_slice(), b"plain"]);
    }

    #[tokio::test]
    async fn a_message_that_does_not_come_is_given_up() {
        let body =
            stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from_static(&[0, 0]))]).chain(stream::pending());
        let error = Messages::new(Body::from_stream(body), None).next(100, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
    }
}
