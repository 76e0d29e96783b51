//! `isolation = "process"`: whatever becomes of a model's worker process, the host goes on, and the next request is answered.

use crate::fixture::{
    Manifest, Reply, Stage, TestHost, forever, skipped_without_onnxruntime, skipped_without_openvino, until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{fs, thread};

fn sum() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

/// A call of `slow` that takes as long as it may.
fn endless() -> Value {
    rounds(1_000_000_000)
}

fn rounds(rounds: u64) -> Value {
    json!({ "inputs": [{ "name": "rounds", "shape": [1], "datatype": "INT64", "data": [rounds] }] })
}

/// A call of `hungry`.
fn zeros(size: u64) -> Value {
    json!({ "inputs": [{ "name": "size", "shape": [1], "datatype": "INT64", "data": [size] }] })
}

fn isolated(manifest: Manifest) -> Manifest {
    manifest.set("model.model.isolation", "process").set("scale.idle-timeout", forever())
}

/// The process of a function's model.
fn worker(host: &TestHost, function: &str) -> Option<u32> {
    host.status(function)["models"][0]["process"].as_u64().and_then(|pid| pid.try_into().ok())
}

#[track_caller]
fn until_worker(host: &TestHost, function: &str) -> u32 {
    until("the model has a worker", || worker(host, function))
}

/// A field of what the system says of a process; `None` once the process has ended, waited for or not.
fn says(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let find = |field: &str| status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":"));
    find("State").filter(|state| !state.trim_start().starts_with('Z'))?;
    find(field).map(|value| value.trim().to_owned())
}

/// The processes that a process has started and that run.
fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("the system has processes").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|child| says(*child, "PPid").is_some_and(|parent| parent == pid.to_string())).collect()
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, signal).expect("the worker can be signalled");
}

/// What a caller is told of a model whose worker ended: that, and nothing of how or where.
#[track_caller]
fn ended(reply: Reply, function: &str) {
    let text = reply.status(500).error();
    assert_eq!(text, format!("`{function}` failed to answer: what ran its model ended"));
}

#[track_caller]
fn adds_in_a_worker(backend: &'static str) {
    let quick =
        |manifest: Manifest| isolated(manifest).set("model.model.backend", backend).set("scale.idle-timeout", "1s");
    let host = TestHost::builder().function("add", quick).start();
    let cold = &host.status("add")["models"][0];
    assert_eq!((&cold["isolation"], &cold["process"]), (&json!("process"), &Value::Null));
    let answer = host.infer("add", &sum()).status(200).json();
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0]));
    let pid = until_worker(&host, "add");
    assert!(children(host.pid()).contains(&pid));
    let maps = fs::read_to_string(format!("/proc/{}/maps", host.pid())).expect("the host runs");
    assert!(!maps.contains("torpor-tensors"), "the host maps what a worker can change");
    host.until_state("add", "Cold");
    until("the worker has ended", || says(pid, "Pid").is_none().then_some(()));
    assert_eq!(host.status("add")["model_ends"], 0, "a sleep is no failure");
}

#[test]
fn a_model_on_onnx_runtime_has_a_worker() {
    if !skipped_without_onnxruntime() {
        adds_in_a_worker("onnxruntime");
    }
}

#[test]
fn a_model_on_openvino_has_a_worker() {
    if !skipped_without_openvino() {
        adds_in_a_worker("openvino");
    }
}

#[test]
fn a_model_on_tract_has_a_worker() {
    adds_in_a_worker("tract");
}

#[test]
fn tensorflow_lite_has_a_worker() {
    if skipped_without_openvino() {
        return;
    }
    let host = TestHost::builder().function("add-lite", isolated).start();
    let answer = host.infer("add-lite", &sum()).status(200).json();
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0]));
    until_worker(&host, "add-lite");
}

#[test]
fn a_host_whose_manifests_ask_for_no_worker_has_none() {
    let host = TestHost::builder().function("add", |manifest| manifest.set("scale.idle-timeout", forever())).start();
    host.infer("add", &sum()).status(200);
    assert!(children(host.pid()).is_empty());
    assert_eq!(host.status("add")["models"][0]["isolation"], "host");
    let threads = fs::read_dir(format!("/proc/{}/task", host.pid())).expect("the host runs").flatten();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    assert!(names.into_iter().all(|name| name.trim() != "torpor-keeper"));
}

