//! The Open Inference Protocol over REST: what it answers, and how it refuses. Nothing that a caller sends gets a 5xx.

use crate::fixture::{Reply, TestHost, skipped_without_onnxruntime};
use http::Method;
use serde_json::{Value, json};

/// A host with the function `add`, which takes `x` and `y` of shape [n, 4] and gives `z`.
fn add() -> TestHost {
    TestHost::builder().function("add", |manifest| manifest.set("limits.body", "4KiB")).start()
}

fn row(name: &str, data: Value) -> Value {
    json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": data })
}

/// A right request.
fn sum() -> Value {
    json!({ "inputs": [row("x", json!([1, 2, 3, 4])), row("y", json!([0.5, 0, -1, 1e3]))] })
}

/// What `edit` makes of a right request is refused with 400, and the text has all of `words`.
#[track_caller]
fn refused(edit: impl FnOnce(&mut Value), words: &[&str]) {
    let mut request = sum();
    edit(&mut request);
    let host = add();
    check(&host.infer("add", &request), 400, words);
    // Whatever it was, the next caller is served.
    host.infer("add", &sum()).status(200);
}

#[track_caller]
fn check(reply: &Reply, status: u16, words: &[&str]) {
    assert_eq!(reply.status, status, "{}", reply.text());
    let error = reply.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
    assert!(!error.contains(" /") && !error.contains("`/"), "a path in: {error}");
}

#[test]
fn the_host_is_live_and_ready() {
    let host = add();
    assert_eq!(host.get("/v2/health/live").status(200).json(), json!({ "live": true }));
    assert_eq!(host.get("/v2/health/ready").status(200).json(), json!({ "ready": true }));
    let server = host.get("/v2").status(200).json();
    assert_eq!(server["name"], "torpor");
    let extensions = json!(["binary_tensor_data", "classification", "model_configuration", "statistics"]);
    assert_eq!(server["extensions"], extensions);
    for path in ["/livez", "/readyz"] {
        host.admin(path).status(200);
    }
}

#[test]
fn a_model_says_what_it_takes_and_gives_without_waking() {
    let host = add();
    for path in ["/v2/models/add", "/v2/models/add/versions/0.1.0"] {
        let expected = json!({
            "name": "add", "versions": ["1"], "platform": "torpor_wasm",
            "inputs": [
                { "name": "x", "datatype": "FP32", "shape": [-1, 4] },
                { "name": "y", "datatype": "FP32", "shape": [-1, 4] },
            ],
            "outputs": [{ "name": "z", "datatype": "FP32", "shape": [-1, 4] }],
        });
        assert_eq!(host.get(path).status(200).json(), expected);
    }
    for path in ["/v2/models/add/ready", "/v2/models/add/versions/0.1.0/ready"] {
        assert_eq!(host.get(path).status(200).json(), json!({ "name": "add", "ready": true }));
    }
    assert_eq!(host.status("add")["state"], "Cold");
}

#[test]
fn an_inference_is_answered_in_the_protocols_form() {
    let host = add();
    let mut request = sum();
    request["id"] = "the caller's id".into();
    for path in ["/v2/models/add/infer", "/v2/models/add/versions/0.1.0/infer"] {
        let reply = host.post(path, request.to_string()).status(200);
        assert_eq!(reply.header("content-type"), "application/json");
        let expected = json!({
            "model_name": "add", "model_version": "1", "id": "the caller's id",
            "outputs": [{ "name": "z", "datatype": "FP32", "shape": [1, 4], "data": [1.5, 2.0, 2.0, 1004.0] }],
        });
        assert_eq!(reply.json(), expected);
    }
    assert_eq!(host.infer("add", &sum()).status(200).json().get("id"), None);
}

