//! Stopping a host: whoever is being served is served to the end, and nobody new.

use crate::fixture::{Raw, TestHost, forever, raw::status, until};
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpStream;

fn host() -> TestHost {
    TestHost::builder()
        .function("probe", |manifest| manifest.set("limits.deadline", forever()))
        .flag("--drain")
        .flag("300s")
        .start()
}

/// A request whose answer has begun, and goes on for as long as `delay` says between its two halves.
fn half_way(host: &TestHost, delay: u32) -> Raw {
    let mut raw = Raw::connect(host.data);
    raw.send(format!("GET /fn/probe/stream?chunks=2&delay={delay} HTTP/1.1\r\nhost: x\r\n\r\n"));
    let answer = raw.until("chunk 0");
    assert_eq!(status(&answer), 200, "{answer}");
    raw
}

#[test]
fn an_idle_host_stops_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let host = host();
        // Connections that are kept open for a next request do not hold it up.
        host.get("/v2").status(200);
        host.signal(signal);
        assert_eq!(host.ended().code(), Some(0));
    }
}

/// What the log says of a signal was once what waited for it.
#[test]
fn a_host_that_logs_nothing_serves_until_it_is_told_to_stop() {
    let host = TestHost::builder().function("probe", |manifest| manifest).flag("--log").flag("off").start();
    host.get("/v2").status(200);
    host.signal(Signal::TERM);
    assert_eq!(host.ended().code(), Some(0));
}

#[test]
fn a_host_that_is_told_to_stop_while_it_deploys_ends_in_good_order() {
    let (stage, mut child) = TestHost::builder().function("embed", |manifest| manifest).launch();
    // It watches for signals before it takes the state directory, and deploys after that.
    until("it has the state directory", || stage.state().join("lock").exists().then_some(()));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the host can be signalled");
    let status = until("the host ends", || child.try_wait().ok()?);
    assert_eq!(status.code(), Some(0), "{}", stage.log());
    stage.start().get("/v2/models/embed/ready").status(200);
}

#[test]
fn requests_that_run_are_completed_and_new_ones_are_not_accepted() {
    let host = host();
    let mut raw = half_way(&host, 1500);
    host.signal(Signal::TERM);
    until("it is draining", || {
        let ready = host.admin("/readyz");
        (ready.status == 503 && ready.text().contains("draining")).then_some(())
    });
    host.admin("/livez").status(200);
    until("it accepts no connection", || TcpStream::connect(host.data).is_err().then_some(()));
    let rest = raw.rest();
    assert!(rest.contains("chunk 1\n") && rest.ends_with("0\r\n\r\n"), "{rest}");
    assert_eq!(host.ended().code(), Some(0));
    assert!(host.stage().log().contains("stopped"), "{}", host.stage().log());
}

#[test]
fn a_second_signal_stops_at_once() {
    let host = host();
    let _raw = half_way(&host, 600_000);
    host.signal(Signal::TERM);
    until("it is draining", || (host.admin("/readyz").status == 503).then_some(()));
    host.signal(Signal::TERM);
    assert_eq!(host.ended().code(), Some(1));
}

#[test]
fn a_drain_has_an_end() {
    let host = TestHost::builder()
        .function("probe", |manifest| manifest.set("limits.deadline", forever()))
        .flag("--drain")
        .flag("200ms")
        .start();
    let _raw = half_way(&host, 600_000);
    host.signal(Signal::TERM);
    assert_eq!(host.ended().code(), Some(0));
    assert!(host.stage().log().contains("cut off"), "{}", host.stage().log());
}
