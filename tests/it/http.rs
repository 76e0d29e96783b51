//! Functions of plain HTTP requests: streaming both ways, what a guest may and may not do, and how it ends.

use crate::fixture::{Manifest, Raw, Stage, TestHost, forever, raw::status, skipped_without_onnxruntime};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpListener,
    thread,
};
use tokio::sync::mpsc;

fn probe(edit: impl FnOnce(Manifest) -> Manifest) -> Stage {
    TestHost::builder().function("probe", |manifest| edit(manifest.set("limits.deadline", forever())))
}

fn plain() -> TestHost {
    probe(|manifest| manifest).start()
}

/// No part of an answer may tell of the machinery behind it.
#[track_caller]
fn tells_nothing(text: &str) {
    for word in ["wasm", "trap", "unreachable", "panic", "asked", "backtrace", "src/", "/tmp", "component"] {
        assert!(!text.to_lowercase().contains(word), "`{word}` in: {text}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[expect(clippy::disallowed_methods, reason = "the tests' own bodies are as long as the tests make them")]
async fn whole(response: Response<Incoming>) -> Vec<u8> {
    response.into_body().collect().await.expect("a whole answer").to_bytes().to_vec()
}

#[test]
fn a_component_sees_the_variables_that_are_granted_and_no_others() {
    let host = TestHost::builder()
        .function("probe", |manifest| manifest.set("allow.env.LOG", "info").set("allow.env.EMPTY", ""))
        .another("bare", "probe", |manifest| manifest)
        .start();
    let said = host.get("/fn/probe/env").status(200).text();
    let lines: BTreeSet<_> = said.lines().collect();
    assert_eq!(lines, BTreeSet::from(["EMPTY=", "LOG=info"]));
    assert_eq!(host.get("/fn/bare/env").status(200).text(), "");
}

#[test]
fn a_body_comes_back_as_it_was() {
    let host = probe(|manifest| manifest.set("limits.body", "16MiB")).start();
    let body: Vec<u8> = (0..5_000_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let request = Request::post("/fn/probe/echo").header("content-type", "x/y").body(body.clone()).expect("a request");
    let reply = host.send(request).status(200);
    assert!(reply.body == body, "{} bytes came back", reply.body.len());
    assert_eq!(reply.header("content-type"), "x/y");
    assert_eq!(host.post("/fn/probe/echo", "").status(200).body, b"");
}

/// Sends chunks and reads each back before it sends the next, which only works if both directions stream.
async fn converse(version: Version, host: &TestHost) {
    const CHUNK: usize = 256 * 1024;
    let stream = tokio::net::TcpStream::connect(host.data).await.expect("the host accepts");
    let (chunks, body) = mpsc::channel::<Result<Frame<Bytes>, std::convert::Infallible>>(1);
    let body = StreamBody::new(futures_of(body));
    let request = Request::post(format!("http://{}/fn/probe/echo", host.data)).header("host", "x").body(body);
    let request = request.expect("a request");
    let io = TokioIo::new(stream);
    let response = if version == Version::HTTP_2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    // The head comes before a byte of the body is sent.
    let response = response.expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, version));
    let mut answer = response.into_body();
    for round in 0..20_u8 {
        chunks.send(Ok(Frame::data(Bytes::from(vec![round; CHUNK])))).await.expect("the host reads");
        let mut length = 0;
        while length < CHUNK {
            let frame = answer.frame().await.expect("more").expect("no error");
            let data = frame.into_data().expect("data");
            assert!(data.iter().all(|&byte| byte == round), "round {round}");
            length += data.len();
        }
        assert_eq!(length, CHUNK);
    }
    drop(chunks);
    while let Some(frame) = answer.frame().await {
        assert!(frame.expect("no error").into_data().is_ok_and(|data| data.is_empty()), "more than was sent");
    }
}

fn futures_of<T>(mut receiver: mpsc::Receiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))
}

#[test]
fn bodies_stream_both_ways_over_http_1() {
    let host = probe(|manifest| manifest.set("limits.body", "16MiB")).start();
    runtime().block_on(converse(Version::HTTP_11, &host));
}

#[test]
fn bodies_stream_both_ways_over_http_2() {
    let host = probe(|manifest| manifest.set("limits.body", "16MiB")).start();
    runtime().block_on(converse(Version::HTTP_2, &host));
}