#[test]
fn data_may_be_flat_or_nested() {
    let host = add();
    let tensor = |name, data| json!({ "name": name, "shape": [2, 4], "datatype": "FP32", "data": data });
    let flat = json!([1, 2, 3, 4, 5, 6, 7, 8]);
    let nested = json!([[1, 2, 3, 4], [5, 6, 7, 8]]);
    for (x, y) in [(&flat, &nested), (&nested, &flat), (&nested, &nested)] {
        let reply = host.infer("add", &json!({ "inputs": [tensor("x", x), tensor("y", y)] })).status(200).json();
        assert_eq!(reply["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0]));
        assert_eq!(reply["outputs"][0]["shape"], json!([2, 4]));
    }
}

#[test]
fn no_rows_are_an_answer_too() {
    let tensor = |name| json!({ "name": name, "shape": [0, 4], "datatype": "FP32", "data": [] });
    let reply = add().infer("add", &json!({ "inputs": [tensor("x"), tensor("y")] })).status(200).json();
    assert_eq!(reply["outputs"][0], json!({ "name": "z", "datatype": "FP32", "shape": [0, 4], "data": [] }));
}

#[test]
fn a_caller_gets_the_outputs_it_asks_for_in_their_order() {
    let host = TestHost::builder().function("filetype", |manifest| manifest).start();
    let infer = |outputs: &[&str]| {
        let outputs: Vec<_> = outputs.iter().map(|name| json!({ "name": name })).collect();
        let content = json!({ "name": "content", "shape": [1], "datatype": "BYTES", "data": ["{}"] });
        let reply = host.infer("filetype", &json!({ "inputs": [content], "outputs": outputs })).status(200).json();
        let names = reply["outputs"].as_array().expect("outputs").iter().map(|output| output["name"].clone());
        Value::Array(names.collect())
    };
    assert_eq!(infer(&["score", "label"]), json!(["score", "label"]));
    assert_eq!(infer(&["label", "mime_type", "score"]), json!(["label", "mime_type", "score"]));
    assert_eq!(infer(&["mime_type"]), json!(["mime_type"]));
}

/// One element or more of every type, and how they come back.
#[rustfmt::skip]
fn every_type() -> Vec<(&'static str, Value)> {
    vec![
        ("bool", json!([true, false])),
        ("uint8", json!([0, 255])),
        ("uint16", json!([0, 65535])),
        ("uint32", json!([0, 4_294_967_295_u32])),
        ("uint64", json!([0, u64::MAX])),
        ("int8", json!([-128, 127])),
        ("int16", json!([-32768, 32767])),
        ("int32", json!([i32::MIN, i32::MAX])),
        ("int64", json!([i64::MIN, i64::MAX])),
        ("fp16", json!([0.5, -65504.0])),
        ("bf16", json!([0.5, -1.0])),
        ("fp32", json!([0.1, -1e30])),
        ("fp64", json!([0.1, -1e300])),
        ("bytes", json!(["", "köt\u{1F600}\u{0}\n\""])),
    ]
}

fn tensors() -> Vec<Value> {
    let tensor = |(name, data): &(&str, Value)| json!({ "name": name, "shape": [2], "datatype": name.to_uppercase(), "data": data });
    every_type().iter().map(tensor).collect()
}

#[track_caller]
fn same_tensors(reply: &Value, suffix: &str) {
    for (name, data) in every_type() {
        let outputs = reply["outputs"].as_array().expect("outputs");
        let output = outputs.iter().find(|output| output["name"] == format!("{name}{suffix}")).expect("every output");
        assert_eq!(output["datatype"], name.to_uppercase());
        assert_eq!(output["shape"], json!([2]));
        assert_eq!(output["data"], data, "{name}");
    }
}

#[test]
fn every_datatype_goes_through_a_guest_and_back() {
    let host = TestHost::builder().function("probe-types", |manifest| manifest).start();
    for command in ["echo", "pass"] {
        let mut inputs = tensors();
        inputs.push(json!({ "name": "command", "shape": [1], "datatype": "BYTES", "data": [command] }));
        same_tensors(&host.infer("probe-types", &json!({ "inputs": inputs })).status(200).json(), "");
    }
}

#[test]
fn every_datatype_goes_through_a_native_model_and_back() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = TestHost::builder().function("types", |manifest| manifest).start();
    same_tensors(&host.infer("types", &json!({ "inputs": tensors() })).status(200).json(), "_out");
}

#[test]
fn an_unknown_model_is_not_found() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest)
        .another("web", "probe", |manifest| manifest.without("trigger").set("trigger.http.path", "/fn/web"))
        .start();
    for model in ["nobody", "web", "add%2Fx", "%20", "ADD"] {
        for path in ["", "/ready", "/versions/0.1.0"] {
            check(&host.get(&format!("/v2/models/{model}{path}")), 404, &["there is no model"]);
        }
        check(&host.infer(model, &sum()), 404, &["there is no model"]);
    }
    for path in ["", "/ready"] {
        check(&host.get(&format!("/v2/models/add/versions/9{path}")), 404, &["`add` has no version `9`", "0.1.0"]);
    }
    check(&host.post("/v2/models/add/versions/9/infer", sum().to_string()), 404, &["`9`"]);
    for path in ["/v2/", "/v2/models", "/v2/models/", "/v2/models/add/explain", "/v3/models/add", "/fn", "/metrics"] {
        check(&host.get(path), 404, &["no function has this path"]);
    }
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    let host = add();
    for (path, method, allowed) in [
        ("/v2/models/add/infer", Method::GET, "POST"),
        ("/v2/models/add/infer", Method::DELETE, "POST"),
        ("/v2/models/add", Method::POST, "GET, HEAD"),
        ("/v2/models/add/ready", Method::PUT, "GET, HEAD"),
        ("/v2/health/live", Method::POST, "GET, HEAD"),
        ("/v2", Method::from_bytes(b"BREW").expect("a method"), "GET, HEAD"),
    ] {
        let reply = host.call(method.clone(), path, "{}");
        check(&reply, 405, &[method.as_str(), allowed]);
        assert_eq!(reply.header("allow"), allowed);
    }
}

