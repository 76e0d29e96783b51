//! Cold, waking, warm and back; queues, failed wakes, and that nothing grows.

use crate::fixture::{
    Manifest, Recipe, Stage, TestHost, forever, skipped_without_onnxruntime, skipped_without_openvino, until,
};
use serde_json::{Value, json};
use std::{fs, thread, time::Duration};

/// A right call of `add`.
fn sum() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

fn quick(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", "10ms")
}

fn lasting(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", forever())
}

#[test]
fn a_function_wakes_for_a_call_and_goes_back_to_zero() {
    let host = TestHost::builder().function("add", quick).start();
    let cold = host.status("add");
    assert_eq!((&cold["state"], &cold["sessions"], &cold["wakes"]), (&json!("Cold"), &json!(0), &json!(0)));
    for wakes in 1..=3 {
        host.infer("add", &sum()).status(200);
        let cold = host.until_state("add", "Cold");
        assert_eq!(cold["wakes"], wakes);
        assert_eq!((&cold["sessions"], &cold["memory"], &cold["active"]), (&json!(0), &Value::Null, &json!(0)));
        host.until_number("add", "sleeps", wakes);
    }
}

#[test]
fn a_later_wake_finds_its_code_mapped_and_linked() {
    let host = TestHost::builder().function("add", quick).start();
    let link = |wake: u64| {
        host.infer("add", &sum()).status(200);
        host.until_number("add", "sleeps", wake);
        host.status("add")["last_wake"]["link_ms"].as_f64().expect("a number")
    };
    assert!(link(1) > 0.0);
    assert_eq!((link(2), link(3)), (0.0, 0.0));

    // What is mapped from another file than the one that is there is not taken, though its content is the same.
    for file in host.stage().kept("compiled", ".cwasm") {
        let copy = file.with_extension("copy");
        fs::copy(&file, &copy).and_then(|_| fs::rename(&copy, &file)).expect("it can be replaced");
    }
    assert!(link(4) > 0.0);
    assert_eq!(link(5), 0.0);
}

#[test]
fn a_warm_function_says_what_it_holds() {
    let host = TestHost::builder().function("add", lasting).start();
    host.infer("add", &sum()).status(200);
    let warm = host.status("add");
    assert_eq!((&warm["state"], &warm["sessions"], &warm["calls"]), (&json!("Warm"), &json!(1), &json!(1)));
    assert!(warm["memory"].is_u64(), "{warm}");
    assert!(warm["last_call"].as_f64().is_some_and(|time| time > 1.7e9), "{warm}");
    assert!(warm["last_wake"]["total_ms"].as_f64().is_some_and(|total| total > 0.0), "{warm}");
    assert_eq!(warm["cause"], Value::Null);
}

#[test]
fn a_hundred_callers_of_a_cold_function_share_one_wake() {
    let host = TestHost::builder().function("filetype", lasting).start();
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..100).map(|_| scope.spawn(|| host.post("/fn/filetype", "<html><body></body></html>").status)).collect();
        for caller in callers {
            assert_eq!(caller.join().expect("no caller panics"), 200);
        }
    });
    let status = host.status("filetype");
    assert_eq!((&status["wakes"], &status["wake_failures"], &status["calls"]), (&json!(1), &json!(0), &json!(100)));
}

#[test]
fn callers_while_it_falls_asleep_are_served() {
    // The pauses between the calls are about as long as the idle time-out, so calls meet every state.
    let host = TestHost::builder().function("add", quick).start();
    for round in 0..80 {
        thread::scope(|scope| {
            (0..3).for_each(|_| drop(scope.spawn(|| host.infer("add", &sum()).status(200))));
        });
        thread::sleep(Duration::from_micros(8_000 + 100 * round));
    }
    let status = host.until_state("add", "Cold");
    assert_eq!((&status["calls"], &status["wake_failures"]), (&json!(240), &json!(0)));
    assert!(status["wakes"].as_u64() > Some(10), "it hardly slept: {status}");
}

