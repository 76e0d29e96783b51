//! Compression of single messages: what clients say of it in headers, and the bytes.

use crate::protocol::{
    encoding::{Coding, NotInflated},
    shown,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::io;
use tonic::{Status, metadata::MetadataValue};

/// The kinds that are served, as clients name them.
const ACCEPTED: &str = "identity,gzip,deflate";

const ENCODING: &str = "grpc-encoding";
pub(super) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// How much larger than its message an inflated one is at most, so how long it may take.
const RATIO: usize = 1032;

/// A kind of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding(Coding);

impl Encoding {
    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"gzip" => Some(Encoding(Coding::Gzip)),
            b"deflate" => Some(Encoding(Coding::Deflate)),
            _ => None,
        }
    }

    /// How the compressed messages of a request are compressed; `None` where none may be.
    ///
    /// # Errors
    /// When it is not known here. The status says what is.
    pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        match headers.get(ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(None),
            Some(name) => Encoding::named(name).map(Some).ok_or_else(|| {
                let name = shown(&String::from_utf8_lossy(name));
                let text = format!("the encoding `{name}` is not known here; use `gzip` or `deflate`");
                let mut status = Status::unimplemented(text);
                status.metadata_mut().insert(ACCEPT_ENCODING, MetadataValue::from_static(ACCEPTED));
                status
            }),
        }
    }

    /// How the answer is compressed: as the request was, where the client says that it reads that. One that sends its own messages as
    /// they are is not made to wait.
    pub(super) fn of_answer(request: Option<Self>, headers: &HeaderMap) -> Option<Self> {
        let encoding = request?;
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let mut names = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
        names.any(|name| Encoding::named(name.trim_ascii()) == Some(encoding)).then_some(encoding)
    }

    /// Tells in the headers of an answer how its messages are compressed, and what is understood.
    pub(super) fn tell(encoding: Option<Self>, headers: &mut HeaderMap) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        if let Some(Encoding(coding)) = encoding {
            headers.insert(ENCODING, HeaderValue::from_static(coding.name()));
        }
    }

    /// The message that was compressed, if it has `limit` bytes at most. Nothing larger is made of it.
    ///
    /// # Errors
    /// When it is larger, or was not compressed so.
    pub(super) async fn inflate(self, message: Bytes, limit: usize) -> Result<Bytes, Status> {
        let most = message.len().saturating_mul(RATIO).min(limit);
        let inflated = super::off_thread(most, move || self.0.inflate(&message, limit)).await?;
        inflated.map_err(|error| match error {
            NotInflated::TooLarge => super::too_large(limit),
            NotInflated::Broken => Status::invalid_argument(format!(
                "the message is not compressed as `{ENCODING}` says, which is `{}`, or is cut off",
                self.0.name()
            )),
        })
    }

    /// A message of `length` bytes, compressed.
    ///
    /// # Errors
    /// Only the host's own.
    pub(super) async fn deflate(self, pieces: Vec<Bytes>, length: usize) -> Result<Vec<u8>, Status> {
        // Some four times slower than writing JSON.
        let deflated: io::Result<_> =
            super::off_thread(length.saturating_mul(4), move || self.0.encode(&pieces)).await?;
        deflated.map_err(|error| {
            tracing::error!(%error, "compressing an answer failed");
            Status::internal("the host failed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[tokio::test]
    async fn messages_survive_compression_within_their_limit() {
        for encoding in [Encoding(Coding::Gzip), Encoding(Coding::Deflate)] {
            let message = Bytes::from(vec![7; 1 << 20]);
            let deflated = Bytes::from(encoding.deflate(vec![message.clone()], message.len()).await.unwrap());
            assert_eq!(encoding.inflate(deflated.clone(), 1 << 20).await.unwrap(), message);
            let error = encoding.inflate(deflated.clone(), (1 << 20) - 1).await.unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted);
            let error = encoding.inflate(deflated.slice(..deflated.len() - 1), 1 << 20).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn answers_are_compressed_as_requests_are() {
        let check = |accepted: &'static str, request: Option<&[u8]>, expected| {
            let headers =
                HeaderMap::from_iter([(ACCEPT_ENCODING.parse().unwrap(), HeaderValue::from_static(accepted))]);
            let answer = Encoding::of_answer(request.and_then(Encoding::named), &headers);
            assert_eq!(answer.is_some(), expected, "{accepted}");
        };
        check("identity, deflate, gzip", Some(b"gzip"), true);
        check("identity,deflate", Some(b"gzip"), false);
        check("gzip", None, false);
        check("", Some(b"deflate"), false);
    }
}