#[test]
fn a_wrong_datatype_is_named() {
    refused(|request| request["inputs"][1]["datatype"] = "FP64".into(), &["`y`", "FP32", "FP64"]);
}

#[test]
fn an_unknown_datatype_is_named() {
    refused(|request| request["inputs"][1]["datatype"] = "FLOAT".into(), &["`y`", "`FLOAT`", "FP32", "BYTES"]);
}

#[test]
fn a_wrong_shape_is_named() {
    refused(
        |request| {
            request["inputs"][0]["shape"] = json!([2, 2]);
        },
        &["`x`", "[2, 2]", "4"],
    );
}

#[test]
fn a_wrong_rank_is_named() {
    refused(|request| request["inputs"][0]["shape"] = json!([4]), &["`x`", "[4]"]);
}

#[test]
fn shapes_that_do_not_fit_each_other_are_the_callers_fault() {
    // Each is right by itself; only the model knows that they do not fit.
    refused(
        |request| {
            let rows = |rows: usize| vec![1.0; rows * 4];
            request["inputs"] = json!([
                { "name": "x", "shape": [2, 4], "datatype": "FP32", "data": rows(2) },
                { "name": "y", "shape": [3, 4], "datatype": "FP32", "data": rows(3) },
            ]);
        },
        &[],
    );
}

#[test]
fn a_missing_input_is_named() {
    refused(|request| drop(request["inputs"].as_array_mut().expect("inputs").pop()), &["`y`"]);
}

#[test]
fn no_inputs_are_named() {
    refused(|request| request["inputs"] = json!([]), &["`x`"]);
}

#[test]
fn an_input_that_comes_twice_is_named() {
    refused(|request| request["inputs"][1]["name"] = "x".into(), &["`x`"]);
}

#[test]
fn an_unknown_input_is_named() {
    let extra = row("extra", json!([1, 2, 3, 4]));
    refused(|request| request["inputs"].as_array_mut().expect("inputs").push(extra), &["`extra`"]);
}

#[test]
fn an_unknown_output_is_named() {
    refused(|request| request["outputs"] = json!([{ "name": "w" }]), &["`w`", "`z`"]);
}

#[test]
fn an_output_that_is_asked_for_twice_is_named() {
    refused(|request| request["outputs"] = json!([{ "name": "z" }, { "name": "z" }]), &["`z`"]);
}

#[test]
fn too_few_elements_are_told() {
    refused(|request| request["inputs"][0]["data"] = json!([1, 2, 3]), &["`x`", "4 elements", "3"]);
}

#[test]
fn too_many_elements_are_told() {
    refused(|request| request["inputs"][0]["data"] = json!([1, 2, 3, 4, 5]), &["`x`", "4 elements"]);
}

