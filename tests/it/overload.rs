//! More requests than can be answered, more connections than there are places, and callers who keep others waiting: each is turned
//! away or given up, memory stays bounded, and whoever behaves is served.

use crate::fixture::{Manifest, Raw, TestHost, forever, raw::status, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::{fs, net::TcpStream, thread};

/// A request to the probe that takes a place for so many milliseconds, and no processor.
fn taking(milliseconds: u64) -> String {
    format!("/fn/probe/stream?chunks=2&delay={milliseconds}")
}

/// With one place for requests.
fn narrow(manifest: Manifest) -> Manifest {
    manifest.set("scale.max-concurrency", 1).set("scale.idle-timeout", forever())
}

/// What the process of a host has in memory, in MiB.
fn resident(host: &TestHost) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("the host runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the system tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// A value of `/metrics`.
fn metric(host: &TestHost, name: &str) -> u64 {
    let metrics = host.admin("/metrics").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("`{name}` is not in:\n{metrics}"))
}

/// `GET path`, on a connection of its own.
fn ask(host: &TestHost, path: &str) -> Raw {
    let mut raw = Raw::connect(host.data);
    raw.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
    raw
}

#[test]
fn who_cannot_be_answered_in_time_is_turned_away_at_once() {
    const CALLERS: u64 = 40;
    let host = TestHost::builder().function("probe", |manifest| narrow(manifest).set("limits.deadline", "5s")).start();
    for _ in 0..4 {
        host.get(&taking(200)).status(200);
    }
    let replies: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(|| host.get(&taking(200)))).collect();
        callers.into_iter().map(|caller| caller.join().expect("no caller panics")).collect()
    });
    let (answered, shed): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
    assert!(answered.len() > 1 && shed.len() > 1, "{} were answered, {} were not", answered.len(), shed.len());
    let count = shed.len() as u64;
    for reply in shed {
        let reply = reply.status(503);
        assert_eq!(reply.error(), "`probe` has too many requests now to answer this one within its deadline");
        assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{:?}", reply.headers);
    }
    assert_eq!(metric(&host, "torpor_requests_total{function=\"probe\",outcome=\"overloaded\"}"), count);
    // Whoever is alone is served as ever.
    host.until_number("probe", "active", 0);
    host.get(&taking(1)).status(200);
}

#[test]
fn a_caller_that_never_reads_is_given_up() {
    let host = TestHost::builder()
        .function("probe", |manifest| narrow(manifest).set("limits.deadline", forever()))
        .flag("--client-timeout")
        .flag("1s")
        .start();
    host.post("/fn/probe/echo", "x").status(200);
    let before = resident(&host);
    // Without an end, so that it fills whatever is between it and its caller.
    let mut raw = ask(&host, "/fn/probe/stream?chunks=1000000000&delay=0");
    host.until_number("probe", "active", 1);
    // The one place is taken until the caller is given up, and free then.
    host.post("/fn/probe/echo", "later").status(200);
    let grown = resident(&host).saturating_sub(before);
    assert!(grown < 64, "an answer that nobody reads took {grown} MiB");
    let answer = raw.head();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let host = TestHost::builder().function("probe", |manifest| manifest).flag("--client-timeout").flag("1s").start();
    let mut slow: Vec<_> = (0..20).map(|_| Raw::connect(host.data)).collect();
    let mut bytes = "GET /v2 HTTP/1.1\r\nhost: x\r\nx: ".bytes().chain(std::iter::repeat(b'y'));
    until("the host has given them up", || {
        let byte = bytes.next().expect("it has no end");
        for raw in &mut slow {
            raw.send([byte]);
        }
        host.post("/fn/probe/echo", "x").status(200);
        // The one that is left is that of these requests, if any is.
        (metric(&host, "torpor_connections ") <= 1).then_some(())
    });
    for raw in &mut slow {
        let answer = raw.rest();
        assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
    }
}

#[test]
fn a_body_that_trickles_holds_no_place_and_ends_at_the_deadline() {
    let host = TestHost::builder().function("probe", |manifest| narrow(manifest).set("limits.deadline", "1s")).start();
    host.post("/fn/probe/echo", "x").status(200);
    let refused = || metric(&host, "torpor_requests_total{function=\"probe\",outcome=\"refused\"}");
    for path in ["/fn/probe/echo", "/v2/models/probe/infer"] {
        let before = refused();
        let mut slow: Vec<_> = (0..10).map(|_| Raw::connect(host.data)).collect();
        for raw in &mut slow {
            raw.send(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n"));
        }
        until("the host has given them up", || {
            for raw in &mut slow {
                raw.send("x");
            }
            // There is one place, and none of them has it.
            host.post("/fn/probe/echo", "x").status(200);
            (refused() == before + 10).then_some(())
        });
        for raw in &mut slow {
            let answer = raw.head();
            assert_eq!(status(&answer), 408, "{path}: {answer}");
        }
    }
}

/// As many connections as wanted, if the system lets this process have so many; else as many as it does.
fn allowed(wanted: u64) -> usize {
    // Those of the other tests of this program.
    const OTHERS: u64 = 2000;
    let Rlimit { maximum, current } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(u64::MAX);
    let files = wanted.saturating_add(OTHERS).min(most);
    if current.is_some_and(|current| current < files) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).expect("up to the hard limit it may");
    }
    let allowed = files.saturating_sub(OTHERS).min(wanted);
    assert!(allowed >= 100, "the hard limit of open files is {most}, which is too few for tests");
    usize::try_from(allowed).expect("it is small")
}

