//! Core modules as functions: programs that read a request from standard input and write the answer to standard output.
//!
//! `docs/commands.md` is the contract. Here is what a program must have to be deployed, where its output goes, and how that
//! becomes a response; `call/command.rs` runs it.

use crate::{error::DeployError, guest::Guest, witx};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use wasmtime::{Extern, ExternType, InstancePre, Linker, Module, Store, UnknownImportError};
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

/// The entry point of a WASI command.
const START: &str = "_start";
/// The longest head that is looked for in an answer. Beyond it, an answer is all body.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes that a program may write at once.
const WRITE: usize = 64 * 1024;
/// Headers that say how a message is framed on its connection, which is the host's to say.
const FRAMING: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Who has what core modules import but this host has not. The first that fits a module and the beginning of a name counts.
const HOSTED: [(&str, &str, &str); 7] = [
    (witx::MODULE, "", "wasi-nn of the core ABI does not have, so it is some other runtime's"),
    (
        "wasi_snapshot_preview1",
        "sock_",
        "WasmEdge has for sockets; a component may call the hosts in `outbound` by `wasi:http`",
    ),
    ("wasi_snapshot_preview1", "", "WASI preview 1 does not have, so it is some other runtime's"),
    ("wasi_unstable", "", "hosts of WASI preview 0 have; build for `wasm32-wasip1`"),
    ("wasi", "thread", "hosts with threads have; build without threads"),
    (
        "env",
        "",
        "a JavaScript or native embedder has; build for `wasm32-wasip1`, with Emscripten by `-sSTANDALONE_WASM`",
    ),
    ("", "", "some other runtime or plug-in has; build without it"),
];

/// A program, ready to be instantiated.
pub(crate) struct CommandPre(InstancePre<Guest>);

impl CommandPre {
    /// Checks that a module is a program whose imports are all there.
    pub(crate) fn new(linker: &Linker<Guest>, module: &Module) -> Result<Self, DeployError> {
        let is_function = |export: &ExternType| {
            export.func().is_some_and(|export| export.params().len() == 0 && export.results().len() == 0)
        };
        if !module.get_export(START).as_ref().is_some_and(is_function) {
            return Err(DeployError::NoStart(START));
        }
        let instance =
            linker.instantiate_pre(module).map_err(|error| match error.downcast_ref::<UnknownImportError>() {
                Some(unknown) => {
                    let (module, name) = (unknown.module().to_owned(), unknown.name().to_owned());
                    let hosted = hosted(&module, &name);
                    DeployError::Import { module, name, hosted }
                }
                None => DeployError::CoreLink(format!("{error:#}")),
            })?;
        Ok(CommandPre(instance))
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// [`I32Exit`](wasmtime_wasi::I32Exit) where it exited by itself, else a trap.
    pub(crate) async fn run(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        let instance = self.0.instantiate_async(&mut *store).await?;
        let start = instance.get_export(&mut *store, START).and_then(Extern::into_func);
        let Some(start) = start else { wasmtime::bail!("`{START}` is gone") };
        start.typed::<(), ()>(&*store)?.call_async(store, ()).await
    }
}

fn hosted(module: &str, name: &str) -> &'static str {
    let fits = |(known, beginning, _): &&(&str, &str, &str)| {
        (known.is_empty() || *known == module) && name.starts_with(beginning)
    };
    HOSTED.iter().find(fits).map_or("no host has", |(_, _, text)| text)
}

/// What a program writes to its standard output. Clones write to the same one.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Written>>);

struct Written {
    bytes: Vec<u8>,
    limit: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is larger than the memory limit of the function")]
struct TooLarge;

impl Output {
    pub(crate) fn new(limit: usize) -> Self {
        Output(Arc::new(Mutex::new(Written { bytes: Vec::new(), limit })))
    }

    /// What was written, when the program has ended.
    pub(crate) fn take(&self) -> Bytes {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes).into()
    }

