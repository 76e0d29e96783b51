//! `/metrics`: that it is OpenMetrics, that it counts what happened, and that no caller can write into it.

use crate::fixture::{Raw, TestHost, cli, forever, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// All samples, by name and labels as they stand, from a text that must be OpenMetrics.
#[track_caller]
fn samples(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with `# EOF`");
    let (mut types, mut samples, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for line in body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => assert!(types.insert(name, kind).is_none(), "twice: {line}"),
            ["#", "HELP", name, _] => assert!(helped.insert(name), "twice: {line}"),
            ["#", "UNIT", name, unit] => assert!(name.ends_with(&format!("_{unit}")), "{line}"),
            ["#", ..] => panic!("not OpenMetrics: {line}"),
            _ => {
                let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not OpenMetrics: {line}"));
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(samples.insert(sample.to_owned(), value).is_none(), "twice: {line}");
            }
        }
    }
    for sample in samples.keys() {
        let name = sample.split('{').next().unwrap_or_default();
        let suffixes = |kind: &str| match kind {
            "counter" => vec!["_total"],
            "histogram" => vec!["_bucket", "_sum", "_count"],
            "gauge" => vec![""],
            other => panic!("a type that nobody uses: {other}"),
        };
        let mut families =
            types.iter().flat_map(|(family, kind)| suffixes(kind).into_iter().map(move |end| format!("{family}{end}")));
        assert!(families.any(|family| family == name), "no type for {sample}");
        assert!(name.starts_with("torpor_"), "{sample}");
    }
    assert!(types.keys().all(|name| helped.contains(name)), "a metric without help");
    samples
}

#[track_caller]
fn metrics(host: &TestHost) -> BTreeMap<String, f64> {
    let reply = host.admin("/metrics").status(200);
    assert!(
        reply.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"),
        "{:?}",
        reply.headers
    );
    samples(&reply.text())
}

/// The sample `name` of the function `add`, whatever the order of its other labels.
#[track_caller]
fn value(samples: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let fits = |sample: &str| {
        let Some((found, rest)) = sample.split_once('{') else { return false };
        let found_labels: BTreeSet<_> = rest.trim_end_matches('}').split(',').collect();
        found == name && found_labels == labels.iter().copied().chain([r#"function="add""#]).collect()
    };
    let mut fitting = samples.iter().filter(|(sample, _)| fits(sample)).map(|(_, value)| *value);
    fitting.next().unwrap_or_else(|| panic!("there is no {name} {labels:?}"))
}

fn request(name: &str) -> Value {
    let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row(name)], "id": "callers-id" })
}

#[test]
fn they_count_what_happened() {
    let host = TestHost::builder().function("add", |manifest| manifest.set("scale.idle-timeout", "10ms")).start();
    let names = |samples: &BTreeMap<String, f64>| samples.keys().any(|sample| sample.contains("function="));
    assert!(!names(&metrics(&host)), "a function that nobody called has no samples");
    let outcome = |samples: &BTreeMap<String, f64>, outcome: &str| {
        value(samples, "torpor_requests_total", &[&format!("outcome=\"{outcome}\"")])
    };

    for _ in 0..3 {
        host.infer("add", &request("y")).status(200);
        host.until_state("add", "Cold");
    }
    host.infer("add", &request("w")).status(400);
    host.until_number("add", "sleeps", 3);

    let after = metrics(&host);
    assert_eq!((outcome(&after, "answered"), outcome(&after, "refused")), (3.0, 1.0));
    for none in ["shed", "overloaded", "late", "abandoned", "failed"] {
        assert_eq!(outcome(&after, none), 0.0, "{none}");
    }
    assert_eq!(value(&after, "torpor_wakes_total", &[]), 3.0);
    for (cause, count) in [("idle", 3.0), ("budget", 0.0), ("retired", 0.0)] {
        assert_eq!(value(&after, "torpor_sleeps_total", &[&format!("cause=\"{cause}\"")]), count, "{cause}");
    }
    let opens = ["original", "baseline", "optimized"]
        .map(|tier| value(&after, "torpor_model_opens_total", &[&format!("tier=\"{tier}\"")]));
    // In which tier depends on the library; so small a model is never upgraded within one call.
    assert_eq!(opens.iter().sum::<f64>(), 3.0, "{opens:?}");
    assert_eq!(value(&after, "torpor_wake_failures_total", &[]), 0.0);
    assert_eq!(value(&after, "torpor_warm_functions", &[]), 0.0);
    assert_eq!(value(&after, "torpor_active_requests", &[]), 0.0);
    assert_eq!(value(&after, "torpor_queued_requests", &[]), 0.0);
    assert_eq!(value(&after, "torpor_request_seconds_count", &[]), 4.0);
    for phase in ["map", "link", "session", "total", "first-run"] {
        assert_eq!(after[&format!("torpor_wake_seconds_count{{phase=\"{phase}\"}}")], 3.0, "{phase}");
    }
    assert!(after["torpor_wake_seconds_sum{phase=\"total\"}"] > 0.0);
    assert_eq!(after["torpor_functions_awaiting_memory"], 0.0);
    assert!(!after.contains_key("torpor_memory_budget_bytes"), "there is none unless the operator sets one");
}

