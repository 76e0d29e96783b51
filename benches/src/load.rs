//! Callers: connections that stay open, each with one request at a time.
//!
//! The client shares the machine with the servers, so it does as little as it can: it writes the same bytes again and again,
//! and of an answer it reads the status and the length.

pub mod grpc;

use crate::statistics::{micros, quantile};
use anyhow::{Context, Result, ensure};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{sleep, timeout},
};

const MAX_HEADERS: usize = 32;
/// Between two tries to reach a server that starts.
const POLL: Duration = Duration::from_millis(2);

/// What the callers saw in one round.
pub struct Round {
    /// Answers, all of them good.
    pub requests: usize,
    /// Answers in a second.
    pub throughput: f64,
    /// Microseconds.
    pub p50: f64,
    /// Microseconds.
    pub p99: f64,
}

/// The request as it goes over the wire.
pub fn wire(path: &str, body: &[u8]) -> Vec<u8> {
    message(path, "content-type: application/json", &[body])
}

/// The same for a request whose JSON, `head`, has tensors behind it as bytes.
pub fn binary_wire(path: &str, head: &[u8], data: &[u8]) -> Vec<u8> {
    let length = head.len();
    let headers = format!("content-type: application/octet-stream\r\ninference-header-content-length: {length}");
    message(path, &headers, &[head, data])
}

fn message(path: &str, headers: &str, body: &[&[u8]]) -> Vec<u8> {
    let length: usize = body.iter().map(|part| part.len()).sum();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\ncontent-length: {length}\r\n\r\n");
    let mut message = head.into_bytes();
    for part in body {
        message.extend_from_slice(part);
    }
    message
}

/// One request on a connection of its own; returns the body of the answer.
///
/// # Errors
/// When the server cannot be reached, or gives no answer with the status 200 and a length.
pub fn once(address: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    runtime()?.block_on(ask(address, request))
}

/// The first good answer of a server that starts: asks again and again, on a new connection each time.
///
/// # Errors
/// When `limit` is over. The error tells what the last try met.
pub fn first(address: SocketAddr, request: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let begin = Instant::now();
    runtime()?.block_on(async {
        loop {
            // A server may take a connection and never answer it, if what was to answer has failed.
            let left = limit.saturating_sub(begin.elapsed());
            let tried = timeout(left, ask(address, request)).await.context("no answer").flatten();
            match tried {
                Ok(answer) => return Ok(answer),
                Err(error) if begin.elapsed() >= limit => return Err(error),
                Err(_) => sleep(POLL).await,
            }
        }
    })
}

/// Keeps `connections` busy for `time`.
///
/// # Errors
/// When a connection breaks, or an answer is not good.
pub fn round(address: SocketAddr, request: &[u8], connections: usize, time: Duration) -> Result<Round> {
    let request: Arc<[u8]> = request.into();
    runtime()?.block_on(async {
        let mut callers = Vec::new();
        for _ in 0..connections {
            callers.push(Http { connection: Connection::open(address).await?, request: Arc::clone(&request) });
        }
        busy(callers, time).await
    })
}

/// One who has the same to ask again and again.
trait Caller: Send + 'static {
    /// Asks once, and gets the whole of a good answer.
    fn ask(&mut self) -> impl Future<Output = Result<()>> + Send;
}

struct Http {
    connection: Connection,
    request: Arc<[u8]>,
}

impl Caller for Http {
    async fn ask(&mut self) -> Result<()> {
        self.connection.answered(&self.request).await
    }
}

/// All of them ask for `time`.
#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
async fn busy(callers: Vec<impl Caller>, time: Duration) -> Result<Round> {
    let start = Instant::now();
    let mut asking = JoinSet::new();
    for mut caller in callers {
        asking.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < time {
                let sent = Instant::now();
                caller.ask().await?;
                times.push(micros(sent.elapsed()));
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(asked) = asking.join_next().await {
        times.extend(asked??);
    }
    let throughput = times.len() as f64 / start.elapsed().as_secs_f64();
    Ok(Round { requests: times.len(), throughput, p50: quantile(&mut times, 0.5), p99: quantile(&mut times, 0.99) })
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

async fn ask(address: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let mut connection = Connection::open(address).await?;
    connection.answered(request).await?;
    Ok(connection.body().to_vec())
}

/// A connection that stays open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the body of the last answer is in the buffer.
    body: std::ops::Range<usize>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody is there.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("`{address}` cannot be reached"))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(64 * 1024), body: 0..0 })
    }

    /// Sends the request, reads the whole answer and returns its status.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn call(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (status, head, length) = loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            if let Some(head) = self.head()? {
                break head;
            }
        };
        self.body = head..head + length;
        while self.buffer.len() < self.body.end {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
        Ok(status)
    }

    /// The same for a request that has to be answered.
    async fn answered(&mut self, request: &[u8]) -> Result<()> {
        let status = self.call(request).await?;
        ensure!(status == 200, "the server answered {status}: {}", String::from_utf8_lossy(self.body()));
        Ok(())
    }

    fn body(&self) -> &[u8] {
        &self.buffer[self.body.clone()]
    }

    /// The status, and the length of the head and of the body, once the head is there.
    fn head(&self) -> Result<Option<(u16, usize, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(&self.buffer)? else { return Ok(None) };
        let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = std::str::from_utf8(length.context("the answer tells no length")?.value)?;
        Ok(Some((response.code.context("the answer has no status")?, head, length.parse()?)))
    }
}
