//! Content codings of bodies: gzip and deflate, whose streams are those of RFC 1952 and RFC 1950. They are whole bodies here, since
//! tensors are read and written whole.
//!
//! tower-http's layers would box every body, also where nothing is encoded, and refuse an unknown coding without saying why.

use bytes::Bytes;
use flate2::{
    Compression,
    bufread::{MultiGzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use std::io::{self, Read, Write};

/// Bytes with which inflating begins. More is taken as more comes, twice as much each time.
const BEGIN: usize = 64 * 1024;

/// A coding that is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

/// Why a body was not inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotInflated {
    /// It is longer than the limit.
    TooLarge,
    /// It is not of this coding, cut short, or followed by something else.
    Broken,
}

impl Coding {
    /// Both, as a header lists them.
    pub(crate) const LIST: &str = "gzip, deflate";

    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name {
            _ if is("gzip") || is("x-gzip") => Some(Coding::Gzip),
            _ if is("deflate") => Some(Coding::Deflate),
            _ => None,
        }
    }

    /// The coding of a body by its `Content-Encoding`: `Ok(None)` for a body as it is.
    ///
    /// # Errors
    /// When it is another one, or more than one.
    pub(crate) fn of(content_encoding: &str) -> Result<Option<Self>, ()> {
        match content_encoding.trim() {
            name if name.is_empty() || name.eq_ignore_ascii_case("identity") => Ok(None),
            name => Coding::named(name).map(Some).ok_or(()),
        }
    }

    /// The coding that an `Accept-Encoding` likes best, gzip among equals; `None` where it likes a body as it is no less.
    pub(crate) fn accepted(accept_encoding: &str) -> Option<Self> {
        let (mut gzip, mut deflate, mut any, mut identity) = (None, None, None, None);
        for part in accept_encoding.split(',').take(16) {
            let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
            let weight = parameters.trim().strip_prefix("q=").or(parameters.trim().strip_prefix("Q="));
            let weight = weight.map_or(Some(1.0), |weight| weight.trim().parse::<f32>().ok());
            let Some(weight) = weight.filter(|weight| (0.0..=1.0).contains(weight)) else { continue };
            match name.trim() {
                "*" => any = Some(weight),
                name if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
                name => match Coding::named(name) {
                    Some(Coding::Gzip) => gzip = Some(weight),
                    Some(Coding::Deflate) => deflate = Some(weight),
                    None => {}
                },
            }
        }
        let gzip = gzip.or(any).unwrap_or(0.0);
        let deflate = deflate.or(any).unwrap_or(0.0);
        let (coding, weight) = if gzip >= deflate { (Coding::Gzip, gzip) } else { (Coding::Deflate, deflate) };
        // Who says nothing of a body as it is likes any coding that it names better.
        (weight > 0.0 && identity.is_none_or(|identity| weight > identity)).then_some(coding)
    }

    /// The body behind an encoded one. Takes memory for no more than `limit` bytes, whatever the body promises.
    ///
    /// # Errors
    /// When it is broken, or longer than `limit`.
    pub(crate) fn inflate(self, body: &[u8], limit: usize) -> Result<Bytes, NotInflated> {
        match self {
            // Which takes several members, one after the other, as RFC 1952 has it, and nothing else behind them.
            Coding::Gzip => read(MultiGzDecoder::new(body), limit),
            Coding::Deflate => {
                let mut decoder = ZlibDecoder::new(body);
                let inflated = read(&mut decoder, limit)?;
                if decoder.into_inner().is_empty() { Ok(inflated) } else { Err(NotInflated::Broken) }
            }
        }
    }

    /// Encodes a body that comes in parts.
    ///
    /// # Errors
    /// None that a writer to memory could have.
    pub(crate) fn encode(self, parts: &[Bytes]) -> io::Result<Vec<u8>> {
        let length: usize = parts.iter().map(Bytes::len).sum();
        // Tensors seldom get much shorter, and their callers wait.
        let (room, level) = (Vec::with_capacity(length / 2 + 64), Compression::fast());
        match self {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(room, level);
                parts.iter().try_for_each(|part| encoder.write_all(part))?;
                encoder.finish()
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(room, level);
                parts.iter().try_for_each(|part| encoder.write_all(part))?;
                encoder.finish()
            }
        }
    }
}

