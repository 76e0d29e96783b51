//! What the Open Inference Protocol tells of models besides their answers: statistics, configuration, the repository, and the settings
//! of traces and of the log.

use crate::fixture::{Reply, TestHost, forever};
use http::Method;
use serde_json::{Value, json};

fn sum() -> Value {
    let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

#[track_caller]
fn refused(reply: &Reply, status: u16, words: &[&str]) {
    assert_eq!(reply.status, status, "{}", reply.text());
    for word in words {
        assert!(reply.error().contains(word), "`{word}` is missing in: {}", reply.error());
    }
}

/// The entry of the only model in statistics.
#[track_caller]
fn stats(host: &TestHost, path: &str) -> Value {
    let mut all = host.get(path).status(200).json();
    assert_eq!(all["model_stats"].as_array().map(Vec::len), Some(1), "{all}");
    all["model_stats"][0].take()
}

#[test]
fn statistics_count_what_was_answered() {
    let host = TestHost::builder().function("add", |manifest| manifest.set("scale.idle-timeout", forever())).start();
    let before = stats(&host, "/v2/models/add/stats");
    assert_eq!(
        (&before["name"], &before["version"], &before["last_inference"]),
        (&json!("add"), &json!("1"), &json!(0))
    );
    assert_eq!((&before["inference_count"], &before["execution_count"]), (&json!(0), &json!(0)));
    for _ in 0..3 {
        host.infer("add", &sum()).status(200);
    }
    let mut wrong = sum();
    wrong["inputs"][0]["datatype"] = "FP64".into();
    host.infer("add", &wrong).status(400);
    for path in ["/v2/models/add/stats", "/v2/models/add/versions/1/stats", "/v2/models/stats"] {
        let after = stats(&host, path);
        assert_eq!((&after["inference_count"], &after["execution_count"]), (&json!(3), &json!(3)), "{after}");
        assert!(after["last_inference"].as_u64() > Some(1_600_000_000_000), "{after}");
        let times = &after["inference_stats"];
        for (kind, count) in [
            ("success", 3),
            ("fail", 1),
            ("queue", 3),
            ("compute_input", 3),
            ("compute_infer", 3),
            ("compute_output", 3),
            ("cache_hit", 0),
            ("cache_miss", 0),
        ] {
            assert_eq!(times[kind]["count"], count, "{kind}: {times}");
            assert_eq!(times[kind]["ns"].as_u64() > Some(0), count > 0, "{kind}: {times}");
        }
        let parts = ["queue", "compute_input", "compute_infer", "compute_output"];
        let parts: u64 = parts.iter().filter_map(|kind| times[kind]["ns"].as_u64()).sum();
        assert!(Some(parts) <= times["success"]["ns"].as_u64(), "{times}");
        assert_eq!((&after["batch_stats"], &after["memory_usage"]), (&json!([]), &json!([])));
    }
    refused(&host.get("/v2/models/nobody/stats"), 404, &["`nobody`"]);
}

#[test]
fn statistics_know_the_cache_and_batches() {
    let batch = toml::Table::from_iter([("max-size".to_owned(), 8.into())]);
    let host = TestHost::builder()
        .function("add", |manifest| manifest.set("model.model.cache.ttl", "1h").set("model.model.batch", batch))
        .start();
    for _ in 0..2 {
        host.infer("add", &sum()).status(200);
    }
    let stats = stats(&host, "/v2/models/add/stats");
    let times = &stats["inference_stats"];
    assert_eq!((&times["cache_hit"]["count"], &times["cache_miss"]["count"]), (&json!(1), &json!(1)), "{times}");
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(2), &json!(1)), "{stats}");
}

#[test]
fn the_configuration_is_what_triton_would_have() {
    let batch = toml::Table::from_iter([("max-size".to_owned(), 8.into())]);
    let host = TestHost::builder()
        .function("add", |manifest| manifest.set("model.model.batch", batch))
        .another("plain", "add", |manifest| manifest)
        .start();
    let config = host.get("/v2/models/add/config").status(200).json();
    assert_eq!(
        (&config["name"], &config["max_batch_size"], &config["backend"]),
        (&json!("add"), &json!(8), &json!("torpor"))
    );
    let input =
        json!({ "name": "x", "data_type": "TYPE_FP32", "format": "FORMAT_NONE", "dims": [4], "optional": false });
    assert_eq!(config["input"][0], input);
    assert_eq!(config["output"], json!([{ "name": "z", "data_type": "TYPE_FP32", "dims": [4] }]));
    let config = host.get("/v2/models/plain/versions/1/config").status(200).json();
    assert_eq!((&config["max_batch_size"], &config["input"][0]["dims"]), (&json!(0), &json!([-1, 4])));
}