#[test]
fn ten_thousand_connections_cost_little_and_keep_nobody_waiting() {
    let count = allowed(10_000);
    let host = TestHost::builder()
        .function("probe", |manifest| manifest)
        .flag("--max-connections")
        .flag("20000")
        .flag("--client-timeout")
        .flag("10m")
        .start();
    host.post("/fn/probe/echo", "x").status(200);
    let before = resident(&host);
    let connect = |index: usize| {
        let mut raw = Raw::connect(host.data);
        // Some say nothing, some half a request, and some a whole one.
        raw.send([&b""[..], b"GET /v2 HT", b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"][index % 3]);
        raw
    };
    let connections: Vec<_> = (0..count).map(connect).collect();
    until("all are connected", || (metric(&host, "torpor_connections ") >= count as u64).then_some(()));
    host.post("/fn/probe/echo", "x").status(200);
    let each = (resident(&host).saturating_sub(before) << 10) / count as u64;
    assert!(each < 32, "a connection takes {each} KiB");
    drop(connections);
    until("all have gone", || (metric(&host, "torpor_connections ") <= 1).then_some(()));
    host.post("/fn/probe/echo", "x").status(200);
}

#[test]
fn silent_connections_make_room_for_others() {
    let host = TestHost::builder()
        .function("probe", |manifest| manifest.set("limits.deadline", forever()))
        .flag("--max-connections")
        .flag("8")
        .start();
    // One has its request answered all the while.
    let mut busy = ask(&host, "/fn/probe/stream?chunks=3&delay=3000");
    busy.until("chunk 0");
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(host.data).expect("the system's queue takes it")).collect();
    // Those before it have to go first, each when it has been silent for long enough.
    assert_eq!(status(&ask(&host, "/v2/health/live").until("true}")), 200);
    let answer = busy.until("chunk 2");
    assert!(answer.contains("chunk 2"), "whose request was being answered had to go: {answer}");
    drop(silent);
}

#[test]
fn what_one_gets_wrong_is_not_its_neighbours_concern() {
    // All at the same time before one model whose runs may be joined.
    let batched = |manifest: Manifest| manifest.set("model.add.batch.max-size", 8).set("model.add.parallel", 1);
    let host = TestHost::builder().function("probe-models", batched).start();
    let cases = [
        ("add", "z=[2.0, 2.0, 2.0, 2.0]"),
        ("nan", "z=[NaN, NaN, NaN, NaN]"),
        ("wrong-dtype", "InvalidInput"),
        ("wrong-rank", "InvalidInput"),
    ];
    thread::scope(|scope| {
        for caller in 0..12 {
            let (host, (word, expected)) = (&host, cases[caller % cases.len()]);
            scope.spawn(move || {
                for _ in 0..30 {
                    let said = host.post(&format!("/fn/probe-models/{word}"), "").status(200).text();
                    assert!(said.contains(expected), "{word}: {said}");
                }
            });
        }
    });
    // The same over the protocol, where they are refused before they come near a model.
    let rows = |datatype: &str, shape: [u64; 2], data: &[f64]| {
        let row = |name: &str| json!({ "name": name, "shape": shape, "datatype": datatype, "data": data });
        json!({ "inputs": [row("x"), row("y")] })
    };
    let host = TestHost::builder().function("add", |manifest| manifest.set("model.model.batch.max-size", 8)).start();
    let cases = [
        (rows("FP32", [1, 4], &[1.0; 4]), 200),
        (rows("FP64", [1, 4], &[1.0; 4]), 400),
        (rows("FP32", [1, 3], &[1.0; 3]), 400),
        (rows("FP32", [1, 4], &[1e39; 4]), 400),
    ];
    thread::scope(|scope| {
        for caller in 0..8 {
            let (host, (request, expected)) = (&host, &cases[caller % cases.len()]);
            scope.spawn(move || {
                for _ in 0..30 {
                    let reply = host.infer("add", request).status(*expected);
                    assert!(*expected != 200 || reply.json()["outputs"][0]["data"] == json!([2.0, 2.0, 2.0, 2.0]));
                }
            });
        }
    });
}