    fn push(&self, bytes: &[u8]) -> Result<(), TooLarge> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() > written.limit - written.bytes.len() {
            return Err(TooLarge);
        }
        written.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // A trap, since a program that took no notice of an error would answer with half of what it has to say.
        self.push(&bytes).map_err(|error| StreamError::Trap(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.push(bytes).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Makes a response of what a program wrote. Output that does not begin with a whole and well-formed head is all body.
pub(crate) fn response(output: &Bytes) -> http::Response<Bytes> {
    let mut response = headed(output).unwrap_or_else(|| http::Response::new(output.clone()));
    if !response.body().is_empty() {
        let octets = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().entry(header::CONTENT_TYPE).or_insert(octets);
    }
    response
}

/// The response in an output that begins with a head.
fn headed(output: &Bytes) -> Option<http::Response<Bytes>> {
    let mut response = http::Response::new(Bytes::new());
    let mut at = 0;
    loop {
        let line = line(output.get(at..MAX_HEAD.min(output.len()))?)?;
        let first = at == 0;
        at += line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() && !first {
            *response.body_mut() = output.slice(at..);
            return Some(response);
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let status = name.eq_ignore_ascii_case(b"status");
        if first && !status && !(name.eq_ignore_ascii_case(b"content-type") && value.contains(&b'/')) {
            return None;
        }
        if status {
            *response.status_mut() = read_status(value)?;
            continue;
        }
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value).ok()?;
        if !FRAMING.contains(&name.as_str()) {
            response.headers_mut().append(name, value);
        }
    }
}

/// A line without its end, which must be there.
fn line(rest: &[u8]) -> Option<&[u8]> {
    rest.iter().position(|&byte| byte == b'\n').map(|end| &rest[..end])
}

/// Three digits that a final status may have, and perhaps a reason, which HTTP has no use for any more.
fn read_status(value: &[u8]) -> Option<StatusCode> {
    let (number, reason) = value.split_at_checked(3)?;
    if !matches!(reason.first(), None | Some(b' ')) {
        return None;
    }
    StatusCode::from_bytes(number).ok().filter(|status| (200..600).contains(&status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(output: &'static str, status: u16, headers: &[(&str, &str)], body: &str) {
        let response = response(&Bytes::from_static(output.as_bytes()));
        let found: Vec<_> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!((response.status().as_u16(), &found[..], &response.body()[..]), (status, headers, body.as_bytes()));
    }

    const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

    #[test]
    fn output_without_a_head_is_the_body() {
        check("", 200, &[], "");
        check("a tabby cat\n", 200, &[OCTETS], "a tabby cat\n");
        check("name: value\n\nbody", 200, &[OCTETS], "name: value\n\nbody");
        check("\nStatus: 404\n\n", 200, &[OCTETS], "\nStatus: 404\n\n");
    }

    #[test]
    fn a_head_is_taken_off() {
        check("Content-Type: text/plain\n\nhello\n", 200, &[("content-type", "text/plain")], "hello\n");
        check("status: 404 Not Found\r\nX-A:  b \r\n\r\n\r\nno", 404, &[("x-a", "b"), OCTETS], "\r\nno");
        check("Status: 204\n\n", 204, &[], "");
        check(
            "Content-Type: text/csv\nStatus: 201\nSet-Cookie: a\nSet-Cookie: b\n\nx",
            201,
            &[("content-type", "text/csv"), ("set-cookie", "a"), ("set-cookie", "b")],
            "x",
        );
    }

    #[test]
    fn framing_is_the_hosts() {
        check(
            "Content-Type: a/b\nContent-Length: 9\nTransfer-Encoding: chunked\nConnection: close\n\nx",
            200,
            &[("content-type", "a/b")],
            "x",
        );
    }

    #[test]
    fn what_only_looks_like_a_head_is_body() {
        for output in [
            "Status: fine\n\nx",
            "Status: 200",
            "Status: 200\n",
            "Status: 200\nno colon\n\nx",
            "Status: 100\n\nx",
            "Status: 2000\n\nx",
            "Content-Type: none\n\nx",
            "Content-Type: a/b\nbad name: x\n\nx",
            "Content-Type: a/\u{1}\n\nx",
        ] {
            check(output, 200, &[OCTETS], output);
        }
        let long = format!("Content-Type: a/b\nX: {}\n\nx", "x".repeat(MAX_HEAD)).leak();
        check(long, 200, &[OCTETS], long);
    }

    #[test]
    fn an_import_is_told_whose_it_is() {
        for (module, name, expected) in [
            ("wasi_ephemeral_nn", "train", "core ABI"),
            ("wasi_snapshot_preview1", "sock_open", "WasmEdge"),
            ("wasi_snapshot_preview1", "fd_fly", "preview 1 does not have"),
            ("wasi_unstable", "fd_write", "preview 0"),
            ("wasi", "thread-spawn", "threads"),
            ("wasi", "other", "plug-in"),
            ("env", "emscripten_resize_heap", "Emscripten"),
            ("wasmedge_image", "load", "plug-in"),
        ] {
            assert!(hosted(module, name).contains(expected), "{module} {name}: {}", hosted(module, name));
        }
    }

    #[test]
    fn output_has_a_limit() {
        let mut output = Output::new(5);
        assert!(OutputStream::write(&mut output, Bytes::from_static(b"abc")).is_ok());
        assert!(matches!(OutputStream::write(&mut output, Bytes::from_static(b"def")), Err(StreamError::Trap(_))));
        assert!(OutputStream::write(&mut output, Bytes::from_static(b"de")).is_ok());
        assert_eq!(output.take(), "abcde");
    }

    proptest! {
        #[test]
        fn any_output_is_a_response(
            head in "(Status: [0-9]{0,4}|Content-Type: [a-z/]{0,4})\\r?\\n", rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let output = Bytes::from([head.as_bytes(), &rest].concat());
            let response = response(&output);
            prop_assert!(output.ends_with(response.body()));
        }
    }
}