#[test]
fn callers_load_and_unload_where_the_operator_lets_them() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest.set("scale.idle-timeout", "10ms"))
        .another("other", "add", |manifest| manifest)
        .flag("--model-control")
        .start();
    let extensions = host.get("/v2").status(200).json()["extensions"].take();
    assert!(extensions.as_array().is_some_and(|all| all.contains(&json!("model_repository"))), "{extensions}");
    let index = |filter: &str| host.post("/v2/repository/index", filter).status(200).json();
    let entry = |name: &str, state: &str, reason: &str| json!({ "name": name, "version": "1", "state": state, "reason": reason });
    assert_eq!(index(""), json!([entry("add", "READY", ""), entry("other", "READY", "")]));

    // It stays, whatever its manifest says of idle functions.
    host.post("/v2/repository/models/add/load", "{}").status(200);
    assert_eq!(host.status("add")["state"], "Warm");
    host.infer("add", &sum()).status(200);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!((&host.status("add")["state"], &host.status("add")["sleeps"]), (&json!("Warm"), &json!(0)));
    // Loading what is loaded changes nothing.
    host.post("/v2/repository/models/add/load", "").status(200);

    host.post("/v2/repository/models/add/unload", r#"{"parameters":{"unload_dependents":false}}"#).status(200);
    assert_eq!(host.status("add")["state"], "Cold");
    assert_eq!(host.get("/v2/models/add/ready").status(400).json()["ready"], false);
    refused(&host.infer("add", &sum()), 400, &["`add` is unloaded"]);
    assert_eq!(host.status("add")["state"], "Cold");
    assert_eq!(index("{}"), json!([entry("add", "UNAVAILABLE", "unloaded"), entry("other", "READY", "")]));
    assert_eq!(index(r#"{"ready":true}"#), json!([entry("other", "READY", "")]));
    assert_eq!(index(r#"{"ready":false}"#), json!([entry("add", "UNAVAILABLE", "unloaded")]));
    host.post("/v2/repository/models/add/unload", "").status(200);
    host.infer("other", &sum()).status(200);

    host.post("/v2/repository/models/add/load", "").status(200);
    host.get("/v2/models/add/ready").status(200);
    host.infer("add", &sum()).status(200);
    assert_eq!(host.status("add")["wakes"], 2);

    refused(&host.post("/v2/repository/models/nobody/load", "{}"), 404, &["`nobody`"]);
    refused(&host.post("/v2/repository/models/nobody/unload", "{}"), 404, &["`nobody`"]);
    let config = r#"{"parameters":{"config":"{}"}}"#;
    refused(&host.post("/v2/repository/models/add/load", config), 400, &["`config`", "signed"]);
    for body in ["[", "7", r#"{"parameters":7}"#, &"[".repeat(60_000), &" ".repeat(70_000)] {
        refused(&host.post("/v2/repository/models/add/load", body), 400, &["body"]);
    }
    refused(&host.post("/v2/repository/index", r#"{"ready":"yes"}"#), 400, &["body"]);
}

#[test]
fn what_cannot_be_loaded_says_so_without_details() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest.set("scale.idle-timeout", forever()))
        .another("broken", "add", |manifest| manifest.set("bundle", "/no/such/bundle.torpor"))
        .flag("--model-control")
        .start();
    let index = host.post("/v2/repository/index", "").status(200).json();
    let broken =
        json!({ "name": "broken", "version": "", "state": "UNAVAILABLE", "reason": "it could not be deployed" });
    assert_eq!(index[1], broken);
    // Its model's file goes while it is at zero.
    for blob in host.stage().kept("blobs", "") {
        std::fs::write(&blob, "damaged").expect("it can be written");
    }
    let reply = host.post("/v2/repository/models/add/load", "");
    refused(&reply, 400, &["failed to load `add`"]);
    assert!(!reply.text().contains('/'), "{}", reply.text());
    assert_eq!(host.post("/v2/repository/index", "").json()[0]["reason"], "it did not start");
}

#[test]
fn without_the_flag_nobody_loads_or_unloads() {
    let host = TestHost::builder().function("add", |manifest| manifest).start();
    for path in ["load", "unload"] {
        let reply = host.post(&format!("/v2/repository/models/add/{path}"), "{}");
        refused(&reply, 403, &["--model-control"]);
    }
    assert_eq!(host.post("/v2/repository/index", "").status(200).json()[0]["state"], "READY");
    host.infer("add", &sum()).status(200);
    for (path, method, allowed) in [
        ("/v2/repository/index", Method::GET, "POST"),
        ("/v2/repository/models/add/load", Method::GET, "POST"),
        ("/v2/models/stats", Method::POST, "GET, HEAD"),
        ("/v2/models/add/config", Method::POST, "GET, HEAD"),
        ("/v2/logging", Method::DELETE, "GET, HEAD, POST"),
        ("/v2/trace/setting", Method::PUT, "GET, HEAD, POST"),
    ] {
        let reply = host.call(method, path, "");
        refused(&reply, 405, &[allowed]);
        assert_eq!(reply.header("allow"), allowed);
    }
}

#[test]
fn settings_can_be_read_and_not_changed() {
    let host = TestHost::builder().function("add", |manifest| manifest).flag("--log=warn").start();
    let logging = host.get("/v2/logging").status(200).json();
    assert_eq!(
        (&logging["log_info"], &logging["log_warning"], &logging["log_verbose_level"]),
        (&json!(false), &json!(true), &json!(0))
    );
    for path in ["/v2/trace/setting", "/v2/models/add/trace/setting"] {
        let trace = host.get(path).status(200).json();
        assert_eq!((&trace["trace_level"], &trace["trace_rate"]), (&json!(["TIMESTAMPS"]), &json!("1")));
        assert_eq!(host.post(path, r#"{"trace_rate":"1","trace_count":null}"#).status(200).json(), trace);
        refused(&host.post(path, r#"{"trace_level":["OFF"]}"#), 400, &["`trace_level`"]);
        refused(&host.post(path, r#"{"x":1}"#), 400, &["`x`"]);
    }
    assert_eq!(host.post("/v2/logging", "{}").status(200).json(), logging);
    refused(&host.post("/v2/logging", r#"{"log_verbose_level":1}"#), 400, &["`log_verbose_level`", "--log"]);
    refused(&host.get("/v2/models/nobody/trace/setting"), 404, &["`nobody`"]);
}

#[test]
fn the_functions_are_described_as_openapi() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest)
        .function("filetype", |manifest| manifest)
        .another("own", "probe", |manifest| manifest.without("trigger").set("trigger.http.path", "/fn/own/*"))
        .start();
    let reply = host.get("/openapi.json").status(200);
    assert_eq!(reply.header("content-type"), "application/json");
    let document = reply.json();
    assert_eq!(document["openapi"], "3.1.0");
    let infer = &document["paths"]["/v2/models/add/infer"]["post"];
    let schema = infer["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str().expect("a reference");
    let request = document.pointer(schema.trim_start_matches('#')).expect("the reference leads somewhere");
    let x = &request["properties"]["inputs"]["items"]["oneOf"][0]["properties"];
    assert_eq!((&x["name"]["const"], &x["datatype"]["const"]), (&json!("x"), &json!("FP32")));
    assert_eq!(x["shape"]["prefixItems"], json!([{ "type": "integer", "minimum": 0 }, { "const": 4 }]));
    assert!(document["paths"]["/fn/own/{rest}"]["get"].is_object() && document["paths"]["/fn/filetype"].is_object());
    refused(&host.post("/openapi.json", "{}"), 405, &["GET, HEAD"]);
    // Where a function has the path it is the function's.
    let host =
        TestHost::builder().function("filetype", |manifest| manifest.set("trigger.http.path", "/openapi.json")).start();
    assert_eq!(host.get("/openapi.json").status, 405);
}