#[test]
fn a_function_that_is_undeployed_leaves_no_series() {
    let host = TestHost::builder().function("add", |manifest| manifest).function("probe", |manifest| manifest).start();
    host.infer("add", &request("y")).status(200);
    assert_eq!(value(&metrics(&host), "torpor_wakes_total", &[]), 1.0);
    // A function without a call has none either.
    host.post("/fn/probe/echo", "x").status(200);
    let of = |name: &str| metrics(&host).keys().filter(|sample| sample.contains(&format!("\"{name}\""))).count();
    let manifest = host.stage().path("manifests/add.toml");
    let tell = |command: &str, what: &std::ffi::OsStr| {
        cli::finish(cli::command().arg(command).arg(what).arg("--admin").arg(host.admin.to_string())).ok();
    };
    tell("undeploy", "add".as_ref());
    // Not before its requests have ended and it sleeps.
    until("nothing is left of it", || (of("add") == 0).then_some(()));
    assert!(of("probe") > 0);
    tell("deploy", manifest.as_ref());
    host.infer("add", &request("y")).status(200);
    let again = metrics(&host);
    assert_eq!(value(&again, "torpor_wakes_total", &[]), 1.0, "it counts from the beginning");
}

#[test]
fn buckets_add_up() {
    let host = TestHost::builder().function("add", |manifest| manifest).start();
    for _ in 0..5 {
        host.infer("add", &request("y")).status(200);
    }
    let samples = metrics(&host);
    let mut buckets: Vec<(f64, f64)> = samples
        .iter()
        .filter(|(sample, _)| sample.starts_with("torpor_request_seconds_bucket{"))
        .map(|(sample, count)| {
            let bound = sample.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a bound");
            (bound.replace("+Inf", "inf").parse().expect("a number"), *count)
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(buckets.len() > 5 && buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 5.0)));
}

#[test]
fn they_show_what_runs_now() {
    let host = TestHost::builder()
        .another("add", "probe", |manifest| manifest.set("limits.deadline", forever()).set("scale.max-concurrency", 1))
        .start();
    let held = "GET /fn/add/stream?chunks=2&delay=600000 HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = Raw::connect(host.data);
    first.send(held).until("chunk 0");
    let mut second = Raw::connect(host.data);
    second.send(held);
    host.until_number("add", "queued", 1);
    let now = metrics(&host);
    assert_eq!(value(&now, "torpor_active_requests", &[]), 1.0);
    assert_eq!(value(&now, "torpor_queued_requests", &[]), 1.0);
    assert_eq!(value(&now, "torpor_warm_functions", &[]), 1.0);
    assert_eq!(now["torpor_connections"], 2.0);
    // Whoever waits goes first, so that it never gets to run.
    drop(second);
    host.until_number("add", "queued", 0);
    drop(first);
    let abandoned = || value(&metrics(&host), "torpor_requests_total", &["outcome=\"abandoned\""]);
    until("both are counted as abandoned", || (abandoned() == 2.0).then_some(()));
    let after = metrics(&host);
    assert_eq!(value(&after, "torpor_active_requests", &[]), 0.0);
    assert_eq!(value(&after, "torpor_queued_requests", &[]), 0.0);
}

#[test]
fn no_caller_can_write_into_them() {
    let host = TestHost::builder().function("add", |manifest| manifest).start();
    let names = |samples: BTreeMap<String, f64>| samples.into_keys().collect::<Vec<_>>();
    host.infer("add", &request("y")).status(200);
    let before = names(metrics(&host));
    host.infer("callers-model", &request("y")).status(404);
    host.infer("add", &request("callers-input")).status(400);
    host.infer("add", &request("y")).status(200);
    host.get("/callers/path?callers=query").status(404);
    host.post("/v2/models/add/versions/callers-version/infer", "{}").status(404);
    host.call("CALLERS".parse().expect("a method"), "/v2", "").status(405);
    assert_eq!(names(metrics(&host)), before);
}
