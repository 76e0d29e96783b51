//! What a caller asks for.

use super::{Body, Method, body::Head};
use crate::bindings::http::wasi::http::types::{Fields, IncomingRequest};

/// What a caller asks for.
#[derive(Debug)]
pub struct Request {
    inner: IncomingRequest,
    method: Method,
    target: String,
}

impl Request {
    pub(super) fn new(inner: IncomingRequest) -> Self {
        let method = inner.method();
        let target = inner.path_with_query().unwrap_or_else(|| "/".to_owned());
        Request { inner, method, target }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path, as the caller wrote it, without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The first value of this name in the query, with `+` and `%` decoded; `None` where the name is not there.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        find(query, name)
    }

    /// The first value of this header, whose name may be in capitals or not. A value is bytes, though most are text.
    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.inner.headers().get(name).into_iter().next()
    }

    /// The body.
    pub fn into_body(self) -> Body {
        let length = content_length(&self.inner.headers());
        // A request gives its body once, and this takes the request.
        let body = self.inner.consume().expect("the request's body is taken once");
        Body::new(body, Head::Request(self.inner), length)
    }
}

pub(super) fn content_length(headers: &Fields) -> Option<u64> {
    let values = headers.get("content-length");
    std::str::from_utf8(values.first()?).ok()?.trim().parse().ok()
}

fn find(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decode(key), value)).find(|(key, _)| key == name).map(|(_, value)| decode(value))
}

/// Undoes percent and plus encoding. What is no valid escape stays as it is; bytes that are no UTF-8 become U+FFFD.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(nibble(*high) << 4 | nibble(*low));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let query = "a=1&b%20c=x%2By+z&flag&bad=%zz%4&a=2&utf=%C3%A9";
        assert_eq!(find(query, "a").as_deref(), Some("1"));
        assert_eq!(find(query, "b c").as_deref(), Some("x+y z"));
        assert_eq!(find(query, "flag").as_deref(), Some(""));
        assert_eq!(find(query, "bad").as_deref(), Some("%zz%4"));
        assert_eq!(find(query, "utf").as_deref(), Some("é"));
        assert_eq!(find(query, "none"), None);
    }
}
