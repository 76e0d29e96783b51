//! TF Serving over REST, and version 1 of KServe: what they answer, and how they refuse. Nothing that a caller sends gets a 5xx.

use crate::fixture::{Reply, TestHost};
use http::Method;
use serde_json::{Value, json};

const ROWS: &str = r#"{"instances":[{"x":[1,2,3,4],"y":[0.5,0,-1,1000]}]}"#;

fn add() -> TestHost {
    TestHost::builder().function("add", |manifest| manifest.set("limits.body", "1MiB")).start()
}

#[track_caller]
fn refused(reply: &Reply, status: u16, words: &[&str]) {
    assert_eq!(reply.status, status, "{}", reply.text());
    let error = reply.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
}

#[test]
fn a_model_tells_its_status_and_signature_without_waking() {
    let host = add();
    let ok = json!({ "error_code": "OK", "error_message": "" });
    let status = json!({
        "name": "add", "ready": true,
        "model_version_status": [{ "version": "1", "state": "AVAILABLE", "status": ok }],
    });
    for path in ["", "/versions/1", "/versions/0.1.0", "/labels/0.1.0"] {
        assert_eq!(host.get(&format!("/v1/models/add{path}")).status(200).json(), status, "{path}");
        let metadata = host.get(&format!("/v1/models/add{path}/metadata")).status(200).json();
        assert_eq!(metadata["model_spec"], json!({ "name": "add", "signature_name": "", "version": "1" }));
        let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
        let dim = |size: &str| json!({ "size": size, "name": "" });
        let shape = json!({ "dim": [dim("-1"), dim("4")], "unknown_rank": false });
        assert_eq!(signature["outputs"]["z"], json!({ "name": "z", "dtype": "DT_FLOAT", "tensor_shape": shape }));
    }
    let models = host.get("/v1/models").status(200).json();
    assert_eq!(models, json!({ "object": "list", "data": [], "models": ["add"] }));
    assert_eq!(host.status("add")["state"], "Cold");
}

#[test]
fn rows_and_columns_are_answered_in_their_form() {
    let host = add();
    for path in ["/v1/models/add:predict", "/v1/models/add/versions/1:predict", "/v1/models/add/labels/0.1.0:predict"] {
        let reply = host.post(path, ROWS).status(200);
        assert_eq!(reply.json(), json!({ "predictions": [[1.5, 2.0, 2.0, 1004.0]] }));
        assert_eq!(reply.header("content-type"), "application/json");
        assert!(reply.header("server-timing").contains("run;dur="));
    }
    let columns =
        r#"{"signature_name":"serving_default","inputs":{"x":[[1,2,3,4],[0,0,0,0]],"y":[[1,1,1,1],[2,2,2,2]]}}"#;
    let expected = json!({ "outputs": [[2.0, 3.0, 4.0, 5.0], [2.0, 2.0, 2.0, 2.0]] });
    assert_eq!(host.post("/v1/models/add:predict", columns).status(200).json(), expected);
}

#[test]
fn one_input_and_many_outputs() {
    let host = TestHost::builder().function("filetype", |manifest| manifest).start();
    // A picture's first bytes are no text.
    let body = r#"{"instances":[{"b64":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"},"import os\nprint(os.name)\n\ndef main():\n    return 1\n"]}"#;
    let predictions = host.post("/v1/models/filetype:predict", body).status(200).json();
    let rows = predictions["predictions"].as_array().expect("rows");
    assert_eq!((rows.len(), &rows[0]["mime_type"]), (2, &json!("image/png")));
    assert!(rows.iter().all(|row| row["score"].is_number() && row["label"].is_string()), "{predictions}");
    let by_columns = host.post("/v1/models/filetype:predict", body.replace("instances", "inputs")).status(200).json();
    assert_eq!(by_columns["outputs"]["mime_type"][0], "image/png");
    assert_eq!(by_columns["outputs"]["label"][1], rows[1]["label"]);

    let examples = r#"{"examples":[{"content":{"b64":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"}}]}"#;
    let classes = host.post("/v1/models/filetype:classify", examples).status(200).json();
    assert_eq!(classes["results"][0][0], json!([rows[0]["label"], rows[0]["score"]]));
    refused(&host.post("/v1/models/filetype:regress", examples), 400, &["does not regress"]);
}

#[test]
fn every_type_there_and_back() {
    let host = TestHost::builder().function("types", |manifest| manifest).start();
    let row = json!({
        "bool": true, "uint8": 255, "uint16": 65535, "uint32": 4294967295_u32, "uint64": u64::MAX,
        "int8": -128, "int16": -2, "int32": i32::MIN, "int64": i64::MIN,
        "fp16": 1.5, "bf16": -2.0, "fp32": 0.1, "fp64": 1e300, "bytes": { "b64": "/wA=" },
    });
    let body = json!({ "instances": [row, row] });
    let answer = host.post("/v1/models/types:predict", body.to_string()).status(200).json();
    let predictions = answer["predictions"].as_array().expect("rows");
    assert_eq!(predictions.len(), 2);
    for (name, value) in row.as_object().expect("an object") {
        let given = &predictions[1][format!("{name}_out")];
        assert!(!given.is_null(), "{name}: {value} and {answer}");
    }
}

