//! A function of HTTP requests, streaming both ways, and requests to other hosts.
//!
//! ```no_run
//! use std::io::{self, Read, Write};
//! use torpor_guest::http::{self, Request, Response};
//!
//! struct Shout;
//!
//! impl http::Handler for Shout {
//!     fn handle(request: Request) -> Result<Response, http::Error> {
//!         match request.path() {
//!             // Small bodies are easiest read whole, within a limit; a longer one is answered with 413.
//!             "/whole" => {
//!                 let body = request.into_body().read_to_limit(64 * 1024)?;
//!                 Ok(Response::bytes(body.to_ascii_uppercase()))
//!             }
//!             // A body of any size streams through; the answer begins before the request has ended.
//!             "/stream" => Ok(Response::stream(move |out| {
//!                 let mut body = request.into_body();
//!                 while let Some(chunk) = body.next_chunk()? {
//!                     out.write_all(&chunk.to_ascii_uppercase())?;
//!                 }
//!                 Ok(())
//!             })),
//!             path => Err(http::Error::new(404, format!("nothing is at `{path}`; try `/whole` or `/stream`"))),
//!         }
//!     }
//! }
//!
//! torpor_guest::export_http!(Shout);
//! # fn main() {}
//! ```

mod body;
mod error;
mod fetch;
mod request;
mod response;

pub use self::{
    body::{Body, Writer},
    error::Error,
    fetch::{FetchError, Fetched, fetch},
    request::Request,
    response::Response,
};
pub use crate::bindings::http::wasi::http::types::Method;

use crate::bindings::http::{exports::wasi::http::incoming_handler, wasi};
use std::{marker::PhantomData, time::Duration};

/// A function of HTTP requests. [`export_http!`](crate::export_http) makes it the module's own.
pub trait Handler {
    /// Answers one request.
    ///
    /// # Errors
    /// The status and text that the caller gets instead of an answer.
    fn handle(request: Request) -> Result<Response, Error>;
}

/// Waits, and leaves the host's thread to others meanwhile. The deadline goes on. Only HTTP functions have a clock.
pub fn sleep(duration: Duration) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    wasi::clocks::monotonic_clock::subscribe_duration(nanoseconds).block();
}

/// What [`export_http!`](crate::export_http) exports.
#[doc(hidden)]
pub struct HandlerExport<T>(PhantomData<T>);

impl<T: Handler> incoming_handler::Guest for HandlerExport<T> {
    fn handle(request: incoming_handler::IncomingRequest, out: incoming_handler::ResponseOutparam) {
        T::handle(Request::new(request)).unwrap_or_else(Error::into_response).send(out);
    }
}
