//! A listener: accepts within its limits, speaks HTTP/1.1 and HTTP/2 without TLS, and drains.

mod again;
mod places;
mod stream;

pub(crate) use places::{Connection, Lasting};

use again::Again;
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use places::{Heard, Places};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use stream::Stream;
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use torpor_telemetry::Gauge;

/// What every HTTP/2 connection begins with.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to pause when the system can give no more connections. They come back when others end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often to look for the rest of a preface that came in pieces, which real clients hardly ever do.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);

/// What one client, or all of them together, may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. For more, those go that are silent; who finds none of these waits in the system's own queue.
    pub connections: usize,
    /// Bytes of all header fields of one request.
    pub header_bytes: usize,
    /// Header fields of one request.
    pub headers: usize,
    /// How long a client may take over the head of a request, and stay silent between two requests.
    pub header_timeout: Duration,
    /// How long a client may read nothing of an answer that waits for it.
    pub write_timeout: Duration,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            header_bytes: 32 * 1024,
            headers: 100,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            streams: 128,
        }
    }
}

/// A bound address.
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
}

impl Listener {
    pub(crate) async fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Listener { listener, address, limits })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `stop` is true, then waits for at most `drain`.
    pub(crate) async fn run(
        self,
        router: Router,
        connections: Gauge,
        mut stop: watch::Receiver<bool>,
        drain: Duration,
    ) {
        let Listener { listener, limits, .. } = self;
        let places = Places::new(limits.connections);
        let server = Arc::new(server(limits));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // One connection may be here without a place; those behind it wait in the system's queue and cost nothing here.
            let place = tokio::select! {
                place = places.take() => place,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (router, server, watcher) = (router.clone(), Arc::clone(&server), graceful.watcher());
            let open = Open::new(connections.clone());
            let ear = place.ear();
            let task = tokio::spawn(async move {
                let (place, _open) = (place, open);
                // Answers are small and complete; waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                if !matches!(timeout(limits.header_timeout, begun(&stream)).await, Ok(Ok(()))) {
                    return;
                }
                let stream = TokioIo::new(Stream::new(stream, limits.write_timeout, place.ear()));
                let service = Heard::new(TowerToHyperService::new(router), place.ear());
                let connection = server.serve_connection(stream, service);
                // What goes wrong on a connection is its client's doing, and it is gone.
                if let Err(error) = Again::new(watcher.watch(connection.into_owned())).await {
                    tracing::debug!(error, "a connection ended early");
                }
            });
            ear.listens_to(task.abort_handle());
        }
        drop(listener);
        if timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(limit = ?drain, "requests were still running at the end of the drain, and are cut off");
        }
    }
}

fn server(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        // The head and what is read ahead of a body share this buffer, of which hyper wants 8 KiB at least.
        .max_buf_size(limits.header_bytes.max(8 * 1024));
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout);
    server
}

/// Waits until the client has sent enough to tell which version of HTTP it speaks. hyper waits for that without a limit.
async fn begun(stream: &TcpStream) -> io::Result<()> {
    let mut bytes = [0; HTTP2_PREFACE.len()];
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let length = stream.peek(&mut bytes).await?;
        if length == HTTP2_PREFACE.len() || !HTTP2_PREFACE.starts_with(&bytes[..length]) {
            return Ok(());
        }
        if length == 0 || ready.is_read_closed() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sleep(PREFACE_PAUSE).await;
    }
}

/// Counts a connection while it is open.
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Open(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