#[test]
fn what_is_wrong_is_named_and_the_next_is_served() {
    let host = add();
    let check = |body: &str, words: &[&str]| refused(&host.post("/v1/models/add:predict", body), 400, words);
    check("", &["JSON"]);
    check("[]", &["`instances`"]);
    check("{}", &["neither `instances` nor `inputs`"]);
    check(r#"{"instances":[],"inputs":{}}"#, &["both"]);
    check(r#"{"instances":[[1,2,3,4]]}"#, &["`x`, `y`"]);
    check(r#"{"instances":[{"x":[1,2,3,4]}]}"#, &["row 0", "no `y`"]);
    check(r#"{"inputs":{"x":[[1,2,3,4]]}}"#, &["`y` is missing", "FP32"]);
    check(r#"{"inputs":{"x":[[1,2,3,4]],"x":[[1,2,3,4]]}}"#, &["`x` is given twice"]);
    check(r#"{"inputs":{"q":[[1,2,3,4]]}}"#, &["`q`", "`x`, `y`"]);
    check(&ROWS.replace('4', "NaN"), &["expected value"]);
    check(&ROWS.replace("3,4", "3"), &["`x`", "[-1, 4]", "[1, 3]"]);
    check(&ROWS.replace('4', "[4]"), &["`x`", "element 3", "array"]);
    check(&ROWS.replace('4', "1e39"), &["`x`", "1e39", "FP32"]);
    check(&ROWS.replace('4', "true"), &["`x`", "true", "FP32"]);
    check(r#"{"inputs":{"x":[[1,2,3,4],[1]],"y":[[1,2,3,4]]}}"#, &["`x`", "row of dimension 1"]);
    check(r#"{"instances":[{"x":[1,2,3,4],"y":[1,2,3,4]}],"signature_name":"other"}"#, &["`other`", "serving_default"]);
    check(&format!(r#"{{"inputs":{{"x":{}{}}}}}"#, "[".repeat(200_000), "]".repeat(200_000)), &["`x`", "nest"]);
    check(&format!(r#"{{"instances":{}"#, "[".repeat(200_000)), &["JSON"]);
    host.post("/v1/models/add:predict", ROWS).status(200);
    let host = TestHost::builder().function("add", |manifest| manifest.set("limits.body", "4KiB")).start();
    refused(&host.post("/v1/models/add:predict", vec![b' '; 4097]), 413, &["4.0 KiB", "`add`"]);
    host.post("/v1/models/add:predict", ROWS).status(200);
}

#[test]
fn what_is_not_there_is_not_found() {
    let host = add();
    for path in ["/v1/models/other", "/v1/models/other/metadata"] {
        refused(&host.get(path), 404, &["no model `other`"]);
    }
    refused(&host.get("/v1/models/add/versions/7"), 404, &["`add`", "version `7`"]);
    refused(&host.get("/v1/models/add/labels/stable"), 404, &["`add`", "`stable`"]);
    refused(&host.post("/v1/models/other:predict", ROWS), 404, &["no model `other`"]);
    refused(&host.post("/v1/models/add/versions/7:predict", ROWS), 404, &["version `7`"]);
    refused(&host.post("/v1/models/add:explain", ROWS), 404, &["no explanations"]);
    refused(&host.post("/v1/models/add:guess", ROWS), 400, &["`add:guess`", ":predict"]);
    refused(&host.post("/v1/models/add", ROWS), 400, &["`add`", ":predict"]);
    refused(&host.call(Method::DELETE, "/v1/models/add", ""), 405, &["GET, HEAD, POST"]);
    refused(&host.post("/v1/models", ""), 405, &["GET"]);
}

#[test]
fn the_page_lists_the_protocols_and_a_functions_own_path_comes_first() {
    let own = |manifest: crate::fixture::Manifest| manifest.set("trigger.http.path", "/v1/models/*");
    let host = TestHost::builder().function("add", |manifest| manifest).function("probe", own).start();
    let page = host.get("/").status(200).text();
    assert!(page.contains("TensorFlow Serving, REST: /v1/models") && page.contains("OpenAI: "), "{page}");
    assert_eq!(
        host.post("/v1/models/echo", "what the probe gives back").status(200).text(),
        "what the probe gives back"
    );
    let value: Value = host.get("/ping").status(200).json();
    assert_eq!(value, json!({ "status": "Healthy" }));
}

#[test]
fn classes_have_the_labels_of_the_bundle() {
    if crate::fixture::skipped_without_openvino() {
        return;
    }
    let openvino = |manifest: crate::fixture::Manifest| manifest.set("model.model.backend", "openvino");
    let host = TestHost::builder().function("species", openvino).start();
    let examples = r#"{"examples":[{"lengths":[5.1,3.5,1.4,0.2]},{"lengths":[6.7,3.0,5.2,2.3]}]}"#;
    let results = host.post("/v1/models/species:classify", examples).status(200).json();
    let results = results["results"].as_array().expect("examples");
    assert_eq!((results.len(), &results[0][0][0], &results[1][2][0]), (2, &json!("setosa"), &json!("virginica")));
}