#[test]
fn a_worker_is_shut_in() {
    let host = TestHost::builder().function("add", isolated).start();
    host.infer("add", &sum()).status(200);
    let pid = until_worker(&host, "add");
    assert_eq!(says(pid, "NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(says(pid, "Seccomp").as_deref(), Some("2"));
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).expect("it can be read");
    let known = ["", "LD_LIBRARY_PATH", "ORT_DISABLE_TELEMETRY"];
    let foreign = environment.split('\0').find(|entry| !known.contains(&entry.split('=').next().unwrap_or_default()));
    assert_eq!(foreign, None, "the host's environment is none of a worker's business");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it can be read");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux says it");
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
    // Its channel and the copy of it, and for its one lane a socket and a region; standard output and error go nowhere.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it can be read").flatten();
    let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let strange = open.iter().find(|target| {
        let target = target.to_string_lossy();
        !["socket:", "/memfd:torpor-tensors", "/dev/null"].iter().any(|known| target.starts_with(known))
    });
    assert_eq!(strange, None, "{open:?}");
}

/// Ends the worker in the middle of a run, which the operator is told in these words.
#[track_caller]
fn survives(kind: Signal, told: &str) {
    let long = |manifest: Manifest| isolated(manifest).set("limits.deadline", forever());
    let host = TestHost::builder().function("slow", long).function("add", long).start();
    host.infer("slow", &rounds(1)).status(200);
    let pid = until_worker(&host, "slow");
    thread::scope(|scope| {
        let caller = scope.spawn(|| host.infer("slow", &endless()));
        host.until_number("slow", "active", 1);
        // Rust's own handler lets one SIGSEGV pass that no access to memory caused, and is gone after it.
        until("the worker has ended", || {
            let ended = says(pid, "Pid").is_none();
            if !ended {
                signal(pid, kind);
            }
            ended.then_some(())
        });
        // Whoever does not need that worker notices nothing.
        host.infer("add", &sum()).status(200);
        ended(caller.join().expect("it is answered"), "slow");
    });
    let cause = host.status("slow")["cause"].as_str().expect("a cause").to_owned();
    assert_eq!(cause, format!("the worker process of the model `model` ended: it was killed by {told}"));
    assert!(host.stage().log().contains(&cause), "{}", host.stage().log());
    host.infer("slow", &rounds(1)).status(200);
    let status = host.status("slow");
    assert_eq!((&status["model_ends"], &status["wakes"], &status["state"]), (&json!(1), &json!(2), &json!("Warm")));
    assert_eq!(status["cause"], Value::Null);
    assert_ne!(worker(&host, "slow"), Some(pid));
    let other = host.status("add");
    assert_eq!((&other["model_ends"], &other["wakes"]), (&json!(0), &json!(1)));
    assert!(host.admin("/metrics").text().contains("torpor_model_ends_total{function=\"slow\"} 1"));
    assert!(!host.stage().log().contains("panicked"));
}

#[test]
fn a_worker_that_crashes_fails_its_own_run_only() {
    survives(Signal::SEGV, "SIGSEGV, an invalid access to memory");
}

#[test]
fn a_worker_that_aborts_fails_its_own_run_only() {
    survives(Signal::ABORT, "SIGABRT, an abort; often a limit of memory");
}

#[test]
fn a_worker_that_the_system_kills_for_memory_fails_its_own_run_only() {
    survives(Signal::KILL, "SIGKILL; by the system where memory is short, or by hand");
}

#[test]
fn a_worker_that_ends_while_nobody_calls_is_replaced_unnoticed() {
    let host = TestHost::builder().function("add", isolated).start();
    host.infer("add", &sum()).status(200);
    signal(until_worker(&host, "add"), Signal::KILL);
    until("its end is known", || worker(&host, "add").is_none().then_some(()));
    host.infer("add", &sum()).status(200);
    assert_eq!(host.status("add")["model_ends"], 1);
}

#[test]
fn a_spare_that_ends_is_replaced_unnoticed() {
    let quick = |manifest: Manifest| isolated(manifest).set("scale.idle-timeout", "10ms");
    let host = TestHost::builder().function("add", quick).start();
    for _ in 0..5 {
        children(host.pid()).into_iter().for_each(|spare| signal(spare, Signal::KILL));
        until("they have ended", || children(host.pid()).is_empty().then_some(()));
        host.infer("add", &sum()).status(200);
        host.until_state("add", "Cold");
    }
}

#[test]
fn a_model_whose_workers_keep_ending_is_left_alone_for_a_while() {
    let host = TestHost::builder().function("add", isolated).start();
    let status = until("it is given up", || {
        if host.infer("add", &sum()).status == 200
            && let Some(pid) = worker(&host, "add")
        {
            signal(pid, Signal::KILL);
            until("its end is known", || worker(&host, "add").is_none().then_some(()));
        }
        Some(host.status("add")).filter(|status| status["state"] == "Failed")
    });
    assert!(status["model_ends"].as_u64() > Some(2), "once is no reason: {status}");
    let cause = status["cause"].as_str().expect("a cause");
    assert!(cause.contains("`model`") && cause.contains("SIGKILL"), "{cause}");
    assert_eq!(host.infer("add", &sum()).status(500).error(), "`add` is not able to start");
    until("it is tried again", || (host.infer("add", &sum()).status == 200).then_some(()));
    assert_eq!(host.status("add")["cause"], Value::Null);
}

