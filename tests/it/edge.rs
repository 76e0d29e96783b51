//! Clients that are rude, broken or too many. The host refuses each and goes on serving the others.

use crate::fixture::{Raw, TestHost, forever, raw::status};
use serde_json::json;

fn host() -> TestHost {
    TestHost::builder().function("probe", |manifest| manifest.set("limits.deadline", forever())).start()
}

/// What the host says to some bytes, after which it hangs up.
fn said_to(host: &TestHost, bytes: impl AsRef<[u8]>) -> String {
    Raw::connect(host.data).send(bytes).rest()
}

#[track_caller]
fn still_serves(host: &TestHost) {
    assert_eq!(host.post("/fn/probe/echo", "still there").status(200).text(), "still there");
    assert!(!host.stage().log().contains("panicked"), "{}", host.stage().log());
}

#[test]
fn too_many_headers_are_refused() {
    let host = host();
    let headers = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let fine = said_to(&host, format!("GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}\r\n", headers(90)));
    assert_eq!(status(&fine), 200);
    let many = said_to(&host, format!("GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}\r\n", headers(200)));
    assert_eq!(status(&many), 431, "{many}");
    still_serves(&host);
}

#[test]
fn a_huge_header_is_refused() {
    let host = host();
    let huge = |size: usize| {
        said_to(&host, format!("GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(size)))
    };
    assert_eq!(status(&huge(8_000)), 200);
    assert_eq!(status(&huge(100_000)), 431);
    // One without an end is refused before it ends.
    let mut raw = Raw::connect(host.data);
    raw.send(format!("GET /v2 HTTP/1.1\r\nx: {}", "y".repeat(100_000)));
    assert_eq!(status(&raw.head()), 431);
    still_serves(&host);
}

#[test]
fn a_huge_path_is_refused() {
    let host = host();
    let answer = said_to(&host, format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(100_000)));
    assert!([414, 431].contains(&status(&answer)), "{answer}");
    still_serves(&host);
}

#[test]
fn bytes_that_are_no_http_are_refused() {
    let host = host();
    for bytes in [
        &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: minus\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let answer = said_to(&host, bytes);
        assert_eq!(status(&answer), 400, "{answer:?} to {:?}", String::from_utf8_lossy(bytes));
    }
    still_serves(&host);
}

#[test]
fn half_a_request_harms_nobody() {
    let host = host();
    // What may still become HTTP/2 is waited for as long as a head may take; nobody waits for that here.
    for bytes in ["P", "PRI * HTTP/2.0\r\n\r\n"] {
        Raw::connect(host.data).send(bytes);
    }
    for bytes in [
        &b""[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET /v2",
        b"GET /v2 HTTP/1.1\r\nhost: x\r\n",
        b"POST /fn/probe/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc",
        b"POST /v2/models/probe/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc",
        b"POST /fn/probe/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"POST /v2/models/probe/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = Raw::connect(host.data).send(bytes).finish().rest();
        assert!(!answer.starts_with("HTTP/1.1 5"), "{answer} to {:?}", String::from_utf8_lossy(bytes));
        // And without waiting for what the host says to it.
        Raw::connect(host.data).send(bytes);
    }
    host.until_number("probe", "active", 0);
    still_serves(&host);
}

#[test]
fn a_request_needs_no_more_than_http_asks() {
    let host = host();
    let answer = said_to(&host, "GET /v2 HTTP/1.0\r\n\r\n");
    assert_eq!(status(&answer), 200, "{answer}");
    let answer = said_to(&host, "GET /fn/probe/echo HTTP/1.1\r\nconnection: close\r\n\r\n");
    assert_eq!(status(&answer), 400, "{answer}");
    let answer = said_to(&host, "GET http://example.com/v2 HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n");
    assert_eq!(status(&answer), 200, "{answer}");
}

#[test]
fn many_requests_may_come_at_once_on_one_connection() {
    let host = host();
    let one = "POST /fn/probe/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n";
    let last = "GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = said_to(&host, (0..5).map(|n| format!("{one}{n}")).chain([last.to_owned()]).collect::<String>());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 6, "{answer}");
}

#[test]
fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let host = host();
    let mut raw = Raw::connect(host.data);
    raw.send("POST /fn/probe/echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    let mut answer = raw.head();
    assert_eq!(status(&answer), 100, "{answer}");
    // The guest may begin to answer before it gets the body, so the head may be here already.
    answer += &raw.send("body").until("body");
    assert!(answer.contains("HTTP/1.1 200 OK") && answer.contains("body"), "{answer}");
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let host = TestHost::builder().function("probe", |manifest| manifest).flag("--max-connections").flag("2").start();
    let request = "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let (mut first, mut second, mut third) =
        (Raw::connect(host.data), Raw::connect(host.data), Raw::connect(host.data));
    for raw in [&mut first, &mut second] {
        assert_eq!(status(&raw.send(request).until("true}")), 200);
    }
    third.send(request);
    for _ in 0..50 {
        first.send(request).until("true}");
        assert!(host.admin("/metrics").text().contains("\ntorpor_connections 2\n"));
    }
    drop(second);
    assert_eq!(status(&third.until("true}")), 200);
}

#[test]
fn the_operators_interface_only_tells() {
    let host = host();
    for (path, words) in [("/livez", "live"), ("/readyz", "ready"), ("/metrics", "# EOF"), ("/functions", "probe")] {
        assert!(host.admin(path).status(200).text().contains(words), "{path}");
    }
    let error = host.admin("/functions/nobody").status(404).error();
    assert!(error.contains("`nobody`"), "{error}");
    host.admin("/nothing").status(404);
    // And callers do not get there.
    for path in ["/livez", "/metrics", "/functions", "/functions/probe"] {
        host.get(path).status(404);
    }
    assert_eq!(host.admin("/functions").json().as_array().map(Vec::len), Some(1));
    assert_eq!(host.status("probe")["trigger"], json!({ "http": "/fn/probe/*", "inference": true }));
}
