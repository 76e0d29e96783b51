//! A connection's bytes, with an end to waiting for a client that does not read.
//!
//! What a client has not read stays in memory here, and its connection stays open. It may take its time, but has to go on: if it
//! takes nothing for a while, the connection ends.

use super::places::Ear;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

pub(super) struct Stream<S> {
    stream: S,
    ear: Ear,
    /// How long a client may take nothing of what waits for it.
    limit: Duration,
    /// Made when something first waits; most clients read at once.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether something waits, so that the timer runs.
    waits: bool,
}

impl<S> Stream<S> {
    pub(super) fn new(stream: S, limit: Duration, ear: Ear) -> Self {
        Stream { stream, ear, limit, timer: None, waits: false }
    }

    /// What a write came to, unless it has waited for too long.
    fn written<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waits = false;
            self.ear.hears();
            return result;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.waits {
            self.waits = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(context).map(|()| {
            let text = "the client does not read";
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::places::Places, *};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// A stream, of which 16 bytes may wait, and the client at its other end.
    async fn pair(limit: Duration) -> (Stream<DuplexStream>, DuplexStream) {
        let (client, here) = duplex(16);
        (Stream::new(here, limit, Places::new(1).take().await.ear()), client)
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_everything() {
        let (mut stream, mut client) = pair(Duration::from_secs(600)).await;
        let mut read = Vec::new();
        let write = async {
            stream.write_all(&[1; 1000]).await.unwrap();
            drop(stream);
        };
        tokio::join!(write, async { client.read_to_end(&mut read).await.unwrap() });
        assert_eq!(read, [1; 1000]);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (mut stream, mut client) = pair(Duration::from_millis(1)).await;
        let error = stream.write_all(&[1; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(stream);
        // What it could have read is still there.
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [1; 16]);
    }
}