#[test]
fn a_function_that_stays_warm_gets_another_worker_by_itself() {
    let kept = |manifest: Manifest| isolated(manifest).set("scale.min", 1);
    let host = TestHost::builder().function("add", kept).start();
    let first = until_worker(&host, "add");
    signal(first, Signal::KILL);
    // The next request finds it out.
    until("its end is known", || worker(&host, "add").is_none().then_some(()));
    host.infer("add", &sum()).status(200);
    host.until_state("add", "Warm");
    assert_ne!(until_worker(&host, "add"), first);
}

#[test]
fn a_worker_that_hangs_is_killed_once_its_run_is_cancelled() {
    let host = TestHost::builder().function("slow", |manifest| isolated(manifest).set("limits.deadline", "3s")).start();
    host.infer("slow", &rounds(1)).status(200);
    let pid = until_worker(&host, "slow");
    signal(pid, Signal::STOP);
    until("all its threads stand still", || says(pid, "State").filter(|state| state.starts_with('T')).map(drop));
    host.infer("slow", &rounds(1)).status(504);
    until("the worker has ended", || says(pid, "Pid").is_none().then_some(()));
    until("its end is known", || worker(&host, "slow").is_none().then_some(()));
    host.infer("slow", &rounds(1)).status(200);
    assert!(host.stage().log().contains("did not stop when its run was cancelled"), "{}", host.stage().log());
}

#[test]
fn a_deadline_stops_a_run_and_keeps_its_worker() {
    let host = TestHost::builder().function("slow", |manifest| isolated(manifest).set("limits.deadline", "1s")).start();
    host.infer("slow", &rounds(1)).status(200);
    let pid = until_worker(&host, "slow");
    host.infer("slow", &endless()).status(504);
    host.infer("slow", &rounds(1)).status(200);
    assert_eq!(worker(&host, "slow"), Some(pid), "ONNX Runtime stops when told");
}

/// Bytes that a process has in memory.
fn resident(pid: u32) -> u64 {
    let text = says(pid, "VmRSS").expect("it runs");
    text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}

#[test]
fn a_model_that_takes_too_much_memory_is_refused_it() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = TestHost::builder()
        .function("hungry", |manifest| isolated(manifest).set("model.model.memory", "64MiB"))
        .start();
    host.infer("hungry", &zeros(1000)).status(200);
    let before = resident(host.pid());
    // A gibibyte.
    host.infer("hungry", &zeros(1 << 28)).status(500);
    assert!(resident(host.pid()) < before + (32 << 20), "the host took the model's memory");
    host.infer("hungry", &zeros(1000)).status(200);
}

/// Runs a model that needs far more than its `memory` in the middle of a run, when it has taken some of it. Whether the library gives
/// an error then, panics or ends the process is its own affair; `ends` says how many times its process ends.
#[track_caller]
fn outgrows_its_memory(backend: &'static str, ends: u64) {
    let bounded =
        |manifest: Manifest| isolated(manifest).set("model.model.backend", backend).set("model.model.memory", "64MiB");
    let numbers = |count: usize| json!({ "inputs": [{ "name": "x", "shape": [count], "datatype": "FP32", "data": vec![0; count] }] });
    let host = TestHost::builder().function("pairs", bounded).function("add", isolated).start();
    host.infer("pairs", &numbers(10)).status(200);
    host.infer("add", &sum()).status(200);
    let before = resident(host.pid());
    // A gibibyte.
    let text = host.infer("pairs", &numbers(1 << 14)).status(500).error();
    assert!(text.starts_with("`pairs` failed to answer"), "{text}");
    assert!(resident(host.pid()) < before + (32 << 20), "the host took the model's memory");
    let told = |line: &&str| line.contains(" WARN ") && line.contains("pairs") && line.contains("alloc");
    let log = host.stage().log();
    assert!(log.lines().any(|line| told(&line)), "nothing says why:\n{log}");

    let answer = host.infer("pairs", &numbers(10)).status(200).json();
    assert_eq!(answer["outputs"][0]["data"], json!([100.0]));
    host.infer("add", &sum()).status(200);
    let [pairs, add] = ["pairs", "add"].map(|name| host.status(name));
    assert_eq!((&pairs["state"], &pairs["model_ends"]), (&json!("Warm"), &json!(ends)));
    assert_eq!((&add["model_ends"], &add["wakes"], &add["state"]), (&json!(0), &json!(1), &json!("Warm")));
}