/// What comes behind the body of an answer.
async fn trailers(version: Version, host: &TestHost) -> Option<HeaderMap> {
    let client: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(version == Version::HTTP_2).build_http();
    let request = Request::post(format!("http://{}/fn/probe/sum", host.data)).header("te", "trailers");
    let answer = client.request(request.body(Full::from("\x01\x02\x03")).expect("a request")).await.expect("an answer");
    let (mut answer, mut body, mut trailers) = (answer.into_body(), Vec::new(), None);
    while let Some(frame) = answer.frame().await {
        match frame.expect("no error").into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert_eq!(body, [1, 2, 3]);
    trailers
}

#[test]
fn what_a_function_sends_behind_its_answer_arrives() {
    let host = plain();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let trailers = runtime().block_on(trailers(version, &host)).unwrap_or_else(|| panic!("none over {version:?}"));
        assert_eq!(trailers.get("x-sum").map(HeaderValue::as_bytes), Some(&b"6"[..]), "{version:?}");
    }
}

#[test]
fn events_arrive_one_by_one() {
    let host = plain();
    let mut raw = Raw::connect(host.data);
    // An hour before the second is made.
    raw.send("GET /fn/probe/stream?chunks=2&delay=3600000 HTTP/1.1\r\nhost: x\r\n\r\n");
    let begun = raw.until("chunk 0\n");
    assert!(begun.contains("chunk 0\n"), "{begun}");
}

#[test]
fn http_2_without_tls_carries_many_calls_at_once() {
    let host = TestHost::builder().function("filetype", |manifest| manifest).start();
    runtime().block_on(async {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let request =
                    Request::post(format!("http://{}/fn/filetype", host.data)).body(Full::from("# A title\n"));
                tokio::spawn(client.request(request.expect("a request")))
            })
            .collect();
        for call in calls {
            let response = call.await.expect("no panic").expect("an answer");
            assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
            let answer: Value = serde_json::from_slice(&whole(response).await).expect("JSON");
            assert!(answer["label"].is_string(), "{answer}");
        }
    });
    assert_eq!(host.status("filetype")["wakes"], 1);
}

#[test]
fn a_method_that_the_manifest_does_not_name_is_refused() {
    let host = probe(|manifest| manifest.set("trigger.http.methods", toml::Value::from(vec!["GET", "POST"]))).start();
    host.post("/fn/probe/echo", "x").status(200);
    for method in [Method::PUT, Method::HEAD, Method::DELETE, Method::OPTIONS] {
        let reply = host.call(method, "/fn/probe/echo", "").status(405);
        assert_eq!(reply.header("allow"), "GET, POST");
    }
}

#[test]
fn an_answer_to_head_has_no_body() {
    let reply = plain().call(Method::HEAD, "/fn/probe/echo", "").status(200);
    assert_eq!(reply.body, b"");
}

#[test]
fn paths_beside_a_functions_own_are_not_found() {
    let host = plain();
    for path in ["/fn/probe", "/fn", "//", "/fn/probes/echo", "/FN/probe/echo"] {
        let error = host.get(path).status(404).error();
        assert!(error.contains("no function has this path"), "{error}");
    }
    // Below it everything is the guest's, also what it does not know.
    assert!(host.get("/fn/probe/no/such/thing").status(404).text().contains("the probe has no `thing`"));
    host.get("/fn/probe/").status(404);
}

#[test]
fn a_trap_is_a_bare_500_and_the_next_call_is_served() {
    let host = plain();
    for _ in 0..3 {
        let reply = host.get("/fn/probe/trap").status(500);
        assert_eq!(reply.error(), "`probe` failed to answer");
    }
    let reply = host.get("/fn/probe/fail").status(500);
    tells_nothing(&reply.text());
    host.post("/fn/probe/echo", "x").status(200);
    assert!(host.stage().log().contains("a call failed"), "{}", host.stage().log());
    assert_eq!(host.status("probe")["wakes"], 1);
}

