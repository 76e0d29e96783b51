//! Where the time of calls went: what the host remembers of them, and `torpor trace`.

use crate::fixture::{Manifest, Raw, TestHost, cli, forever, until};
use serde_json::{Value, json};
use std::thread;

fn sum() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

fn lasting(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", forever())
}

#[track_caller]
fn traces(host: &TestHost, function: &str) -> Vec<Value> {
    let all = host.admin(&format!("/functions/{function}/traces")).status(200).json();
    all.as_array().expect("a list").clone()
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_call_is_told_by_its_phases_and_only_the_last_ones_are_kept() {
    let host = TestHost::builder().function("add", lasting).start();
    assert_eq!(traces(&host, "add"), [] as [Value; 0]);
    for _ in 0..12 {
        host.infer("add", &sum()).status(200);
    }
    host.infer("add", &json!({ "inputs": [] })).status(400);
    let all = traces(&host, "add");
    let numbers: Vec<_> = all.iter().map(|trace| trace["number"].as_u64().expect("a number")).collect();
    assert!(numbers.len() == 8 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    let warm = &all[3];
    assert_eq!((&warm["outcome"], &warm["wake"]), (&json!("answered"), &Value::Null));
    let phases = ["queue_ms", "instantiate_ms", "run_ms", "answer_ms"].map(|phase| number(&warm[phase]));
    assert!(phases.iter().sum::<f64>() <= number(&warm["total_ms"]) + 0.01, "{warm}");
    host.admin("/functions/nobody/traces").status(404);
}

#[test]
fn the_phases_of_a_wake_are_there_with_its_first_run() {
    let host = TestHost::builder().function("filetype", lasting).start();
    // Of shorter texts the module knows the type without its model.
    host.post("/fn/filetype", "<html><body></body></html>").status(200);
    // The call ends when its whole answer is sent, a moment after its caller has it.
    let trace = until("the call has ended", || traces(&host, "filetype").pop());
    let wake = &trace["wake"];
    for phase in ["map_ms", "link_ms", "session_ms", "total_ms", "first_run_ms"] {
        assert!(number(&wake[phase]) > 0.0, "{phase} in {trace}");
    }
    assert!(number(&wake["total_ms"]) <= number(&trace["queue_ms"]) + 0.01, "{trace}");
    assert!(number(&wake["first_run_ms"]) <= number(&trace["run_ms"]) + 0.01, "{trace}");
    let status = host.status("filetype");
    assert_eq!(status["last_wake"], *wake, "{status}");
    // Its model by its name, in the tier of that wake; a faster one may follow, which `ps` tells then.
    let model = &wake["models"][0];
    assert_eq!((&model["name"], wake["models"].as_array().map(Vec::len)), (&json!("standard"), Some(1)), "{trace}");
    assert!(number(&model["open_ms"]) > 0.0 && number(&model["open_ms"]) <= number(&wake["session_ms"]), "{trace}");
    let tiers = host.admin("/metrics").text();
    let tier = model["tier"].as_str().expect("a tier");
    let counted = format!("torpor_model_opens_total{{function=\"filetype\",tier=\"{tier}\"}} 1");
    assert!(tiers.contains(&counted), "`{counted}` is not in:\n{tiers}");
}

#[test]
fn a_call_that_is_sent_away_leaves_a_trace_too() {
    let one = |manifest: Manifest| {
        lasting(manifest).set("scale.max-concurrency", 1).set("scale.queue", 0).set("limits.deadline", forever())
    };
    let host = TestHost::builder().function("probe", one).start();
    let mut running = Raw::connect(host.data);
    running.send("GET /fn/probe/stream?chunks=2&delay=600000 HTTP/1.1\r\nhost: x\r\n\r\n").until("chunk 0");
    host.post("/fn/probe/echo", "x").status(503);
    let trace = traces(&host, "probe").pop().expect("a trace");
    assert_eq!((&trace["outcome"], &trace["run_ms"]), (&json!("shed"), &Value::Null));
}

#[test]
fn the_command_draws_the_last_call_or_waits_for_the_next() {
    let host = TestHost::builder().function("add", lasting).start();
    let admin = host.admin.to_string();
    let run = |flags: &[&str]| cli::run(["trace", "add", "--admin", &admin].iter().chain(flags));
    run(&[]).refused(1, &["nobody has called `add`", "--next"]);
    cli::run(["trace", "nobody", "--admin", &admin]).refused(1, &["`nobody`", "torpor ps"]);
    host.infer("add", &sum()).status(200);
    let drawn = run(&[]).ok().stdout;
    assert!(drawn.starts_with("add: call 1, for which it woke: answered after "), "{drawn}");
    let tier = traces(&host, "add")[0]["wake"]["models"][0]["tier"].as_str().expect("a tier").to_owned();
    let model = format!("      model ({tier})");
    for phase in ["queue", "  wake", "    map", "    link", "    session", &model, "instantiate", "run", "answer"] {
        let line = drawn.lines().find(|line| line.starts_with(phase));
        assert!(line.is_some_and(|line| line.contains(" ms ") && line.contains('█')), "{phase} in {drawn}");
    }
    thread::scope(|scope| {
        let next = scope.spawn(|| run(&["--next", "--json"]).ok().json());
        // It may begin to wait only after some of these calls; then it waits for another one.
        while !next.is_finished() {
            host.infer("add", &sum()).status(200);
        }
        let next = next.join().expect("it ends");
        assert!(next["number"].as_u64() > Some(1) && next["wake"].is_null(), "{next}");
    });
}
