//! A caller with one connection that stays open. It blocks, and does no more than it must: what it costs is in every time alike.

use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

const MAX_HEADERS: usize = 32;

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("`{address}` cannot be reached"))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, buffer: Vec::new() })
    }

    /// Sends a request and reads its whole answer, which must be a good one. Returns what its `Cache-Status` says; nothing
    /// where it has none.
    pub(crate) fn call(&mut self, request: &[u8]) -> Result<String> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let (length, status) = loop {
            self.more()?;
            if let Some(head) = self.head()? {
                break head;
            }
        };
        while self.buffer.len() < length {
            self.more()?;
        }
        Ok(status)
    }

    fn more(&mut self) -> Result<()> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes)?;
        ensure!(count > 0, "the host closed the connection");
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(())
    }

    /// The length of the answer, and its `Cache-Status`, once its head is there.
    fn head(&self) -> Result<Option<(usize, String)>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(&self.buffer)? else { return Ok(None) };
        ensure!(
            response.code == Some(200),
            "the host answered {:?}: {}",
            response.code,
            String::from_utf8_lossy(&self.buffer[head..])
        );
        let find = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            header.map(|header| String::from_utf8_lossy(header.value).into_owned())
        };
        let length: usize = find("content-length").context("the answer tells no length")?.parse()?;
        Ok(Some((head + length, find("cache-status").unwrap_or_default())))
    }
}