#[test]
fn a_guest_gets_no_more_memory_than_the_manifest_says() {
    let host = probe(|manifest| manifest.set("limits.memory", "32MiB")).start();
    assert_eq!(host.get("/fn/probe/alloc?bytes=16000000").status(200).text(), "16000000");
    host.get("/fn/probe/alloc?bytes=40000000").status(507);
    host.get("/fn/probe/alloc?bytes=3000000000").status(507);
    assert_eq!(host.get("/fn/probe/alloc?bytes=16000000").status(200).text(), "16000000");
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let host = probe(|manifest| manifest.set("limits.body", "4KiB")).start();
    assert_eq!(host.post("/fn/probe/echo", vec![b'x'; 4096]).status(200).body.len(), 4096);
    let error = host.post("/fn/probe/echo", vec![b'x'; 4097]).status(413).error();
    assert_eq!(error, "the body is larger than 4.0 KiB, the limit of `probe`");
}

#[test]
fn a_streamed_body_beyond_the_limit_is_cut_off() {
    let host = probe(|manifest| manifest.set("limits.body", "4KiB")).start();
    let mut raw = Raw::connect(host.data);
    raw.send("POST /fn/probe/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..8 {
        raw.send(format!("400\r\n{}\r\n", "x".repeat(1024)));
    }
    raw.send("0\r\n\r\n").finish();
    // The guest may have begun to answer; then the answer must be seen to be incomplete.
    let answer = raw.rest();
    assert!(status(&answer) == 413 || !answer.ends_with("0\r\n\r\n"), "{answer}");
    host.post("/fn/probe/echo", "x").status(200);
}

/// A server for one request, which tells what it was asked.
fn listen() -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length == 1) {
            head.push(byte[0]);
        }
        let _ = stream.write_all(b"HTTP/1.1 203 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        String::from_utf8_lossy(&head).into_owned()
    });
    (address, server)
}

#[test]
fn a_guest_calls_only_the_hosts_that_the_manifest_allows() {
    let (allowed, server) = listen();
    let forbidden = TcpListener::bind("127.0.0.1:0").expect("a free port");
    forbidden.set_nonblocking(true).expect("it can be");
    let other = forbidden.local_addr().expect("an address");
    let host = probe(|manifest| manifest.set("allow.outbound", toml::Value::from(vec![allowed.clone()]))).start();

    let reply = host.get(&format!("/fn/probe/fetch?url=http://{allowed}/a/b")).status(203);
    assert_eq!(reply.text(), "hello");
    let asked = server.join().expect("it was called");
    assert!(asked.starts_with("GET /a/b HTTP/1.1\r\n"), "{asked}");

    for url in [
        format!("http://{other}/"),
        format!("http://localhost:{}/", other.port()),
        format!("http://{allowed}@{other}/"),
    ] {
        let status = host.get(&format!("/fn/probe/fetch?url={url}")).status;
        assert!(status == 403 || status == 400, "{status} for {url}");
    }
    assert!(forbidden.accept().is_err(), "a forbidden host was called");
}

#[test]
fn without_a_word_in_the_manifest_a_guest_calls_nobody() {
    let (address, _server) = listen();
    plain().get(&format!("/fn/probe/fetch?url=http://{address}/")).status(403);
}

#[test]
fn a_guest_loads_only_the_models_that_the_manifest_grants() {
    let host = plain();
    for name in ["standard", "model", "", "..%2f..%2fmodel.onnx", "%2Fetc%2Fpasswd"] {
        let reply = host.get(&format!("/fn/probe/load?model={name}")).status(404);
        assert!(!reply.text().contains("/tmp"), "{}", reply.text());
    }
}

#[test]
fn a_caller_that_hangs_up_ends_its_guest() {
    let host = plain();
    host.post("/fn/probe/echo", "wake up").status(200);
    for path in ["/fn/probe/spin", "/fn/probe/stream?chunks=1000000&delay=1", "/fn/probe/stream?chunks=2&delay=600000"]
    {
        let mut raw = Raw::connect(host.data);
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        host.until_number("probe", "active", 1);
        drop(raw);
        host.until_number("probe", "active", 0);
    }
}

