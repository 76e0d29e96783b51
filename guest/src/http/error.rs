//! An answer that says why there is none.

use super::Response;
use crate::bindings::http::wasi::cli::stderr;
use std::io;

/// An answer that says why there is none: a status, and a text that reaches the caller as `{"error":"…"}`.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Error {
    status: u16,
    text: String,
}

impl Error {
    /// An answer of this status. The text reaches the caller.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Error { status, text: text.into() }
    }

    /// The caller sent something that this function cannot take.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(400, text)
    }

    /// The function itself failed. The text goes to the function's standard error, and the caller gets a bare 500.
    pub fn internal(text: impl AsRef<str>) -> Self {
        let line = format!("{}\n", text.as_ref());
        // Where standard error is gone there is nowhere left to say so.
        _ = stderr::get_stderr().blocking_write_and_flush(&line.as_bytes()[..line.len().min(4096)]);
        Self::new(500, "the function failed")
    }

    pub(super) fn into_response(self) -> Response {
        #[derive(serde::Serialize)]
        struct Json<'a> {
            error: &'a str,
        }
        Response::json(&Json { error: &self.text }).status(self.status)
    }
}

/// A tensor or a model failed, which is not the caller's fault unless the function tells so.
impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::internal(error.to_string())
    }
}

/// The caller's body ended before it should have.
impl From<io::Error> for Error {
    fn from(_: io::Error) -> Self {
        Self::bad_request("the request's body broke off")
    }
}