#[test]
fn a_full_queue_is_the_one_reason_to_send_callers_away() {
    let one = |manifest: Manifest| {
        lasting(manifest).set("scale.max-concurrency", 1).set("scale.queue", 1).set("limits.deadline", forever())
    };
    let host = TestHost::builder().function("probe", one).start();
    let held = "/fn/probe/stream?chunks=2&delay=600000";
    thread::scope(|scope| {
        let mut running = crate::fixture::Raw::connect(host.data);
        running.send(format!("GET {held} HTTP/1.1\r\nhost: x\r\n\r\n"));
        running.until("chunk 0");
        let waiting = scope.spawn(|| host.post("/fn/probe/echo", "later").status(200).text());
        host.until_number("probe", "queued", 1);

        let shed = host.post("/fn/probe/echo", "too much").status(503);
        assert!(shed.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{:?}", shed.headers);
        assert_eq!(shed.error(), "the queue of `probe` is full");

        // Whoever waits gets its turn when the place is free.
        drop(running);
        assert_eq!(waiting.join().expect("it is served"), "later");
    });
    host.until_number("probe", "active", 0);
}

#[test]
fn a_function_with_min_1_wakes_at_the_start_and_stays() {
    let host = TestHost::builder().function("add", |manifest| quick(manifest).set("scale.min", 1)).start();
    host.until_state("add", "Warm");
    host.infer("add", &sum()).status(200);
    let reply = host.infer("add", &sum()).status(200);
    assert!(!reply.header("server-timing").contains("wake"), "{:?}", reply.headers);
    // Another function goes to sleep under the same time-out meanwhile.
    let status = host.status("add");
    assert_eq!((&status["state"], &status["wakes"], &status["sleeps"]), (&json!("Warm"), &json!(1), &json!(0)));
}

#[test]
fn only_a_cold_call_says_what_its_wake_cost() {
    let host = TestHost::builder().function("filetype", lasting).start();
    let timing = |reply: &crate::fixture::Reply| reply.header("server-timing").to_owned();
    let cold = timing(&host.post("/fn/filetype", "<html><body></body></html>").status(200));
    for phase in ["queue", "wake", "map", "link", "session", "first-run", "instantiate", "run"] {
        let entry = cold.split(", ").find_map(|entry| entry.strip_prefix(phase)?.strip_prefix(";dur="));
        assert!(entry.is_some_and(|time| time.parse::<f64>().is_ok_and(|time| time >= 0.0)), "{phase} in {cold}");
    }
    let warm = timing(&host.post("/fn/filetype", "<html><body></body></html>").status(200));
    assert!(warm.starts_with("queue;dur=") && warm.contains("run;dur="), "{warm}");
    assert!(["wake", "session", "first-run"].iter().all(|phase| !warm.contains(phase)), "{warm}");
}

/// Deploys `add` with a file in the place of its model that no backend can read, although it is rightly signed.
fn with_garbage(stage: Stage, name: &str) -> Stage {
    let (file, bundle) = (stage.path("garbage.onnx"), stage.bundle(name));
    fs::write(&file, [0x5a; 1000]).expect("it can be written");
    Recipe::of("add").pack_with_model("model", &file, &bundle);
    stage.keys.sign(&bundle);
    stage.manifest(&Recipe::of("add").manifest(&bundle).set("name", name));
    stage
}

#[test]
fn a_wake_that_fails_has_a_cause_and_harms_nobody_else() {
    let host = with_garbage(TestHost::builder().function("add", lasting), "broken").start();
    let reply = host.infer("broken", &sum()).status(500);
    assert_eq!(reply.error(), "`broken` is not able to start");
    let failed = host.status("broken");
    assert_eq!((&failed["state"], &failed["wake_failures"]), (&json!("Failed"), &json!(1)));
    let cause = failed["cause"].as_str().expect("a cause");
    assert!(cause.contains("`model`"), "{cause}");

    // It is not tried again at once, and says so to those who ask whether it is ready.
    host.infer("broken", &sum()).status(500);
    assert_eq!(host.status("broken")["wake_failures"], 1);
    assert_eq!(host.get("/v2/models/broken/ready").status(400).json()["ready"], false);
    host.infer("add", &sum()).status(200);

    // After the back-off it is.
    until("it is tried again", || {
        host.infer("broken", &sum()).status(500);
        (host.status("broken")["wake_failures"] == 2).then_some(())
    });
}

#[test]
fn a_function_that_failed_recovers() {
    let host = TestHost::builder().function("add", quick).start();
    host.infer("add", &sum()).status(200);
    host.until_state("add", "Cold");
    let blobs = host.stage().state().join("blobs/sha256");
    let aside = host.stage().path("aside");
    fs::rename(&blobs, &aside).expect("the store can be moved away");
    host.infer("add", &sum()).status(500);
    let cause = host.status("add")["cause"].as_str().expect("a cause").to_owned();
    assert!(!cause.is_empty());
    fs::rename(&aside, &blobs).expect("the store can be moved back");
    until("it wakes again", || (host.infer("add", &sum()).status == 200).then_some(()));
    assert_eq!(host.status("add")["cause"], Value::Null);
}

#[test]
fn a_function_with_min_1_that_failed_recovers_by_itself() {
    let host = with_garbage(TestHost::builder(), "broken");
    let bundle = host.bundle("broken");
    host.manifest(&Recipe::of("add").manifest(&bundle).set("name", "broken").set("scale.min", 1));
    let host = host.start();
    host.until_number("broken", "wake_failures", 2);
    assert_eq!(host.status("broken")["calls"], 0);
}

#[test]
fn a_caller_whose_deadline_passes_does_not_stop_the_wake() {
    // The wake of this model takes several times as long.
    let host =
        TestHost::builder().function("embed", |manifest| lasting(manifest).set("limits.deadline", "5ms")).start();
    let text = json!({ "name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"] });
    host.infer("embed", &json!({ "inputs": [text] })).status(504);
    let status = host.until_state("embed", "Warm");
    assert_eq!((&status["wakes"], &status["wake_failures"], &status["queued"]), (&json!(1), &json!(0), &json!(0)));
}