#[test]
fn a_deadline_ends_a_guest_that_spins_and_nobody_else_notices() {
    let host = TestHost::builder()
        .function("probe", |manifest| manifest.set("limits.deadline", "400ms"))
        .another("calm", "probe", |manifest| manifest.set("limits.deadline", forever()))
        .start();
    host.post("/fn/calm/echo", "x").status(200);
    thread::scope(|scope| {
        // More than this machine has processors, or nearly so.
        let spinning: Vec<_> = (0..6).map(|_| scope.spawn(|| host.get("/fn/probe/spin"))).collect();
        host.until_number("probe", "active", 6);
        let mut served = 0;
        while host.status("probe")["active"] != 0 {
            host.post("/fn/calm/echo", "x").status(200);
            served += 1;
        }
        assert!(served > 0, "nobody was served while they spun");
        for reply in spinning {
            let error = reply.join().expect("no panic").status(504).error();
            assert_eq!(error, "`probe` did not answer within its deadline");
        }
    });
    host.post("/fn/probe/echo", "x").status(200);
}

#[test]
fn a_deadline_ends_a_predict_function_that_spins() {
    let host = TestHost::builder().function("probe", |manifest| manifest.set("limits.deadline", "300ms")).start();
    let request = |command: &str| {
        json!({ "inputs": [
            { "name": "command", "shape": [1], "datatype": "BYTES", "data": [command] },
            { "name": "x", "shape": [1], "datatype": "FP32", "data": [1] },
        ] })
    };
    host.infer("probe", &request("spin")).status(504);
    host.infer("probe", &request("pass")).status(200);
}

fn rounds(count: u64) -> Value {
    json!({ "inputs": [{ "name": "rounds", "shape": [1], "datatype": "INT64", "data": [count] }] })
}

#[test]
fn a_deadline_ends_a_native_run_and_frees_its_worker() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = TestHost::builder().function("slow", |manifest| manifest.set("limits.deadline", "1s")).start();
    host.infer("slow", &rounds(1)).status(200);
    let error = host.infer("slow", &rounds(1_000_000_000)).status(504).error();
    assert_eq!(error, "`slow` did not answer within its deadline");
    // The model has one worker. Were the run still under way, this would wait for it in vain.
    let answer = host.infer("slow", &rounds(1)).status(200).json();
    assert_eq!(answer["outputs"][0]["data"], json!([96.0]));
}

#[test]
fn a_caller_that_hangs_up_ends_its_native_run() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = TestHost::builder().function("slow", |manifest| manifest.set("limits.deadline", forever())).start();
    let body = rounds(1_000_000_000).to_string();
    let mut raw = Raw::connect(host.data);
    raw.send(format!("POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    host.until_number("slow", "active", 1);
    drop(raw);
    host.until_number("slow", "active", 0);
    host.infer("slow", &rounds(1)).status(200);
}

/// The host ends an answer that has begun such that its caller sees that more was to come.
#[track_caller]
fn breaks_off(path: &str) {
    let host = TestHost::builder().function("probe", |manifest| manifest.set("limits.deadline", "500ms")).start();
    let mut raw = Raw::connect(host.data);
    raw.send(format!("GET /fn/probe/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    let answer = raw.rest();
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("chunk 0\n"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "it looks complete: {answer}");
    host.until_number("probe", "active", 0);
    host.post("/fn/probe/echo", "x").status(200);
}

#[test]
fn an_answer_that_the_guest_breaks_off_is_seen_to_be_incomplete() {
    breaks_off("break?chunks=3&delay=50");
}

#[test]
fn an_answer_that_a_trap_cuts_short_is_seen_to_be_incomplete() {
    breaks_off("trap-late?chunks=3&delay=50");
}

#[test]
fn an_answer_that_the_deadline_cuts_short_is_seen_to_be_incomplete() {
    breaks_off("stream?chunks=1000&delay=20");
}

#[test]
fn a_host_has_no_more_instances_than_its_operator_says() {
    let host = probe(|manifest| manifest).flag("--max-instances").flag("1").start();
    let mut held = Raw::connect(host.data);
    held.send("GET /fn/probe/stream?chunks=2&delay=600000 HTTP/1.1\r\nhost: x\r\n\r\n");
    held.until("chunk 0");
    thread::scope(|scope| {
        let next = scope.spawn(|| host.post("/fn/probe/echo", "x"));
        host.until_number("probe", "active", 2);
        drop(held);
        next.join().expect("no panic").status(200);
    });
}
