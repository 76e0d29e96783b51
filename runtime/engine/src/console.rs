//! Where a guest's standard output and error go: to the host's log, line by line, and no more than anybody would read.

use bytes::Bytes;
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use torpor_manifest::FunctionName;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// Bytes that one instance may log. The rest is dropped.
const MAX_TOTAL: usize = 16 * 1024;
/// Bytes after which a line is broken.
const MAX_LINE: usize = 1024;

/// The console of one instance. Clones write to the same one.
#[derive(Clone)]
pub(crate) struct Console(Arc<Mutex<Lines>>);

struct Lines {
    function: FunctionName,
    line: Vec<u8>,
    left: usize,
}

impl Console {
    pub(crate) fn new(function: FunctionName) -> Self {
        Console(Arc::new(Mutex::new(Lines { function, line: Vec::new(), left: MAX_TOTAL })))
    }

    fn push(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[..bytes.len().min(self.left)];
        for &byte in kept {
            if byte != b'\n' {
                self.line.push(byte);
            }
            if byte == b'\n' || self.line.len() == MAX_LINE {
                self.flush();
            }
        }
        self.left -= kept.len();
        if kept.len() < bytes.len() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.line.is_empty() {
            return;
        }
        // `?` escapes what could move a terminal's cursor or forge a line.
        let line = String::from_utf8_lossy(&self.line);
        // Whatever span the engine has entered meanwhile says nothing to an operator.
        tracing::info!(parent: None, function = %self.function, says = ?line);
        self.line.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

impl IsTerminal for Console {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Console {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Console {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_TOTAL)
    }
}

#[async_trait]
impl Pollable for Console {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Console {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
