//! A host that is killed at any moment, or finds its state directory in a bad way.

use crate::fixture::{Manifest, Stage, TestHost, disk::SmallDisk};
use serde_json::{Value, json};
use std::{fs, thread, time::Duration};

fn sum() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

fn stage() -> Stage {
    let plain = |manifest: Manifest| manifest;
    TestHost::builder().function("add", plain).function("filetype", plain)
}

/// All functions answer.
#[track_caller]
fn serves(host: &TestHost) {
    host.infer("add", &sum()).status(200);
    let label = host.post("/fn/filetype", "<!doctype html><html><head></head><body></body></html>").status(200).json();
    assert_eq!(label["label"], "html");
}

#[test]
fn a_host_that_was_killed_while_waking_comes_up_again() {
    let mut stage = stage();
    for moment in 0..6 {
        let host = stage.start();
        thread::scope(|scope| {
            // Its answer, if there is one, is of no interest: the host dies about now.
            scope.spawn(|| {
                drop(host.try_send(http::Request::post("/fn/filetype").body(b"{}".to_vec()).expect("a request")))
            });
            thread::sleep(Duration::from_millis(moment * 4));
            host.signal(rustix::process::Signal::KILL);
        });
        stage = host.kill();
    }
    serves(&stage.start());
}

#[test]
fn a_host_that_was_killed_while_deploying_comes_up_again() {
    // Each start gets further than the one before: the store, the compiled modules and the host's key are all cut short once.
    let mut stage = stage();
    for moment in 0..12 {
        let (next, mut child) = stage.launch();
        thread::sleep(Duration::from_millis(5 + moment * moment * 2));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        stage = next;
    }
    let host = stage.start();
    serves(&host);
    assert!(!host.stage().log().contains("panicked"), "{}", host.stage().log());
}

#[test]
fn one_state_directory_is_for_one_host() {
    let host = stage().start();
    let ran = host.stage().refused();
    ran.refused(2, &["state directory", "in use by another host", "--state"]);
    serves(&host);
}

#[test]
fn a_damaged_host_key_is_replaced() {
    let stage = stage().start().stop();
    for content in [&b""[..], b"short", &[7; 32], &[7; 33]] {
        fs::write(stage.state().join("keys/host.key"), content).expect("it can be written");
        // No host is left behind by the check of the next content.
        let (again, mut child) = relaunch(&stage);
        assert!(again, "{}", stage.log());
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    serves(&stage.start());
}

/// Starts a host on a borrowed stage, and says whether it serves.
fn relaunch(stage: &Stage) -> (bool, std::process::Child) {
    let mut child = stage.spawn();
    let served = crate::fixture::until("the host serves or ends", || {
        let serves = stage.path("addresses").exists();
        (serves || child.try_wait().is_ok_and(|ended| ended.is_some())).then_some(serves)
    });
    (served, child)
}

#[test]
fn leftovers_of_a_crash_are_harmless() {
    let stage = stage().start().stop();
    let state = stage.state();
    fs::write(state.join("blobs/sha256/.new-abc"), "half a blob").expect("it can be written");
    fs::write(state.join("compiled/0.12345.tmp"), "half a module").expect("it can be written");
    for tag in stage.kept("compiled", ".tag") {
        fs::remove_file(tag).expect("it can be removed");
    }
    serves(&stage.start());
}

#[test]
fn a_state_directory_that_cannot_be_used_is_a_clear_error() {
    let stage = stage();
    fs::write(stage.state(), "a file").expect("it can be written");
    stage.refused().refused(2, &["cannot use the state directory", "state"]);
}

#[test]
fn a_disk_that_is_full_is_a_clear_error_of_the_functions() {
    let stage = stage();
    let Some(disk) = SmallDisk::at(&stage.state(), "1m") else { return };
    let host = stage.start();
    // The bundle of this function does not fit; the host serves all the same.
    let status = host.status("filetype");
    let cause = status["cause"].as_str().unwrap_or_default();
    assert!(status["state"] == "Failed" && cause.contains("cannot") && cause.contains("No space"), "{status}");
    host.get("/v2/health/live").status(200);
    let stage = host.stop();
    drop(disk);
    serves(&stage.start());
}
