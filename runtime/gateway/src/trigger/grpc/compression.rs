//! Compression of single messages: which kinds there are, what a client says of them, and the bytes.

use bytes::Bytes;
use flate2::{Compression, bufread::ZlibEncoder, read::GzDecoder, read::ZlibDecoder};
use http::{HeaderMap, HeaderValue};
use std::io::{self, Read};
use tonic::Status;

/// The kinds that are served, as clients name them.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip,deflate");

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// How much larger than its message an inflated one is at most, so how long it may take.
pub(super) const RATIO: usize = 1032;

/// A kind of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"gzip" => Some(Encoding::Gzip),
            b"deflate" => Some(Encoding::Deflate),
            _ => None,
        }
    }

    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
        })
    }

    /// How the compressed messages of a request are compressed; `None` where none may be.
    ///
    /// # Errors
    /// When it is not known here. The status says what is.
    pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        match headers.get(ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(None),
            Some(name) => Encoding::named(name).map(Some).ok_or_else(|| {
                let name = crate::protocol::shown(&String::from_utf8_lossy(name));
                let mut status =
                    Status::unimplemented(format!("the encoding `{name}` is not known here; use `gzip` or `deflate`"));
                status
                    .metadata_mut()
                    .insert(ACCEPT_ENCODING, tonic::metadata::MetadataValue::from_static("identity,gzip,deflate"));
                status
            }),
        }
    }

    /// How the answer is compressed: as the request was, where the client says that it reads that. One that does not ask for it
    /// by compressing its own messages pays for it with time, which it has not asked to.
    pub(super) fn of_answer(request: Option<Self>, headers: &HeaderMap) -> Option<Self> {
        let accepted =
            headers.get_all(ACCEPT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
        let encoding = request?;
        let mut accepted = accepted.map(|name| Encoding::named(name.trim_ascii()));
        accepted.any(|name| name == Some(encoding)).then_some(encoding)
    }

    /// The message that was compressed, if it has `limit` bytes at most. Nothing larger is made of it.
    ///
    /// # Errors
    /// When it is larger, or was not compressed so.
    pub(super) fn inflate(self, message: &[u8], limit: usize) -> Result<Bytes, Status> {
        let reader: &mut dyn Read = match self {
            Encoding::Gzip => &mut GzDecoder::new(message),
            Encoding::Deflate => &mut ZlibDecoder::new(message),
        };
        let mut inflated = Vec::with_capacity(message.len().saturating_mul(2).min(limit));
        // One byte more tells that there is more.
        let limited = reader.take((limit as u64).saturating_add(1)).read_to_end(&mut inflated);
        limited.map_err(|_| {
            Status::invalid_argument(format!("the message is not compressed as `{ENCODING}` says, or is cut off"))
        })?;
        if inflated.len() > limit {
            return Err(super::too_large(limit));
        }
        Ok(inflated.into())
    }

    /// A message, compressed. What is quick is preferred to what is small.
    ///
    /// # Errors
    /// Never: reading from memory does not fail.
    pub(super) fn deflate(self, message: &[u8]) -> io::Result<Vec<u8>> {
        let mut deflated = Vec::with_capacity(message.len() / 2);
        match self {
            Encoding::Gzip => {
                flate2::bufread::GzEncoder::new(message, Compression::fast()).read_to_end(&mut deflated)?
            }
            Encoding::Deflate => ZlibEncoder::new(message, Compression::fast()).read_to_end(&mut deflated)?,
        };
        Ok(deflated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tonic::Code;

    const ALL: [Encoding; 2] = [Encoding::Gzip, Encoding::Deflate];

    #[test]
    fn what_inflates_beyond_the_limit_is_refused() {
        for encoding in ALL {
            let bomb = encoding.deflate(&vec![0; 1 << 20]).unwrap();
            assert!(bomb.len() < 1 << 13);
            assert_eq!(encoding.inflate(&bomb, (1 << 20) - 1).unwrap_err().code(), Code::ResourceExhausted);
            assert_eq!(encoding.inflate(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        }
    }

    #[test]
    fn what_is_cut_off_is_the_clients_fault() {
        for encoding in ALL {
            let message = encoding.deflate(b"a message that is long enough").unwrap();
            for cut in 0..message.len() {
                let error = encoding.inflate(&message[..cut], 100).unwrap_err();
                assert_eq!(error.code(), Code::InvalidArgument, "{cut}");
            }
        }
    }

    #[test]
    fn answers_are_compressed_as_requests_are() {
        let check = |accepted: &'static str, request, expected| {
            let headers =
                HeaderMap::from_iter([(ACCEPT_ENCODING.parse().unwrap(), HeaderValue::from_static(accepted))]);
            assert_eq!(Encoding::of_answer(request, &headers), expected, "{accepted}");
        };
        check("identity, deflate, gzip", Some(Encoding::Gzip), Some(Encoding::Gzip));
        check("identity,deflate", Some(Encoding::Gzip), None);
        check("gzip", None, None);
        check("", Some(Encoding::Deflate), None);
    }

    proptest! {
        #[test]
        fn messages_survive_compression(message in prop::collection::vec(any::<u8>(), 0..300)) {
            for encoding in ALL {
                prop_assert_eq!(encoding.inflate(&encoding.deflate(&message).unwrap(), 300).unwrap(), message.as_slice());
            }
        }
    }
}