#[test]
fn a_model_on_onnx_runtime_that_outgrows_its_memory_fails_its_own_run_only() {
    if !skipped_without_onnxruntime() {
        outgrows_its_memory("onnxruntime", 0);
    }
}

#[test]
fn a_model_on_openvino_that_outgrows_its_memory_fails_its_own_run_and_is_opened_again() {
    if !skipped_without_openvino() {
        outgrows_its_memory("openvino", 1);
    }
}

#[test]
fn a_model_on_tract_that_outgrows_its_memory_fails_its_own_run_only() {
    outgrows_its_memory("tract", 0);
}

#[test]
fn a_hundred_callers_share_the_lanes_of_a_worker() {
    let two = |manifest: Manifest| {
        isolated(manifest)
            .set("model.model.parallel", 2)
            .set("scale.max-concurrency", 8)
            .set("limits.deadline", forever())
    };
    let host = TestHost::builder().function("add", two).start();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..100)
            .map(|caller| {
                let host = &host;
                scope.spawn(move || {
                    let row = |name, first: u32| {
                        json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [first, 0, 0, caller] })
                    };
                    let request = json!({ "inputs": [row("x", caller), row("y", 1)] });
                    let answer = host.infer("add", &request).status(200).json();
                    let expected = [f64::from(caller) + 1.0, 0.0, 0.0, f64::from(caller) * 2.0];
                    assert_eq!(answer["outputs"][0]["data"], json!(expected));
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().expect("it gets its own answer"));
    });
    let status = host.status("add");
    assert_eq!((&status["wakes"], &status["model_ends"]), (&json!(1), &json!(0)));
}

#[test]
fn a_host_that_is_killed_leaves_no_worker_behind() {
    let host = TestHost::builder().function("add", isolated).start();
    host.infer("add", &sum()).status(200);
    until_worker(&host, "add");
    let workers = until("a spare stands ready", || Some(children(host.pid())).filter(|workers| workers.len() == 2));
    drop(host.kill());
    for pid in workers {
        until("the worker has ended", || says(pid, "Pid").is_none().then_some(()));
    }
}

#[test]
fn a_host_that_stops_leaves_no_worker_behind() {
    let host = TestHost::builder().function("add", isolated).start();
    host.infer("add", &sum()).status(200);
    let workers = until("a spare stands ready", || Some(children(host.pid())).filter(|workers| workers.len() == 2));
    drop(host.stop());
    for pid in workers {
        until("the worker has ended", || says(pid, "Pid").is_none().then_some(()));
    }
}

#[test]
fn a_worker_that_crashes_while_the_model_opens_is_a_wake_that_failed() {
    let host = with_garbage(TestHost::builder()).start();
    host.infer("add", &sum()).status(500);
    let status = host.status("add");
    assert_eq!(
        (&status["state"], &status["wake_failures"], &status["model_ends"]),
        (&json!("Failed"), &json!(1), &json!(0))
    );
    let cause = status["cause"].as_str().expect("a cause");
    assert!(cause.contains("`model`"), "{cause}");
}

/// `add` with a model that no library can read.
fn with_garbage(stage: Stage) -> Stage {
    let (file, bundle) = (stage.path("garbage.onnx"), stage.bundle("add"));
    fs::write(&file, [0x5a; 1000]).expect("it can be written");
    let recipe = crate::fixture::Recipe::of("add");
    recipe.pack_with_model("model", &file, &bundle);
    stage.keys.sign(&bundle);
    stage.manifest(&isolated(recipe.manifest(&bundle)));
    stage
}

#[test]
fn an_isolated_model_is_optimized_in_a_worker_too() {
    if skipped_without_onnxruntime() {
        return;
    }
    let stage = TestHost::builder().function("add", isolated).start().stop();
    stage.kept("optimized", "graph.onnx");
    let host = stage.start();
    host.infer("add", &sum()).status(200);
    let tier = host.status("add")["models"][0]["tier"].clone();
    assert!(tier == "baseline" || tier == "optimized", "{tier}");
    let maps = fs::read_to_string(format!("/proc/{}/maps", until_worker(&host, "add"))).expect("it runs");
    assert!(maps.contains("onnxruntime"));
}

#[test]
fn nobody_starts_a_worker_by_hand() {
    let mut command = crate::fixture::cli::command();
    let ran = crate::fixture::cli::finish(command.args(["worker", "--backend", "tract"]));
    ran.refused(2, &["only a host starts this", "isolation = \"process\""]);
    let help = crate::fixture::cli::finish(crate::fixture::cli::command().arg("--help")).ok();
    assert!(!help.stdout.contains("worker"), "{}", help.stdout);
}