#[test]
fn a_wrong_element_is_named() {
    refused(|request| request["inputs"][0]["data"] = json!([1, 2, "3", 4]), &["`x`", "element 2", "FP32"]);
}

#[test]
fn a_ragged_row_is_named() {
    refused(|request| request["inputs"][0]["data"] = json!([[1, 2, 3]]), &["`x`", "4 elements"]);
}

#[test]
fn missing_data_is_told() {
    refused(|request| drop(request["inputs"][0].as_object_mut().expect("an input").remove("data")), &["`x`", "data"]);
}

#[test]
fn data_that_is_no_array_is_told() {
    refused(|request| request["inputs"][0]["data"] = json!({ "0": 1 }), &["`x`", "array"]);
}

#[test]
fn a_negative_size_is_refused() {
    refused(|request| request["inputs"][0]["shape"] = json!([-1, 4]), &["`x`", "shape", "negative"]);
}

#[test]
fn a_size_beyond_everything_is_refused() {
    refused(|request| request["inputs"][0]["shape"] = json!([u64::MAX, u64::MAX]), &["`x`"]);
    refused(|request| request["inputs"][0]["shape"] = json!([1_u64 << 62, 4]), &["`x`"]);
}

#[test]
fn too_many_dimensions_are_refused() {
    refused(|request| request["inputs"][0]["shape"] = json!(vec![1; 100]), &["`x`", "dimensions"]);
}

#[test]
fn bodies_that_are_no_request_are_refused() {
    let host = add();
    let deep = "[".repeat(2000);
    let numbers = sum().to_string().replace("1000.0", "1e999");
    let digits = sum().to_string().replace("1000.0", &"9".repeat(400));
    for body in [
        "",
        "{",
        "null",
        "[]",
        "7",
        "\"text\"",
        "{}",
        r#"{"inputs":7}"#,
        r#"{"inputs":[7]}"#,
        r#"{"inputs":[{}]}"#,
        &deep,
        &numbers,
        &digits,
        r#"{"inputs":[{"name":7,"shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#,
    ] {
        check(&host.post("/v2/models/add/infer", body), 400, &[]);
    }
    check(&host.post("/v2/models/add/infer", [b"{\"inputs\":\"\xff\xfe\"}".as_slice(), &[0xff]].concat()), 400, &[]);
    host.infer("add", &sum()).status(200);
}

#[test]
fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
    let host = add();
    check(&host.post("/v2/models/add/infer", vec![b' '; 4097]), 413, &["4.0 KiB", "`add`"]);
    // Nothing was called, so nothing woke.
    assert_eq!(host.status("add")["state"], "Cold");
    let spaces = 4096 - sum().to_string().len();
    host.post("/v2/models/add/infer", sum().to_string() + &" ".repeat(spaces)).status(200);
}

#[test]
fn a_body_that_grows_beyond_the_limit_is_refused() {
    let host = add();
    let mut raw = crate::fixture::Raw::connect(host.data);
    raw.send("POST /v2/models/add/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        raw.send(format!("400\r\n{}\r\n", " ".repeat(1024)));
    }
    let head = raw.head();
    assert_eq!(crate::fixture::raw::status(&head), 413, "{head}");
}

#[test]
fn a_guests_refusal_reaches_the_caller_and_its_failure_does_not() {
    let host = TestHost::builder().function("probe", |manifest| manifest).start();
    let ask = |command: &str| {
        let inputs = json!([
            { "name": "command", "shape": [1], "datatype": "BYTES", "data": [command] },
            { "name": "x", "shape": [1], "datatype": "FP32", "data": [1] },
        ]);
        host.infer("probe", &json!({ "inputs": inputs }))
    };
    check(&ask("invalid"), 400, &["command", "asked to refuse"]);
    check(&ask("nonsense"), 400, &["command", "nonsense"]);
    for command in ["fail", "trap", "bad-output", "no-output"] {
        let reply = ask(command);
        check(&reply, 500, &["`probe` failed to answer"]);
        for word in ["asked", "wasm", "unreachable", "trap", "signature", "panic"] {
            assert!(!reply.text().contains(word), "`{word}` in {}", reply.text());
        }
    }
    ask("pass").status(200);
    let log = host.stage().log();
    assert!(log.contains("asked to fail"), "the operator is told: {log}");
}
