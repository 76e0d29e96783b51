//! What a function answers.

use super::{Error, Writer};
use crate::bindings::http::wasi::http::types::{ErrorCode, Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use serde::Serialize;
use std::{
    fmt,
    io::{self, Write},
};

/// What a function answers: 200 and no body, until told otherwise.
#[derive(Debug, Default)]
pub struct Response {
    status: Option<u16>,
    headers: Vec<(String, Vec<u8>)>,
    content: Content,
}

enum Content {
    Whole(Vec<u8>),
    Stream(Stream),
}

type Stream = Box<dyn FnOnce(&mut Writer) -> io::Result<()>>;

impl Response {
    /// An answer of this status with no body.
    pub fn new(status: u16) -> Self {
        Response::default().status(status)
    }

    /// Text, in UTF-8.
    pub fn text(text: impl Into<String>) -> Self {
        Self::whole("text/plain; charset=utf-8", text.into().into_bytes())
    }

    /// Bytes of no particular type.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::whole("application/octet-stream", bytes.into())
    }

    /// A value as JSON.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self::whole("application/json", json),
            Err(error) => Error::internal(format!("cannot write the answer as JSON: {error}")).into_response(),
        }
    }

    /// A body that `write` makes after status and headers have gone out. When it fails, the connection breaks off, so that the
    /// caller does not take half an answer for a whole one.
    pub fn stream(write: impl FnOnce(&mut Writer) -> io::Result<()> + 'static) -> Self {
        Response { content: Content::Stream(Box::new(write)), ..Response::default() }
    }

    /// With this status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// With this header instead of any other of its name.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    fn whole(content_type: &str, bytes: Vec<u8>) -> Self {
        let response = Response { content: Content::Whole(bytes), ..Response::default() };
        response.header("content-type", content_type)
    }

    pub(super) fn send(mut self, out: ResponseOutparam) {
        let status = self.status.unwrap_or(200);
        if let Content::Whole(bytes) = &self.content {
            // Answers of these statuses have no body and must not speak of one.
            if !matches!(status, 100..=199 | 204 | 304) {
                let length = bytes.len().to_string();
                self = self.header("content-length", length);
            }
        }
        let response = match head(status, &self.headers) {
            Ok(response) => response,
            Err(why) => return ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(why)))),
        };
        // A response gives its body once, and the body its stream; this is the one place that asks.
        let body = response.body().expect("the response's body is taken once");
        let stream = body.write().expect("the body's stream is taken once");
        ResponseOutparam::set(out, Ok(response));
        let mut writer = Writer::new(stream);
        let written = match self.content {
            Content::Whole(bytes) => writer.write_all(&bytes),
            Content::Stream(write) => write(&mut writer),
        };
        let written = written.and_then(|()| writer.flush());
        let trailers = writer.into_trailers();
        // A body that is dropped unfinished breaks the connection off, which is what its caller should see: also of one whose trailers
        // are no fields. Finishing fails only where the caller has gone.
        if written.is_ok()
            && let Ok(trailers) = (!trailers.is_empty()).then(|| Fields::from_list(&trailers)).transpose()
        {
            _ = OutgoingBody::finish(body, trailers);
        }
    }
}

fn head(status: u16, headers: &[(String, Vec<u8>)]) -> Result<OutgoingResponse, String> {
    let fields = Fields::from_list(headers).map_err(|error| format!("the function made a bad header: {error}"))?;
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(status)
        .map_err(|()| format!("the function answered with {status}, which is no status"))?;
    Ok(response)
}

impl Default for Content {
    fn default() -> Self {
        Content::Whole(Vec::new())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Content::Stream(_) => f.write_str("a stream"),
        }
    }
}