fn read(mut decoder: impl Read, limit: usize) -> Result<Bytes, NotInflated> {
    let (mut inflated, mut length) = (Vec::new(), 0);
    loop {
        if length == inflated.len() {
            if length > limit {
                return Err(NotInflated::TooLarge);
            }
            // One more than the limit, which nobody may fill.
            let more = inflated.len().max(BEGIN).min(limit - length + 1);
            inflated.reserve_exact(more);
            inflated.resize(length + more, 0);
        }
        match decoder.read(&mut inflated[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(_) => return Err(NotInflated::Broken),
        }
    }
    if length > limit {
        return Err(NotInflated::TooLarge);
    }
    inflated.truncate(length);
    Ok(inflated.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

    fn encode(coding: Coding, body: &[u8]) -> Vec<u8> {
        coding.encode(&[Bytes::copy_from_slice(body)]).unwrap()
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        for coding in BOTH {
            let bomb = encode(coding, &vec![0; 10 << 20]);
            assert!(bomb.len() < 200_000);
            assert_eq!(coding.inflate(&bomb, 1 << 20), Err(NotInflated::TooLarge));
            assert_eq!(coding.inflate(&bomb, (10 << 20) - 1), Err(NotInflated::TooLarge));
            assert_eq!(coding.inflate(&bomb, 10 << 20).map(|body| body.len()), Ok(10 << 20));
        }
    }

    #[test]
    fn what_is_broken_is_refused() {
        for coding in BOTH {
            let body = encode(coding, b"a body, which is not very long");
            for wrong in [&body[..body.len() - 1], &body[..body.len() / 2], b"", b"{}", &[&body[..], b"x"].concat()] {
                assert_eq!(coding.inflate(wrong, 1000), Err(NotInflated::Broken), "{coding:?}");
            }
        }
        let twice = [encode(Coding::Gzip, b"a"), encode(Coding::Gzip, b"b")].concat();
        assert_eq!(Coding::Gzip.inflate(&twice, 10).unwrap(), "ab");
    }

    #[test]
    fn headers_are_read() {
        assert_eq!(Coding::of("gzip"), Ok(Some(Coding::Gzip)));
        assert_eq!(Coding::of(" X-GZip "), Ok(Some(Coding::Gzip)));
        assert_eq!(Coding::of("deflate"), Ok(Some(Coding::Deflate)));
        assert_eq!((Coding::of("identity"), Coding::of("")), (Ok(None), Ok(None)));
        assert_eq!((Coding::of("br"), Coding::of("gzip, gzip")), (Err(()), Err(())));
        for (header, expected) in [
            ("gzip", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("deflate, gzip", Some(Coding::Gzip)),
            ("gzip;q=0.5, deflate", Some(Coding::Deflate)),
            ("gzip; q=0, deflate;q=0.1", Some(Coding::Deflate)),
            ("br, *;q=0.2", Some(Coding::Gzip)),
            ("*, gzip;q=0", Some(Coding::Deflate)),
            ("gzip;q=0", None),
            ("identity, gzip;q=0.5", None),
            ("identity", None),
            ("br", None),
            ("", None),
            ("gzip;q=x", None),
        ] {
            assert_eq!(Coding::accepted(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_inflated(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4), slack in 0_usize..3) {
            let whole = parts.concat();
            let parts: Vec<_> = parts.into_iter().map(Bytes::from).collect();
            for coding in BOTH {
                let encoded = coding.encode(&parts).unwrap();
                prop_assert_eq!(coding.inflate(&encoded, whole.len() + slack), Ok(whole.clone().into()));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), header in "[a-z*;=,. 0-9]{0,30}") {
            for coding in BOTH {
                let _ = coding.inflate(&body, 100);
            }
            let _ = (Coding::of(&header), Coding::accepted(&header));
        }
    }
}
