//! Requests to other hosts, of which only those that the manifest names are reached.

use super::{Body, Method, Writer, body::Head, request::content_length};
use crate::bindings::http::wasi::http::{
    outgoing_handler,
    types::{ErrorCode, Fields, OutgoingBody, OutgoingRequest, Scheme},
};
use std::io::Write;

/// What another host answered.
#[derive(Debug)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, as it arrives.
    pub body: Body,
}

/// Why another host gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an address that can be asked.
    #[error("`{0}` is no `http://` or `https://` address")]
    Address(String),
    /// A header is malformed, or is one that only the host may set.
    #[error("the request has a header that is not allowed")]
    Header,
    /// The manifest does not name the host.
    #[error("the manifest allows no request to `{0}`")]
    Denied(String),
    /// The other side could not be reached, or broke off.
    #[error("`{authority}` gave no answer: {code}")]
    NoAnswer {
        /// Who was asked.
        authority: String,
        /// Why there is none.
        #[source]
        code: ErrorCode,
    },
}

/// Asks another host, and waits until its answer begins, whatever its status. `body` is sent whole; that of the answer streams.
///
/// ```no_run
/// # use torpor_guest::http::{self, Method};
/// let answer = http::fetch(Method::Get, "https://example.com/labels.txt", &[], b"")?;
/// let labels = answer.body.read_to_limit(64 * 1024)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the manifest does not allow the host, or no answer comes.
pub fn fetch(method: Method, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Fetched, FetchError> {
    let Some((scheme, authority, path)) = parts(url) else { return Err(FetchError::Address(url.to_owned())) };
    let no_answer = |code| match code {
        ErrorCode::HttpRequestDenied => FetchError::Denied(authority.to_owned()),
        code => FetchError::NoAnswer { authority: authority.to_owned(), code },
    };
    let fields: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let request = OutgoingRequest::new(Fields::from_list(&fields).map_err(|_| FetchError::Header)?);
    let set = request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(&path)));
    set.map_err(|()| FetchError::Address(url.to_owned()))?;
    // A request gives its body once, and the body its stream; this is the one place that asks.
    let outgoing = request.body().expect("the request's body is taken once");
    let mut writer = Writer::new(outgoing.write().expect("the body's stream is taken once"));
    let pending = outgoing_handler::handle(request, None).map_err(no_answer)?;
    let sent = writer.write_all(body).and_then(|()| writer.flush());
    drop(writer);
    match sent {
        // Where the body cannot be sent to its end, the answer says why; it may even be a good one that came early.
        Ok(()) => _ = OutgoingBody::finish(outgoing, None),
        Err(_) => drop(outgoing),
    }
    pending.subscribe().block();
    // It is ready, as `block` has returned, and taken once.
    let response = pending.get().and_then(Result::ok).expect("the answer is taken once").map_err(no_answer)?;
    let fields = response.headers();
    let (headers, length) = (fields.entries(), content_length(&fields));
    drop(fields);
    let status = response.status();
    let body = response.consume().expect("the answer's body is taken once");
    Ok(Fetched { status, headers, body: Body::new(body, Head::Response(response), length) })
}

/// Scheme, authority, and path with query.
fn parts(url: &str) -> Option<(Scheme, &str, String)> {
    let (scheme, rest) = match url.split_once("://")? {
        ("http", rest) => (Scheme::Http, rest),
        ("https", rest) => (Scheme::Https, rest),
        _ => return None,
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    (!authority.is_empty()).then_some((scheme, authority, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, authority: &str, path: &str) {
        let (_, found, rest) = parts(url).expect("a good address");
        assert_eq!((found, rest.as_str()), (authority, path));
    }

    #[test]
    fn an_address_has_its_parts() {
        check("http://a.example", "a.example", "/");
        check("https://a.example:8443/x/y?z=1#top", "a.example:8443", "/x/y?z=1");
        check("http://a.example?z", "a.example", "/?z");
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in ["", "a.example", "ftp://a.example", "http://", "http:///x"] {
            assert!(parts(url).is_none(), "{url}");
        }
    }
}
