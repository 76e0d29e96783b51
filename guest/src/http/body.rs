//! Bodies on their way in and out, as Rust's own readers and writers.

use super::Error;
use crate::bindings::http::wasi::{
    http::types::{IncomingBody, IncomingRequest, IncomingResponse},
    io::streams::{InputStream, OutputStream, StreamError},
};
use std::io::{self, Read, Write};

/// How much to ask the host for at once.
const CHUNK: usize = 64 * 1024;

/// A body that comes in. It is read as it arrives, so its sender is held back while nobody reads.
#[derive(Debug)]
pub struct Body {
    // Dropped in this order, as each is a child of the next.
    stream: InputStream,
    _body: IncomingBody,
    _of: Head,
    length: Option<u64>,
}

/// What a body is the body of.
#[derive(Debug)]
#[expect(dead_code, reason = "held until the body is dropped")]
pub(super) enum Head {
    Request(IncomingRequest),
    Response(IncomingResponse),
}

impl Body {
    pub(super) fn new(body: IncomingBody, of: Head, length: Option<u64>) -> Self {
        // A body gives its stream once, and this is the one place that asks.
        let stream = body.stream().expect("the body's stream is taken once");
        Body { stream, _body: body, _of: of, length }
    }

    /// How long the sender says the body is, in bytes; `None` where it does not say.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes as they arrive, up to 64 KiB at a time; `None` at the end.
    ///
    /// # Errors
    /// When the body breaks off.
    pub fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.chunk(CHUNK)
    }

    /// The whole body.
    ///
    /// # Errors
    /// 413 when it is longer than `limit` bytes, 400 when it breaks off.
    pub fn read_to_limit(mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let too_large = || Error::new(413, format!("the body is larger than {limit} bytes"));
        let announced = self.length.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced > limit {
            return Err(too_large());
        }
        let mut whole = Vec::with_capacity(announced);
        while let Some(chunk) = self.next_chunk()? {
            if chunk.len() > limit - whole.len() {
                return Err(too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    fn chunk(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.stream.blocking_read(most as u64) {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => return Ok(Some(chunk)),
                Err(StreamError::Closed) => return Ok(None),
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(chunk) = self.chunk(buffer.len().min(CHUNK))? else { return Ok(0) };
        buffer[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

/// A body on its way out. Bytes leave as they are written; a slow receiver holds the writer back.
#[derive(Debug)]
pub struct Writer {
    stream: OutputStream,
    trailers: Vec<(String, Vec<u8>)>,
}

impl Writer {
    pub(super) fn new(stream: OutputStream) -> Self {
        Writer { stream, trailers: Vec::new() }
    }

    /// Has this field follow the body, such as a checksum of what was written. HTTP/2 carries such trailers always; HTTP/1.1 to callers
    /// that say `TE: trailers`, and only those whose names the response's header `Trailer` has announced.
    pub fn trailer(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.trailers.push((name.to_ascii_lowercase(), value.into()));
    }

    /// Ends the stream, and gives the fields that are to follow it.
    pub(super) fn into_trailers(self) -> Vec<(String, Vec<u8>)> {
        self.trailers
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            let room = self.stream.check_write().map_err(|error| broken(&error))?;
            if room == 0 {
                self.stream.subscribe().block();
                continue;
            }
            let most = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.stream.write(&bytes[..most]).map_err(|error| broken(&error))?;
            return Ok(most);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.blocking_flush().map_err(|error| broken(&error))
    }
}

fn broken(error: &StreamError) -> io::Error {
    match error {
        StreamError::Closed => io::ErrorKind::BrokenPipe.into(),
        StreamError::LastOperationFailed(error) => io::Error::other(error.to_debug_string()),
    }
}