/// What the host has of things that leak.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    /// Bytes.
    memory: u64,
    threads: u64,
    files: usize,
}

fn held(pid: u32) -> Held {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the host runs");
    let status = file("status");
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux says it");
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the host runs").count();
    Held { memory: number("VmRSS:") * 1024, threads: number("Threads:"), files }
}

/// Wakes a function and lets it sleep again and again, and compares what the host holds before and after.
#[track_caller]
fn does_not_grow(function: &str, warm_up: u64, cycles: u64, slack: u64, call: impl Fn(&TestHost)) {
    stays_flat(TestHost::builder().function(function, quick), function, warm_up, cycles, slack, call);
}

#[track_caller]
fn stays_flat(stage: Stage, function: &str, warm_up: u64, cycles: u64, slack: u64, call: impl Fn(&TestHost)) {
    let host = stage.start();
    let mut before = None;
    for cycle in 1..=cycles {
        call(&host);
        host.until_number(function, "sleeps", cycle);
        if cycle == warm_up {
            before = Some(held(host.pid()));
        }
    }
    let status = host.status(function);
    assert_eq!((&status["wakes"], &status["wake_failures"]), (&json!(cycles), &json!(0)));
    let (before, after) = (before.expect("the warm-up is shorter"), held(host.pid()));
    assert!(after.memory < before.memory + slack, "memory grew: {before:?} {after:?}");
    // The async runtime keeps a varying number of idle threads for blocking work, and clients keep connections.
    assert!(after.threads <= before.threads + 4, "threads grew: {before:?} {after:?}");
    assert!(after.files <= before.files + 4, "files grew: {before:?} {after:?}");
}

const MEBIBYTE: u64 = 1024 * 1024;

#[test]
#[cfg(target_os = "linux")]
fn two_hundred_wakes_of_a_small_model_leave_nothing_behind() {
    does_not_grow("add", 50, 200, 8 * MEBIBYTE, |host| drop(host.infer("add", &sum()).status(200)));
}

#[test]
#[cfg(target_os = "linux")]
fn two_hundred_wakes_in_worker_processes_leave_nothing_behind() {
    let stage = TestHost::builder().function("add", |manifest| quick(manifest).set("model.model.isolation", "process"));
    stays_flat(stage, "add", 50, 200, 8 * MEBIBYTE, |host| drop(host.infer("add", &sum()).status(200)));
}

#[test]
#[cfg(target_os = "linux")]
fn wakes_of_a_real_model_leave_nothing_behind() {
    does_not_grow("filetype", 15, 45, 8 * MEBIBYTE, |host| drop(host.post("/fn/filetype", "{}").status(200)));
}

#[test]
#[cfg(target_os = "linux")]
fn two_hundred_wakes_on_openvino_leave_nothing_behind() {
    if skipped_without_openvino() {
        return;
    }
    let stage = TestHost::builder().function("add", |manifest| quick(manifest).set("model.model.backend", "openvino"));
    stays_flat(stage, "add", 50, 200, 8 * MEBIBYTE, |host| drop(host.infer("add", &sum()).status(200)));
}

#[test]
#[cfg(target_os = "linux")]
fn wakes_of_a_real_model_on_openvino_leave_nothing_behind() {
    if skipped_without_openvino() {
        return;
    }
    let stage =
        TestHost::builder().function("filetype", |manifest| quick(manifest).set("model.standard.backend", "openvino"));
    stays_flat(stage, "filetype", 15, 45, 8 * MEBIBYTE, |host| drop(host.post("/fn/filetype", "{}").status(200)));
}

#[test]
#[cfg(target_os = "linux")]
fn a_function_that_sleeps_gives_its_memory_back() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = TestHost::builder().function("embed", |manifest| manifest.set("scale.idle-timeout", "100ms")).start();
    let text = json!({ "name": "text", "shape": [1], "datatype": "BYTES", "data": ["a cat"] });
    let request = json!({ "inputs": [text] });
    let [mut warm, mut cold] = [Vec::new(), Vec::new()];
    for cycle in 1..=10 {
        host.infer("embed", &request).status(200);
        warm.push(held(host.pid()).memory / MEBIBYTE);
        host.until_number("embed", "sleeps", cycle);
        cold.push(held(host.pid()).memory / MEBIBYTE);
    }
    // The first wake also loads what the library keeps for good.
    let (most, least) = (cold.iter().max(), cold.iter().min());
    assert!(warm.iter().max() > most.map(|most| most + 30).as_ref(), "the model takes memory: {warm:?} {cold:?}");
    assert!(most < least.map(|least| least + 24).as_ref(), "not all was given back: {warm:?} {cold:?}");
}
